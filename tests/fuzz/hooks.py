"""Gives some cases of `make fuzz` the values that generated ones never match.

An unlock is valid for a minute and cannot be guessed, and no stored person has a generated identity: all bulk
calls would end in 403, and all calls about a person in 404. Therefore a part of the cases gets a valid
unlock, an existing person, or no tenant but the credential's own. Only a value that has the right form is
replaced, so that an invalid case stays invalid.
"""

import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
import uuid

import schemathesis

PERSON = "ada@example.com"

# An unlock lives for 60 seconds.
UNLOCK_SECONDS = 30

_lock = threading.Lock()
_unlock = {"value": None, "until": 0.0}


def _call(name, body):
    request = urllib.request.Request(
        f"{os.environ['URL']}/v2/{name}",
        json.dumps(body).encode(),
        {"X-Bunker-Token": os.environ["ROOT_TOKEN"], "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        # The person exists already.
        if error.code == 409:
            return {}
        raise


def _fresh_unlock():
    with _lock:
        if time.monotonic() > _unlock["until"]:
            _unlock["value"] = _call("BulkListUnlock", {})["unlockuuid"]
            _unlock["until"] = time.monotonic() + UNLOCK_SECONDS
        return _unlock["value"]


def _is_uuid(value):
    try:
        return isinstance(value, str) and bool(uuid.UUID(value))
    except ValueError:
        return False


def _names_a_person(value):
    return (
        isinstance(value, dict)
        and value.get("mode") in ("login", "email", "phone", "custom")
        and isinstance(value.get("identity"), str)
    )


@schemathesis.hook
def before_call(context, case, kwargs):
    # A valid wait is as good as a short one, and takes up to 20 seconds.
    wait = (case.query or {}).get("wait")
    if case.operation.path == "/control/v1/events" and str(wait).isdigit() and 0 < int(wait) <= 20:
        case.query["wait"] = 0
    if not case.operation.path.startswith(("/v1/", "/v2/")):
        return
    chance = random.Random(case.id)
    if case.headers and chance.random() < 0.8:
        for name in list(case.headers):
            if name.lower() == "x-bunker-tenant":
                del case.headers[name]
    body = case.body
    if not isinstance(body, dict):
        return
    if _is_uuid(body.get("unlockuuid")) and chance.random() < 0.8:
        body["unlockuuid"] = _fresh_unlock()
    users = body.get("users")
    for named in [body, *(users if isinstance(users, list) else [])]:
        if _names_a_person(named) and chance.random() < 0.5:
            named.update(mode="email", identity=PERSON)
            _call("UserCreate", {"profile": {"email": PERSON, "name": "Ada"}})
