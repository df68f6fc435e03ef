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
    env: { ROWHOUSE_TENANTS__VACANCIES: '3', ROWHOUSE_TENANTS__PURGE_INTERVAL: '1h', ROWHOUSE_FLEET__WORKERS: '2' },
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
  const { body: token } = await server.api('POST', '/control/v1/tokens', { name: 'ci', permissions: ['CREATE_TENANT', 'VIEW_TENANTS'] });
  const invitation = { email: 'ina@acme.example.com', role: 'FDE' };
  assert.equal((await server.api('POST', '/control/v1/tenants/acme/invitations', invitation)).status, 201);
  const { body: members } = await server.api('GET', '/control/v1/tenants/acme/members');
  const member = `/console/tenants/acme/members/${members.data[0].user_id}`;
  const { body: events } = await server.api('GET', '/control/v1/audit-events?limit=1');
  // As a server leaves it that stops in the middle of a purge.
  assert.ok((await server.api('DELETE', '/control/v1/tenants/customer-6', undefined, undefined, { 'If-Match': '*' })).status < 300);
  server.sql("UPDATE tenants SET purge_started_at = now() WHERE slug = 'customer-6'");
  pages = {
    overview: '/console',
    tenants: '/console/tenants',
    'tenants-none': '/console/tenants?q=nothing-like-it',
    'tenants-bad': '/console/tenants?created_after=yesterday',
    'tenants-behind': '/console/tenants?status=suspended',
    migrations: '/console/migrations',
    migration,
    'migration-failed': `${migration}?state=failed`,
    vacancies: '/console/vacancies',
    health: '/console/health',
    check: `/console/health/${checked.body.id}`,
    server: '/console/server',
    missing: '/console/nowhere',
    tenant: '/console/tenants/acme',
    members: '/console/tenants/acme/members',
    settings: '/console/tenants/acme/settings',
    schema: '/console/tenants/customer-20/schema',
    suspend: '/console/tenants/acme/suspend',
    resume: '/console/tenants/acme/resume',
    delete: '/console/tenants/acme/delete',
    restore: '/console/tenants/customer-5/restore',
    purge: '/console/tenants/customer-5/purge',
    purging: '/console/tenants/customer-6',
    'member-remove': `${member}/remove`,
    'member-password': `${member}/password`,
    new: '/console/tenants/new',
    tokens: '/console/tokens',
    'token-new': '/console/tokens/new',
    'token-revoke': `/console/tokens/${token.id}/revoke`,
    audit: '/console/audit',
    event: `/console/audit/${events.data[0].id}`,
    account: '/console/account',
  };
});

// Colours and widths change nothing of the document: what depends on them is looked at again, and the rest once.
const COLOURS = ['color-contrast', 'link-in-text-block'];
const WAYS = {
  light: { options: { colorScheme: 'light' } },
  dark: { options: { colorScheme: 'dark' }, only: COLOURS },
  narrow: { options: { colorScheme: 'light', viewport: { width: 320, height: 800 } }, only: [...COLOURS, 'target-size', 'scrollable-region-focusable'] },
  phone: { options: { colorScheme: 'light', viewport: { width: 390, height: 844 } }, only: COLOURS },
  'phone-dark': { options: { colorScheme: 'dark', viewport: { width: 390, height: 844 } }, only: COLOURS },
  forced: { options: { forcedColors: 'active' }, only: [] },
  print: { options: {}, only: [], media: 'print' },
};
/** Those that are only for pictures. */
const LOOKS = ['phone', 'phone-dark', 'forced', 'print'];

for (const [way, { options, only, media }] of Object.entries(WAYS)) {
  test(`no page keeps people out: ${way}`, { skip: LOOKS.includes(way) && !PICTURES }, async () => {
    const page = await open(server, options);
    expectErrors(page, STATUS);
    const found = [];
    const look = async (name) => {
      if (only?.length !== 0) found.push(...(await axe(page, only)).map((violation) => `${name}: ${violation}`));
      if (!media) await assertNoSidewaysScrolling(page, name);
      if (!PICTURES) return;
      mkdirSync(PICTURES, { recursive: true });
      await page.screenshot({ path: join(PICTURES, `${way}-${name}.png`), fullPage: true });
    };
    await page.goto('/console/login');
    await look('login');
    await page.getByRole('button', { name: 'Sign in', exact: true }).click();
    await look('login-bad');
    await signIn(page, server.admin);
    if (media) await page.emulateMedia({ media });
    for (const [name, path] of Object.entries(pages)) {
      await page.goto(path);
      await look(name);
    }
    if (way === 'print') return page.context().close();
    await page.goto('/console/migrations');
    await page.getByLabel('These', { exact: true }).check();
    await page.getByLabel('Slugs or ids').first().fill('acme, nowhere');
    await page.getByRole('button', { name: 'Start the migration' }).click();
    await page.locator('#errors').waitFor();
    await look('migrations-bad');
    await lookAtAnswers(page, look);
    await page.context().close();
    const admin = await open(server, options);
    expectErrors(admin, STATUS);
    await signIn(admin, adminOf('globex'));
    found.push(...(await axe(admin, only?.length === 0 ? COLOURS : only)).map((violation) => `own tenants: ${violation}`));
    await assertNoSidewaysScrolling(admin, 'own tenants');
    await admin.context().close();
    assert.deepEqual(found, way === 'forced' ? found : []);
  });
}

/** Looks at the pages that answer a form. */
async function lookAtAnswers(page, look) {
  const button = (name) => page.getByRole('button', { name, exact: true });
  await page.goto('/console/tenants/new');
  await page.getByLabel('Slug').fill('NOT A SLUG');
  await page.getByLabel('a new person').check();
  await button('Create tenant').click();
  await page.locator('#errors').waitFor();
  await look('new-bad');
  await page.goto('/console/tokens/new');
  await page.getByLabel('VIEW_TENANTS').check();
  await page.getByLabel('Name', { exact: true }).fill('shown');
  await button('Create token').click();
  await page.getByLabel('Token', { exact: true }).waitFor();
  await look('token-shown');
  await page.goto('/console/tenants/acme/settings');
  await page.locator('#settings').fill(`{"plan": "gold", "at": ${Date.now()}}`);
  await button('Show the change').click();
  await button('Change settings').waitFor();
  await look('settings-patch');
  await page.goto('/console/tenants/globex');
  const name = page.getByLabel('Name', { exact: true });
  await name.fill('Globex, typed meanwhile');
  await server.api('PATCH', '/control/v1/tenants/globex', { settings: { at: Date.now() } }, undefined, { 'If-Match': '*', 'Content-Type': 'application/merge-patch+json' });
  await button('Save').click();
  await page.getByText('has changed meanwhile').waitFor();
  await look('tenant-changed');
  await page.goto('/console/tenants/acme/delete');
  await page.getByLabel('Slug', { exact: true }).fill('acne');
  await button('Delete').click();
  await page.locator('#errors').waitFor();
  await look('delete-bad');
  await page.goto('/console/tenants/acme/members');
  await button('Add member').click();
  await page.locator('#errors').waitFor();
  await look('members-bad');
  await page.getByLabel('E-mail', { exact: true }).fill(`i${Date.now()}@acme.example.com`);
  await button('Invite instead').click();
  await page.getByLabel('Link', { exact: true }).waitFor();
  await look('invitation-shown');
  await page.goto('/console/migrations');
  await button('Rehearse').click();
  await page.locator('[data-rehearsal]').waitFor();
  await look('rehearsal');
  await page.goto('/console/audit');
  await button('Verify').click();
  await page.getByText(/intact/i).first().waitFor();
  await look('verified');
  await page.goto('/console/invitation#x');
  await look('invitation');
}

test('print shows the content alone, and forced colours keep the marks of states', async () => {
  const page = await open(server);
  await signIn(page, server.admin);
  await page.goto('/console/tenants');
  await page.emulateMedia({ media: 'print' });
  for (const selector of ['header.top', 'nav.side', 'footer.api', 'form.filters']) {
    assert.equal(await page.locator(selector).isVisible(), false, selector);
  }
  assert.equal(await page.locator('table').first().isVisible(), true);
  await page.emulateMedia({ media: 'screen', forcedColors: 'active' });
  const mark = await page.locator('.badge').first().evaluate((badge) => {
    const { borderTopWidth, borderTopStyle } = getComputedStyle(badge, '::before');
    return [borderTopWidth !== '0px', borderTopStyle];
  });
  assert.deepEqual(mark, [true, 'solid']);
  await page.context().close();
});

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
    await page.goto(path);
    // The events of the last bytes come a moment after the page.
    await until('all is there', () => requests.every(({ bytes, url }) => bytes > 0 || /fragment=|icon\.svg$/.test(url)));
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

test('a migration that waits is cancelled by its button, and goes on nowhere', async () => {
  const page = await open(server);
  await signIn(page, server.admin);
  await page.goto('/console/migrations');
  const behind = Number(await page.locator('[data-behind]').getAttribute('data-behind'));
  await page.getByLabel('Some tenants first, the oldest').check();
  await page.getByLabel('How many').fill('1');
  await page.getByRole('button', { name: 'Start the migration' }).click();
  const live = page.locator('#live');
  await until('the canary is done', async () => (await live.getAttribute('data-state').catch(() => null)) === 'paused');
  await page.getByRole('button', { name: 'Cancel', exact: true }).click();
  await until('it is cancelled', async () => (await live.getAttribute('data-state')) === 'cancelled');
  assert.equal(await live.getAttribute('data-done'), '1');
  for (const verb of ['Pause', 'Resume', 'Cancel', 'Retry']) {
    assert.equal(await page.getByRole('button', { name: verb, exact: true }).isDisabled(), true, verb);
  }
  await page.getByText('Tenants that are migrated stay so.').first().waitFor();
  await page.goto('/console/migrations');
  assert.equal(await page.locator('[data-behind]').getAttribute('data-behind'), String(behind - 1));
  await page.context().close();
});

test('no page broke the policy, asked another origin or logged an error', assertNoMisdeeds);
