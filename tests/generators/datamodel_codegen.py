"""A round trip whose bodies are the models that datamodel-codegen made."""

import json
import os
import urllib.error
import urllib.request
import uuid

from models import ControlTenant, EnsuredTenantBody, ProblemBody, TenantList, TenantStatus


def call(method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(os.environ["URL"] + path, method=method, data=body.encode() if body else None)
    request.add_header("Authorization", f"Bearer {os.environ['ROOT_TOKEN']}")
    request.add_header("Content-Type", "application/json")
    request.add_header("If-Match", "*")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


slug = f"t-{uuid.uuid4().hex[:8]}"
path = f"/control/v1/tenants/by-external-id/pr-{uuid.uuid4()}"
body = EnsuredTenantBody(name="Round trip", slug=slug).model_dump_json(exclude_none=True)
assert set(json.loads(body)) == {"name", "slug"}, body

status, text = call("PUT", path, body)
made = ControlTenant.model_validate_json(text)
assert status == 201 and made.status is TenantStatus.active, text
status, text = call("PUT", path, body)
assert status == 200 and ControlTenant.model_validate_json(text).id == made.id, text

status, text = call("POST", f"/control/v1/tenants/{slug}/suspend")
assert ControlTenant.model_validate_json(text).status is TenantStatus.suspended, text
status, text = call("GET", f"/control/v1/tenants?status=suspended&slug={slug}")
assert [tenant.slug for tenant in TenantList.model_validate_json(text).data] == [slug], text

status, text = call("GET", "/control/v1/tenants/nothing-here")
assert status == 404 and ProblemBody.model_validate_json(text).code == "tenant_not_found", text
print("datamodel-codegen: a round trip is done")
