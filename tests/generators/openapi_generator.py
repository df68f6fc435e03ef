"""A round trip by the client that openapi-generator made for Python."""

import os
import uuid

import rowhouse_client
from rowhouse_client.models.ensured_tenant_body import EnsuredTenantBody
from rowhouse_client.models.tenant_status import TenantStatus

configuration = rowhouse_client.Configuration(host=os.environ["URL"], access_token=os.environ["ROOT_TOKEN"])
slug = f"t-{uuid.uuid4().hex[:8]}"
external_id = f"pr-{uuid.uuid4()}"
with rowhouse_client.ApiClient(configuration) as client:
    api = rowhouse_client.ControlApi(client)
    body = EnsuredTenantBody(name="Round trip", slug=slug)
    made = api.ensure_tenant_with_http_info(external_id, body)
    assert made.status_code == 201, made
    again = api.ensure_tenant_with_http_info(external_id, body)
    assert again.status_code == 200 and again.data.id == made.data.id, again

    suspended = api.suspend_tenant(tenant=slug, if_match="*")
    assert suspended.status == TenantStatus.SUSPENDED, suspended
    listed = api.list_tenants(status=TenantStatus.SUSPENDED, slug=slug)
    assert [tenant.slug for tenant in listed.data] == [slug], listed
    try:
        api.get_tenant("nothing-here")
        raise AssertionError("there is no such tenant")
    except rowhouse_client.exceptions.NotFoundException as error:
        assert error.data is not None and error.data.code == "tenant_not_found", error
print("openapi-generator, python: a round trip is done")
