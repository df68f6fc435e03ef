// A round trip by the client that openapi-generator made for fetch.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { Configuration, ControlApi, ResponseError, TenantStatus } from "./index";

async function main() {
  const api = new ControlApi(
    new Configuration({ basePath: process.env.URL, accessToken: process.env.ROOT_TOKEN }),
  );
  const externalId = `pr-${randomUUID()}`;
  const slug = `t-${randomUUID().slice(0, 8)}`;
  const ensuredTenantBody = { name: "Round trip", slug };
  const made = await api.ensureTenantRaw({ externalId, ensuredTenantBody });
  assert.equal(made.raw.status, 201);
  const again = await api.ensureTenantRaw({ externalId, ensuredTenantBody });
  assert.equal(again.raw.status, 200);
  assert.equal((await again.value()).id, (await made.value()).id);

  const suspended = await api.suspendTenant({ tenant: slug, ifMatch: "*" });
  assert.equal(suspended.status, TenantStatus.Suspended);
  const listed = await api.listTenants({ status: TenantStatus.Suspended, slug });
  assert.deepEqual(listed.data.map((tenant) => tenant.slug), [slug]);

  await assert.rejects(
    api.getTenant({ tenant: "nothing-here" }),
    (error) => error instanceof ResponseError && error.response.status === 404,
  );
  console.log("openapi-generator, typescript-fetch: a round trip is done");
}

main();
