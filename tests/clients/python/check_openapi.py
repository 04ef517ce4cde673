"""Validates an OpenAPI document, and answers against it.

    check_openapi.py DOCUMENT ANSWERS

ANSWERS is a JSON list of [schema's name, answer].
"""

import json
import sys

from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

with open(sys.argv[1]) as file:
    document = json.load(file)
validate(document)
with open(sys.argv[2]) as file:
    answers = json.load(file)
for name, answer in answers:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    errors = [error.message for error in OAS31Validator(schema).iter_errors(answer)]
    if errors:
        sys.exit(f"{name}: {answer}: {errors}")
print(f"{len(document['paths'])} paths, {len(answers)} answers")
