// What an operator and the admin of a tenant do: tenants, members, tokens, bad forms, two windows, the keyboard.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';

import {
  PASSWORD, STATUS, Server, assertNoMisdeeds, choose, expectErrors, open, press, signIn, signInByKeys, until, write,
} from './support.mjs';

let server;
let page;

before(async () => {
  server = await Server.start({ env: { ROWHOUSE_TENANTS__VACANCIES: '4' } });
  page = await open(server);
  expectErrors(page, STATUS);
});

const button = (name, on = page) => on.getByRole('button', { name, exact: true });
const status = (on = page) => on.locator('[data-status]').first().getAttribute('data-status');
const errors = (on = page) => on.locator('#errors');
const tenant = async (slug) => (await server.api('GET', `/control/v1/tenants/${slug}`)).body;
const count = async (q) => (await server.api('GET', `/control/v1/tenants?q=${q}`)).body.data.length;

test('by the keyboard alone: from the printed address to a tenant that is active, and its admin sees it and no other', async () => {
  await page.goto('/');
  assert.match(new URL(page.url()).pathname, /^\/console\/login$/);
  await signInByKeys(page, server.admin);
  await server.tenant('globex');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to the content');
  await press(page, page.getByRole('link', { name: 'Tenants', exact: true }).first());
  await press(page, page.getByRole('link', { name: 'New tenant' }));
  await write(page, page.getByLabel('Name', { exact: true }), 'Acme Corp');
  assert.equal(await page.getByLabel('Slug').inputValue(), 'acme-corp');
  await choose(page, page.getByLabel('a new person'));
  await write(page, page.getByLabel('E-mail of the admin'), 'ada@acme.example.com');
  const person = page.locator('details', { hasText: 'For a new person' });
  if (!(await person.evaluate((details) => details.open))) await press(page, person.locator('summary'));
  await write(page, page.getByLabel('First name'), 'Ada');
  await write(page, page.getByLabel('Last name'), 'Admin');
  await write(page, page.getByLabel('Password of the admin'), PASSWORD);
  await page.keyboard.press('Enter');
  await page.waitForURL('**/console/tenants/acme-corp');
  assert.equal(await status(), 'active');
  await page.keyboard.press('/');
  await page.keyboard.type('globex');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/console/tenants?q=globex');
  const other = await open(server);
  await signInByKeys(other, { email: 'ada@acme.example.com', password: PASSWORD });
  await other.goto('/console/tenants');
  assert.deepEqual(await other.locator('tbody th').allTextContents(), ['Acme Corp']);
  expectErrors(other, STATUS);
  assert.equal((await other.goto('/console/tenants/globex')).status(), 404);
  await other.context().close();
});

test('a tenant is suspended, resumed, deleted, restored and purged, and the API says the same', async () => {
  const { id } = await server.tenant('hooli', 'Hooli');
  // What the tenant's own API answers, of which only an active tenant has any.
  const own = async () => (await server.api('GET', '/api/user/tenant-users', undefined, undefined, { 'x-tenant-id': id })).status;
  const move = async (verb, slug) => {
    await page.goto('/console/tenants/hooli');
    await button(verb).click();
    await page.getByRole('heading', { name: new RegExp(`^${verb}`) }).waitFor();
    if (slug !== undefined) await page.getByLabel('Slug', { exact: true }).fill(slug);
    await button(verb).click();
  };
  const is = async (wanted) => {
    await page.goto('/console/tenants/hooli');
    assert.equal(await status(), wanted);
    assert.equal((await tenant('hooli')).status, wanted);
    assert.equal(await own(), wanted === 'active' ? 200 : 404);
  };
  await is('active');
  await move('Suspend');
  await is('suspended');
  await move('Resume');
  await is('active');
  await move('Delete', 'hoolie');
  await errors().waitFor();
  await is('active');
  await move('Delete', 'hooli');
  await is('deleting');
  await move('Restore');
  await is('active');
  await move('Delete', 'hooli');
  await move('Purge', 'hooli');
  await page.waitForURL((url) => !url.pathname.endsWith('/purge'));
  assert.equal((await server.api('GET', '/control/v1/tenants/hooli')).status, 404);
  assert.equal(await own(), 404);
});

test('a token is shown once, works, is nowhere afterwards, and is revoked', async () => {
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.goto('/console/tokens/new');
  await page.getByLabel('Name', { exact: true }).fill('ci');
  await page.getByLabel('VIEW_TENANTS').check();
  await button('Create token').click();
  const field = page.getByLabel('Token', { exact: true });
  await field.waitFor();
  const secret = await field.inputValue();
  await button('Copy').click();
  await button('Copied').waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), secret);
  const use = () => server.api('GET', '/control/v1/tenants', undefined, secret);
  assert.equal((await use()).status, 200);
  await page.reload();
  const kept = await page.evaluate(() =>
    document.documentElement.outerHTML + JSON.stringify([history.state, { ...localStorage }, { ...sessionStorage }, document.cookie]));
  assert.ok(!kept.includes(secret), 'the secret is still there');
  await page.goBack();
  await page.getByRole('heading', { name: 'New token' }).waitFor();
  assert.ok(!(await until('the page is there', () => page.content().catch(() => null))).includes(secret), 'the secret is in the history');
  await page.goto('/console/tokens?q=ci');
  await button('Revoke').click();
  await button('Revoke').click();
  await page.waitForURL('**/console/tokens*');
  assert.equal((await use()).status, 401);
});

test('a member is added and changed, and the last admin stays', async () => {
  await page.goto('/console/tenants/acme-corp/members');
  await page.getByLabel('E-mail', { exact: true }).fill('bob@acme.example.com');
  await page.locator('details', { hasText: 'A person without an account' }).locator('summary').click();
  await page.getByLabel('First name').fill('Bob');
  await page.getByLabel('Last name').fill('Builder');
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await button('Add member').click();
  const row = (email) => page.getByRole('row', { name: new RegExp(email) });
  await row('bob@').waitFor();
  await row('bob@').getByLabel(/^Role of/).selectOption('FDE');
  await row('bob@').getByRole('button', { name: 'Change role' }).click();
  await until('the role is changed', async () => (await row('bob@').getByLabel(/^Role of/).inputValue()) === 'FDE');
  const remove = row('ada@').getByRole('button', { name: 'Remove' });
  assert.equal(await remove.isDisabled(), true);
  await row('ada@').getByText('The last admin stays.').waitFor();
  await row('bob@').getByRole('button', { name: 'Remove' }).click();
  await button('Remove').click();
  await row('bob@').waitFor({ state: 'detached' });
});

test('a bad form names each field, keeps what was typed and not the password', async () => {
  await page.goto('/console/tenants/new');
  await page.getByLabel('Name', { exact: true }).fill('Bad');
  await page.getByLabel('Slug').fill('NOT A SLUG');
  await page.getByLabel('Settings').fill('{"a": ');
  await page.getByLabel('a new person').check();
  await page.getByLabel('E-mail of the admin').fill('no address');
  const person = page.locator('details', { hasText: 'For a new person' });
  if (!(await person.evaluate((details) => details.open))) await person.locator('summary').click();
  await page.getByLabel('Password of the admin').fill(PASSWORD);
  await button('Create tenant').click();
  await errors().waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'errors');
  for (const id of ['slug', 'settings', 'admin_email', 'first_name']) {
    const field = page.locator(`#${id}`);
    assert.equal(await field.getAttribute('aria-invalid'), 'true', id);
    const described = (await field.getAttribute('aria-describedby')).split(' ')[0];
    assert.ok((await page.locator(`#${described}`).textContent()).length > 3, id);
    assert.equal(await errors().locator(`a[href="#${id}"]`).count(), 1, id);
  }
  assert.equal(await page.getByLabel('Slug').inputValue(), 'NOT A SLUG');
  assert.equal((await page.getByLabel('Settings').inputValue()).trim(), '{"a":');
  assert.equal(await page.getByLabel('Password of the admin').inputValue(), '');
  assert.equal(await count('Bad'), 0);
});

test('of two people who edit one tenant the second sees both values and loses nothing', async () => {
  const other = await open(server);
  expectErrors(other, STATUS);
  await signIn(other, server.admin);
  await page.goto('/console/tenants/globex');
  await other.goto('/console/tenants/globex');
  const name = (on) => on.getByLabel('Name', { exact: true });
  await name(page).fill('Globex One');
  await button('Save').click();
  await until('the first has saved', async () => (await tenant('globex')).name === 'Globex One');
  await name(other).fill('Globex Two');
  await button('Save', other).click();
  await other.getByText('has changed meanwhile').waitFor();
  const diff = await other.locator('.diff').textContent();
  assert.ok(diff.includes('Globex One') && diff.includes('Globex Two'), diff);
  assert.equal(await name(other).inputValue(), 'Globex Two');
  assert.equal((await tenant('globex')).name, 'Globex One');
  await button('Save', other).click();
  await until('the second has saved', async () => (await tenant('globex')).name === 'Globex Two');
  await other.context().close();
});

test('a double click makes one tenant, and going back does not repeat it', async () => {
  await page.goto('/console/tenants/new');
  await page.getByLabel('Name', { exact: true }).fill('Once Only');
  await button('Create tenant').dblclick();
  await page.waitForURL('**/console/tenants/once-only');
  await page.goBack();
  await page.getByRole('heading', { name: 'New tenant' }).waitFor();
  await page.waitForLoadState('networkidle');
  await page.goForward();
  await page.getByRole('heading', { name: 'Once Only' }).waitFor();
  assert.equal(await count('once-only'), 1);
});

test('without JavaScript a tenant is created and suspended', async () => {
  const other = await open(server, { javaScriptEnabled: false });
  await signIn(other, server.admin);
  await other.goto('/console/tenants/new');
  await other.getByLabel('Name', { exact: true }).fill('Plain');
  await other.getByLabel('Slug').fill('plain');
  await button('Create tenant', other).click();
  await other.waitForURL('**/console/tenants/plain');
  await button('Suspend', other).click();
  await button('Suspend', other).click();
  await other.waitForURL('**/console/tenants/plain');
  assert.equal((await tenant('plain')).status, 'suspended');
  await other.context().close();
});

test('names full of markup are text', async () => {
  const name = '<img src=x onerror=alert(1)> "\' \u202egnp.exe';
  await server.tenant('markup', name);
  for (const path of ['/console/tenants?q=markup', '/console/tenants/markup', '/console/tenants/markup/delete', '/console/tenants/markup/members']) {
    await page.goto(path);
    assert.equal(await page.locator('main img').count(), 0, path);
    assert.ok((await page.locator('main').textContent()).includes('<img src=x onerror=alert(1)>'), path);
  }
});

test('an audit trail is filtered by tenant and action, and verified', async () => {
  await page.goto('/console/audit');
  await page.getByLabel('Actor', { exact: true }).fill(server.admin.email);
  await page.getByLabel('Action', { exact: true }).fill('tenant.suspend');
  await page.getByLabel('Tenant', { exact: true }).fill('plain');
  await button('Filter').click();
  await page.waitForURL(/action=tenant\.suspend/);
  const rows = await page.locator('tbody tr').allTextContents();
  assert.ok(rows.length === 1 && rows[0].includes('tenant.suspend'), JSON.stringify(rows));
  const other = await page.context().newPage();
  await other.goto(page.url());
  assert.equal((await other.locator('tbody tr').allTextContents()).length, 1);
  await other.close();
  await page.goto('/console/audit');
  await button('Verify').click();
  await page.getByText(/intact/i).first().waitFor();
  server.sql("UPDATE audit_events SET details = '{}' WHERE action = 'tenant.suspend' AND position IS NOT NULL");
  await page.goto('/console/audit');
  await button('Verify').click();
  await page.getByText(/The event at position \d+ of \d+/).waitFor();
});

test('an invited person accepts by the link, whose secret does not stay in the address', async () => {
  await page.goto('/console/tenants/acme-corp/members');
  await page.getByLabel('E-mail', { exact: true }).fill('carl@acme.example.com');
  await button('Invite instead').click();
  const link = await page.getByLabel('Link', { exact: true }).inputValue();
  const other = await open(server);
  await other.goto(link);
  const token = other.getByLabel('Token of the invitation');
  await until('the token is filled in', async () => (await token.inputValue()) !== '');
  assert.equal(new URL(other.url()).hash, '');
  await other.getByLabel('First name').fill('Carl');
  await other.getByLabel('Last name').fill('Clerk');
  await other.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await button('Accept', other).click();
  await other.waitForURL((url) => !url.pathname.endsWith('/invitation'));
  const { body } = await server.api('GET', '/control/v1/tenants/acme-corp/members');
  assert.ok(body.data.some(({ email }) => email === 'carl@acme.example.com'), JSON.stringify(body));
  await other.context().close();
});

test('plain http on another name than localhost works where the cookie need not be secure, and else is explained', async () => {
  const other = await open(server, { baseURL: `http://console.test:${server.port}` });
  other.context().origin = `http://console.test:${server.port}`;
  // Without https the browser ignores that header, and says so as an error.
  expectErrors(other, /Cross-Origin-Opener-Policy/);
  await signIn(other, server.admin);
  await other.goto('/console/tenants/globex');
  await other.getByLabel('Name', { exact: true }).fill('Globex Three');
  await button('Save', other).click();
  await until('it is saved', async () => (await tenant('globex')).name === 'Globex Three');
  await other.getByRole('button', { name: 'Sign out' }).click();
  await other.getByLabel('E-mail').waitFor();
  server.env.ROWHOUSE_AUTH__COOKIE_SECURE = 'true';
  await server.restart();
  expectErrors(other, STATUS, /Cross-Origin-Opener-Policy/);
  await other.goto('/console/login');
  await other.getByLabel('E-mail').fill(server.admin.email);
  await other.getByLabel('Password', { exact: true }).fill(server.admin.password);
  await button('Sign in', other).click();
  await other.getByText('auth.cookie_secure').waitFor();
  await other.context().close();
});

test('no page broke the policy, asked another origin or logged an error', assertNoMisdeeds);
