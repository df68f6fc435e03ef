"""A round trip by the client that openapi-python-client made."""

import os
import uuid

from rowhouse_client import AuthenticatedClient
from rowhouse_client.api.control import ensure_tenant, get_tenant, list_tenants, suspend_tenant
from rowhouse_client.models import ControlTenant, EnsuredTenantBody, ProblemBody, TenantList, TenantStatus

client = AuthenticatedClient(base_url=os.environ["URL"], token=os.environ["ROOT_TOKEN"])
external_id = f"pr-{uuid.uuid4()}"
slug = f"t-{uuid.uuid4().hex[:8]}"
body = EnsuredTenantBody(name="Round trip", slug=slug)

made = ensure_tenant.sync_detailed(external_id, client=client, body=body)
assert made.status_code == 201 and isinstance(made.parsed, ControlTenant), made
again = ensure_tenant.sync_detailed(external_id, client=client, body=body)
assert again.status_code == 200 and isinstance(again.parsed, ControlTenant), again
assert again.parsed.id == made.parsed.id

suspended = suspend_tenant.sync(slug, client=client, if_match="*")
assert isinstance(suspended, ControlTenant) and suspended.status is TenantStatus.SUSPENDED, suspended

listed = list_tenants.sync(client=client, status=TenantStatus.SUSPENDED, slug=slug)
assert isinstance(listed, TenantList) and [tenant.slug for tenant in listed.data] == [slug], listed

unknown = get_tenant.sync_detailed("nothing-here", client=client)
assert unknown.status_code == 404 and isinstance(unknown.parsed, ProblemBody), unknown
print("openapi-python-client: a round trip is done")
