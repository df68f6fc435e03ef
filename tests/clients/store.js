// Exercises the published v1 client. It sends no tenant header: a tenant's token implies its tenant, and the
// root token takes the tenant from the host name.
'use strict';

const assert = require('node:assert/strict');
const dns = require('node:dns');
const Store = require('@databunker/store');

const { URL: url, ROOT_TOKEN: rootToken } = process.env;

// Some resolvers do not resolve *.localhost to this machine.
const { lookup } = dns;
dns.lookup = (name, options, done) =>
  lookup(name.endsWith('.localhost') ? '127.0.0.1' : name, options, done);

async function v1(method, path, token, body) {
  const headers = { 'X-Bunker-Token': token };
  return (await fetch(`${url}/v1/${path}`, { method, headers, body: JSON.stringify(body) })).json();
}

async function main() {
  const made = await v1('POST', 'tenant', rootToken, { name: 'jsstore', org: 'x' });
  assert.equal(made.status, 'ok', made);
  const { users } = new Store({ url: `${url}/`, token: made.xtoken });
  const profile = { email: 'ada@example.com', login: 'ada', name: 'Adä', tags: [1, null] };
  const created = await users.create(profile);
  assert.equal(created.status, 'ok', created);
  const read = await users.get('email', 'ada@example.com');
  assert.deepEqual(read, { status: 'ok', token: created.token, data: profile });
  const changed = await users.set('login', 'ada', { name: 'Ada', tags: null });
  assert.deepEqual(changed, { status: 'ok', token: created.token });
  const again = await users.get('token', created.token);
  assert.deepEqual(again.data, { email: 'ada@example.com', login: 'ada', name: 'Ada' });
  assert.match((await users.create(profile)).message, /duplicate index: email/i);
  assert.equal((await users.get('email', 'unknown@example.com')).status, 'error');
  assert.equal((await users.set('login', 'ada', {})).status, 'error');

  // The root token, with the tenant's host name and without any.
  const byHost = new Store({ url: url.replace('127.0.0.1', 'jsstore.localhost'), token: rootToken });
  assert.equal((await byHost.users.get('login', 'ada')).token, created.token);
  const withoutTenant = new Store({ url, token: rootToken });
  assert.equal((await withoutTenant.users.get('login', 'ada')).status, 'error');
  const invalid = new Store({ url, token: 'DEMO' });
  assert.deepEqual(await invalid.users.get('login', 'ada'), { status: 'error', message: 'Access denied' });

  const gone = await v1('DELETE', 'user/login/ada', made.xtoken);
  assert.deepEqual(gone, { status: 'ok', result: 'done' });
  const renamed = await v1('PUT', 'tenant', made.xtoken, { name: 'jsstore2' });
  assert.deepEqual(renamed, { status: 'ok' });
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
