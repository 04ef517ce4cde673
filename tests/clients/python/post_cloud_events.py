"""Posts usage as CloudEvents with the CNCF's SDK, in all three modes.

    post_cloud_events.py URL TENANT METER
"""

import json
import sys

import requests
from cloudevents.conversion import to_dict
from cloudevents.http import CloudEvent, to_binary, to_structured

url, tenant, meter = sys.argv[1:4]


def event(number, amount):
    attributes = {
        "type": f"com.example.usage.{meter}",
        "source": "https://shop.example/api",
        "id": f"event-{number}",
        "subject": tenant,
    }
    return CloudEvent(attributes, {"amount": amount, "properties": {"region": "eu"}})


def post(headers, body):
    answer = requests.post(url, headers=headers, data=body, timeout=30)
    print(answer.status_code, json.dumps(answer.json()))


post(*to_structured(event(1, 5)))
post(*to_binary(event(2, 7)))
# Sent again: the same event, which counts once.
post(*to_binary(event(2, 7)))
batch = [to_dict(event(3, 11)), to_dict(event(4, 13))]
kind = {"content-type": "application/cloudevents-batch+json"}
post(kind, json.dumps(batch))
# All or nothing.
batch = [to_dict(event(5, 100)), {**to_dict(event(6, 100)), "subject": ""}]
post(kind, json.dumps(batch))
