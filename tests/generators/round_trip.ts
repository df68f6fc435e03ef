// A round trip by openapi-fetch, with the types that openapi-typescript made.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, paths } from "./control.d.ts";

const client = createClient<paths>({
  baseUrl: process.env.URL,
  headers: { Authorization: `Bearer ${process.env.ROOT_TOKEN}` },
});

const externalId = `pr-${randomUUID()}`;
const slug = `t-${randomUUID().slice(0, 8)}`;

async function ensure() {
  return await client.PUT("/control/v1/tenants/by-external-id/{external_id}", {
    params: { path: { external_id: externalId } },
    body: { name: "Round trip", slug, settings: { plan: "pro" } },
  });
}

const made = await ensure();
assert.equal(made.response.status, 201, JSON.stringify(made.error));
const again = await ensure();
assert.equal(again.response.status, 200, JSON.stringify(again.error));
assert.equal(again.data?.id, made.data?.id);

const suspended = await client.POST("/control/v1/tenants/{tenant}/suspend", {
  params: { path: { tenant: slug }, header: { "If-Match": "*" } },
});
const status: components["schemas"]["TenantStatus"] | undefined = suspended.data?.status;
assert.equal(status, "suspended");

const listed = await client.GET("/control/v1/tenants", { params: { query: { status: "suspended", slug } } });
assert.deepEqual(listed.data?.data.map((tenant) => tenant.slug), [slug]);

const unknown = await client.GET("/control/v1/tenants/{tenant}", { params: { path: { tenant: "nothing-here" } } });
assert.equal(unknown.response.status, 404);
assert.equal(unknown.error?.code, "tenant_not_found");
console.log("openapi-fetch: a round trip is done");
