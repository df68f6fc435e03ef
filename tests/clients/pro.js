// Exercises the vendor's JavaScript client, loaded from the folder given as the argument.
'use strict';

const assert = require('node:assert/strict');
const { resolve } = require('node:path');
const { DatabunkerproAPI } = require(resolve(process.argv[2]));

const { URL: url, ROOT_TOKEN: rootToken } = process.env;
const ADA = 'ada@example.com';

function ok(answer) {
  assert.equal(answer?.status, 'ok', JSON.stringify(answer));
  return answer;
}

function refused(answer, words) {
  assert.equal(answer?.status, 'error', JSON.stringify(answer));
  assert.match(answer.message, words);
}

async function makeTenant(root, tenantname) {
  const made = ok(await root.createTenant({ tenantname, tenantorg: 'x', email: ADA }));
  return [made.tenantid, new DatabunkerproAPI(url, made.xtoken, tenantname)];
}

async function main() {
  const root = new DatabunkerproAPI(url, rootToken);
  const [number, acme] = await makeTenant(root, 'jsacme');
  const [, beta] = await makeTenant(root, 'jsbeta');
  refused(await root.createTenant({ tenantname: 'jsacme', tenantorg: 'x' }), /Duplicate/);
  assert.equal(ok(await root.getTenant(String(number))).tenantname, 'jsacme');
  ok(await root.updateTenant(number, { tenantorg: 'y' }));
  assert.ok(ok(await root.listTenants(0, 100)).rows.some((row) => row.tenantid === number));

  const profile = { email: ADA, login: 'ada', name: 'Adä 🏠', n: 1.5 };
  const { token } = ok(await acme.createUser(profile, { slidingtime: '30d' }, { reason: 'a test' }));
  assert.deepEqual(ok(await acme.getUser('token', token)).profile, profile);
  // A tenant's token works without the tenant's name and is refused with another tenant's.
  ok(await new DatabunkerproAPI(url, acme.xBunkerToken).getUser('email', ADA));
  refused(await new DatabunkerproAPI(url, acme.xBunkerToken, 'jsbeta').getUser('email', ADA), /Access denied/);
  ok(await acme.updateUser('email', ADA, { n: null }));
  ok(await acme.patchUser('email', ADA, [{ op: 'add', path: '/x', value: [] }]));
  assert.equal(ok(await acme.listUserVersions('email', ADA)).versions.length, 3);
  assert.deepEqual(ok(await acme.getUser('email', ADA, 1)).profile, profile);
  const bulk = ok(await beta.createUsersBulk([{ profile }, { profile }], { finaltime: '1y' }));
  assert.deepEqual([bulk.created.length, bulk.errors.length], [1, 1]);
  const own = ok(await acme.createUserXToken('email', ADA));
  refused(await new DatabunkerproAPI(url, own.xtoken).updateUser('email', ADA, { n: 1 }), /Access denied/);
  const events = ok(await acme.listUserAuditEvents('email', ADA));
  ok(await acme.getAuditEvent(events.rows[0].auditeventuuid));

  const theirs = ok(await acme.bulkListUnlock()).unlockuuid;
  assert.equal(ok(await acme.bulkListAllUsers(theirs)).total, 1);
  assert.equal(ok(await acme.searchUser('ada@', theirs)).rows.length, 1);
  const unlock = ok(await root.bulkListUnlock()).unlockuuid;
  assert.equal(ok(await root.getUserProfiles('email', ADA, unlock)).total, 2);
  assert.equal(ok(await root.searchUserProfiles('ada', unlock)).rows.length, 2);
  assert.equal(ok(await root.deleteUserProfiles('email', ADA, unlock, 'jsacme')).total, 1);
  assert.equal(ok(await root.restoreUserProfile(token, unlock, number)).token, token);
  ok(await acme.deleteUsersBulk([{ mode: 'login', identity: 'ada' }]));
  ok(await root.getSystemStats());
  ok(await root.deleteTenant(number));
  refused(await acme.getUser('email', ADA), /Access denied/);
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
