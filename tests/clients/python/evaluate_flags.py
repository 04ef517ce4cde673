"""Evaluates flags with OpenFeature's provider for OFREP.

    evaluate_flags.py JOB

JOB is a JSON file: url, token (may be null), tenants, flags. Prints JSON: by tenant, each flag's
boolean value and reason; and what the provider makes of a flag and of a tenant that there is not.
"""

import json
import sys

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

with open(sys.argv[1]) as file:
    job = json.load(file)
token = job["token"]
headers = (lambda: {"authorization": f"Bearer {token}"}) if token else None
api.set_provider(OFREPProvider(job["url"], headers_factory=headers, timeout=30))
client = api.get_client()


def evaluate(flag, tenant, default=False):
    return client.get_boolean_details(flag, default, EvaluationContext(tenant))


def of(tenant):
    evaluated = {flag: evaluate(flag, tenant) for flag in job["flags"]}
    # A value that is a default for an error is none.
    assert all(it.error_code is None for it in evaluated.values()), evaluated
    return {flag: it.value for flag, it in evaluated.items()}


first = job["tenants"][0]
print(
    json.dumps(
        {
            "values": {tenant: of(tenant) for tenant in job["tenants"]},
            "no_flag": evaluate("no_such_flag", first, True).error_code,
            "no_tenant": evaluate(job["flags"][0], "no-such-tenant").error_code,
            "no_key": evaluate(job["flags"][0], None).error_code,
        }
    )
)
