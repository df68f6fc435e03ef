// Every page: what axe says of it in light, dark and at 320 px, what it weighs, and how it is without JavaScript.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';

import {
  STATUS, Server, adminOf, assertNoMisdeeds, assertNoSidewaysScrolling, axe, expectErrors, open, signIn, until,
} from './support.mjs';

const FIRST = 'CREATE TABLE notes (id uuid NOT NULL CONSTRAINT notes_pkey PRIMARY KEY, body text NOT NULL);\n';
const SECOND = 'CREATE TABLE labels (id uuid NOT NULL CONSTRAINT labels_pkey PRIMARY KEY);\nCREATE INDEX notes_body_idx ON notes (body);\n';
const THIRD = 'ALTER TABLE notes ADD COLUMN made timestamptz;\n';

/** Where pictures of all pages go, to be looked at; none are made without it. */
const PICTURES = process.env.PICTURES;

let server;
/** The pages, by a name for the pictures. */
let pages;

before(async () => {
  server = await Server.start({
    files: { 'V1__create_notes.sql': FIRST },
    env: { ROWHOUSE_TENANTS__VACANCIES: '3', ROWHOUSE_FLEET__WORKERS: '2' },
  });
  for (const [slug, name] of [['acme', 'Acme Corp'], ['globex', 'Globex'], ['initech', 'Initech & Söhne']]) await server.tenant(slug, name);
  for (let number = 1; number <= 60; number += 1) {
    const name = number === 7 ? '<script>alert(1)</script> "quoted"' : `Customer ${number}`;
    const made = await server.api('POST', '/control/v1/tenants', { name, slug: `customer-${number}` });
    assert.equal(made.status, 201, JSON.stringify(made.body));
  }
  for (const slug of ['customer-3', 'customer-9']) {
    const path = `/control/v1/tenants/${slug}`;
    assert.equal((await server.api('POST', `${path}/suspend`, undefined, undefined, { 'If-Match': '*' })).status, 200);
  }
  assert.ok((await server.api('DELETE', '/control/v1/tenants/customer-5', undefined, undefined, { 'If-Match': '*' })).status < 300);
  const { body: broken } = await server.api('GET', '/control/v1/tenants/customer-20');
  server.sql(`CREATE TABLE tenant_${broken.id.replaceAll('-', '')}.labels (id integer)`);
  server.addMigration('V2__create_labels.sql', SECOND);
  await server.restart();
  const started = await server.api('POST', '/control/v1/migrations', {});
  assert.equal(started.status, 202, JSON.stringify(started.body));
  const migration = `/console/migrations/${started.body.id}`;
  await until('the migration is over', async () =>
    (await server.api('GET', `/control/v1/migrations/${started.body.id}`)).body.state === 'failed', 60_000);
  server.addMigration('V3__add_made.sql', THIRD);
  await server.restart();
  const checked = await server.api('POST', '/control/v1/examinations', {});
  assert.equal(checked.status, 202);
  await until('the check is over', async () =>
    (await server.api('GET', `/control/v1/examinations/${checked.body.id}`)).body.state === 'done');
  await server.api('POST', '/control/v1/tokens', { name: 'ci', permissions: ['CREATE_TENANT', 'VIEW_TENANTS'] });
  pages = {
    overview: '/console',
    tenants: '/console/tenants',
    'tenants-none': '/console/tenants?q=nothing-like-it',
    'tenants-bad': '/console/tenants?created_after=yesterday',
    migrations: '/console/migrations',
    migration,
    vacancies: '/console/vacancies',
    health: '/console/health',
    check: `/console/health/${checked.body.id}`,
    server: '/console/server',
    missing: '/console/nowhere',
    tenant: '/console/tenants/acme',
    members: '/console/tenants/acme/members',
    schema: '/console/tenants/customer-20/schema',
    delete: '/console/tenants/acme/delete',
    new: '/console/tenants/new',
    tokens: '/console/tokens',
    audit: '/console/audit',
    account: '/console/account',
  };
});

const WAYS = {
  light: { colorScheme: 'light' },
  dark: { colorScheme: 'dark' },
  narrow: { colorScheme: 'light', viewport: { width: 320, height: 800 } },
  phone: { colorScheme: 'dark', viewport: { width: 390, height: 844 } },
};

for (const [way, options] of Object.entries(WAYS)) {
  test(`no page keeps people out: ${way}`, { skip: way === 'phone' && !PICTURES }, async () => {
    const page = await open(server, options);
    expectErrors(page, STATUS);
    const found = [];
    const look = async (name) => {
      found.push(...(await axe(page)).map((violation) => `${name}: ${violation}`));
      await assertNoSidewaysScrolling(page, name);
      if (!PICTURES) return;
      mkdirSync(PICTURES, { recursive: true });
      await page.screenshot({ path: join(PICTURES, `${way}-${name}.png`), fullPage: true });
    };
    await page.goto('/console/login');
    await look('login');
    await page.getByRole('button', { name: 'Sign in', exact: true }).click();
    await look('login-bad');
    await signIn(page, server.admin);
    for (const [name, path] of Object.entries(pages)) {
      await page.goto(path);
      await look(name);
    }
    await page.goto('/console/migrations');
    await page.getByLabel('These', { exact: true }).check();
    await page.getByLabel('Slugs or ids').first().fill('acme, nowhere');
    await page.getByRole('button', { name: 'Start the migration' }).click();
    await page.locator('#errors').waitFor();
    await look('migrations-bad');
    await page.context().close();
    assert.deepEqual(found, []);
  });
}

test('the first page is light, and the second is its HTML alone', async () => {
  const page = await open(server);
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  let requests = [];
  session.on('Network.requestWillBeSent', ({ requestId, request }) => requests.push({ requestId, url: request.url, bytes: 0 }));
  session.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => {
    const found = requests.find((request) => request.requestId === requestId);
    if (found) found.bytes = encodedDataLength;
  });
  session.on('Network.requestServedFromCache', ({ requestId }) => {
    requests = requests.filter((request) => request.requestId !== requestId);
  });
  const load = async (path) => {
    requests = [];
    await page.goto(path, { waitUntil: 'networkidle' });
    const whole = requests.filter(({ url }) => !url.includes('fragment='));
    return { count: whole.length, bytes: whole.reduce((sum, { bytes }) => sum + bytes, 0), urls: whole.map(({ url }) => new URL(url).pathname) };
  };
  const first = await load('/console/login');
  assert.ok(first.count <= 7 && first.bytes <= 60_000, JSON.stringify(first));
  await signIn(page, server.admin);
  for (const path of Object.values(pages)) {
    if (path.endsWith('nowhere') || path.includes('yesterday')) continue;
    const next = await load(path);
    assert.deepEqual(next.urls.filter((url) => !url.endsWith('icon.svg')), [path.split('?')[0]], JSON.stringify(next));
    assert.ok(next.bytes <= 45_000, `${path}: ${JSON.stringify(next)}`);
  }
  console.log(`first load: ${first.count} requests, ${first.bytes} bytes`);
});

test('without JavaScript a migration is started and followed', async () => {
  const page = await open(server, { javaScriptEnabled: false });
  await signIn(page, server.admin);
  await page.goto('/console/migrations');
  await page.getByLabel('These', { exact: true }).check();
  await page.getByLabel('Slugs or ids').first().fill('acme\nglobex');
  await page.getByRole('button', { name: 'Start the migration' }).click();
  await page.waitForURL(/\/console\/migrations\/[0-9a-f-]{36}$/);
  await until('it is done', async () => {
    await page.reload();
    return (await page.locator('#live').getAttribute('data-state')) === 'done';
  });
  assert.equal(await page.locator('#live').getAttribute('data-done'), '2');
  assert.equal(await page.locator('noscript').count(), 0, 'a page that is over does not load itself again');
});

test('no page broke the policy, asked another origin or logged an error', assertNoMisdeeds);
