// A fleet migration of 50 tenants by the keyboard alone, from the plan to the retry of the one that fails; vacancies; a
// check and a repair.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';

import {
  AWAY, Server, STATUS, assertNoMisdeeds, choose, expectErrors, open, press, signIn, signInByKeys, tabTo, until, write,
} from './support.mjs';

const FIRST = 'CREATE TABLE notes (id uuid NOT NULL CONSTRAINT notes_pkey PRIMARY KEY, body text NOT NULL);\n';
const SLOW = 'SELECT pg_sleep(0.15);\nCREATE TABLE labels (id uuid NOT NULL CONSTRAINT labels_pkey PRIMARY KEY);\n';
const TENANTS = 50;
const BROKEN = 'tenant-33';

let server;
let page;

before(async () => {
  server = await Server.start({
    files: { 'V1__create_notes.sql': FIRST },
    env: {
      ROWHOUSE_TENANTS__VACANCIES: '8',
      ROWHOUSE_FLEET__WORKERS: '2',
      ROWHOUSE_FLEET__LEASE: '3s',
      ROWHOUSE_FLEET__TAKE_UP_INTERVAL: '1s',
      ROWHOUSE_DATABASE__MAX_CONNECTIONS: '40',
    },
  });
  for (let number = 1; number <= TENANTS; number += 1) {
    const made = await server.api('POST', '/control/v1/tenants', { name: `Tenant ${number}`, slug: `tenant-${number}` });
    assert.equal(made.status, 201, JSON.stringify(made.body));
  }
  const { body } = await server.api('GET', `/control/v1/tenants/${BROKEN}`);
  server.broken = `tenant_${body.id.replaceAll('-', '')}`;
  server.sql(`CREATE TABLE ${server.broken}.labels (id integer)`);
  server.addMigration('V2__create_labels.sql', SLOW);
  await server.restart();
  page = await open(server);
  await signInByKeys(page, server.admin);
});

const live = () => page.locator('#live');
const number = async (name) => Number(await live().getAttribute(`data-${name}`));
const state = () => live().getAttribute('data-state');
const link = (name) => page.getByRole('link', { name, exact: true }).first();
const button = (name) => page.getByRole('button', { name, exact: true });

test('by the keyboard alone: the plan shows 50 tenants behind, and the file that they lack', async () => {
  await press(page, link('Migrations'));
  await page.locator('[data-behind="50"]').waitFor();
  await press(page, page.locator('details > summary', { hasText: 'V2__create_labels.sql' }));
  await page.getByText('SELECT pg_sleep(0.15);').waitFor();
});

test('a rehearsal on a vacancy passes, and one on a tenant times each file and leaves nothing', async () => {
  await until('there is a vacancy', async () => {
    const { body } = await server.api('GET', '/control/v1/vacancies');
    return body.ready > 0;
  });
  await page.reload();
  await choose(page, page.getByLabel('A vacancy'));
  await press(page, button('Rehearse'));
  await page.locator('[data-rehearsal="passed"]').waitFor();
  await choose(page, page.getByLabel('The first tenant that is behind'));
  await press(page, button('Rehearse'));
  await page.getByRole('row', { name: /V2__create_labels\.sql applied \d+\.\d ms/ }).waitFor();
  assert.equal(await page.locator('[data-behind="50"]').count(), 1);
});

test('a canary of two tenants is migrated, and the migration pauses', async () => {
  await choose(page, page.getByLabel('Some tenants first, the oldest'));
  await write(page, page.getByLabel('How many'), '2');
  await press(page, button('Start the migration'));
  await page.waitForURL(/\/console\/migrations\/[0-9a-f-]{36}$/);
  await until('the canary is done', async () => (await state()) === 'paused' && (await number('done')) === 2);
  await page.getByText('The canary is done.').waitFor();
});

test('a resumed migration rises without a reload, and the focus stays', async () => {
  await page.evaluate(() => (document.body.mark = 'same page'));
  await press(page, button('Resume'));
  await until('it runs', async () => (await state()) === 'running');
  await tabTo(page, button('Pause'));
  const before = await number('done');
  await until('the count rises', async () => (await number('done')) > before + 4);
  assert.deepEqual(
    await page.evaluate(() => [document.body.mark, document.activeElement.textContent]),
    ['same page', 'Pause'],
  );
});

test('a paused migration stands still, also in a second browser, and the keyboard resumes it', async () => {
  await page.keyboard.press('Enter');
  await until('it is paused', async () => (await state()) === 'paused');
  await until('nothing is in flight', async () => !/in flight\./.test(await live().textContent()));
  const done = await number('done');
  const other = await open(server);
  await signIn(other, server.admin);
  await other.goto(page.url());
  await other.waitForTimeout(2500);
  assert.equal(Number(await other.locator('#live').getAttribute('data-done')), done);
  assert.equal(await number('done'), done);
  await tabTo(page, button('Resume'));
  await page.keyboard.press('Enter');
  await until('it runs in the other browser', async () => (await other.locator('#live').getAttribute('data-state')) === 'running');
  await other.context().close();
});

test('a server that is killed and started again goes on', async () => {
  expectErrors(page, AWAY, STATUS);
  const before = await number('done');
  assert.ok(before < TENANTS - 10, `${before} are done already`);
  await server.stop('SIGKILL');
  await page.locator('.stale').filter({ hasText: 'trying again' }).waitFor();
  await server.run();
  await until('it is over', async () => (await state()) === 'failed', 60_000);
  assert.deepEqual([await number('done'), await number('failed')], [TENANTS - 1, 1]);
  expectErrors(page);
});

test('the failure names the file and the SQLSTATE, and a retry succeeds when it is corrected', async () => {
  const row = page.getByRole('region', { name: /^Failures/ }).getByRole('row', { name: new RegExp(BROKEN) });
  const text = await row.textContent();
  assert.match(text, /V2__create_labels\.sql/);
  assert.match(text, /42P07|already exists/);
  server.sql(`DROP TABLE ${server.broken}.labels`);
  await press(page, button('Retry'));
  await until('it is done', async () => (await state()) === 'done');
  assert.deepEqual([await number('done'), await number('failed')], [TENANTS, 0]);
  assert.equal(await button('Pause').isDisabled(), true);
});

test('vacancies are dropped and filled', async () => {
  await press(page, link('Vacancies'));
  await press(page, button('Drop all'));
  await page.getByRole('status').filter({ hasText: /dropped|nothing to do/ }).first().waitFor();
  await press(page, button('Fill'));
  await page.getByText('8 of 8 ready').first().waitFor();
});

test('a check finds a right that was revoked, a repair grants it, and it is gone', async () => {
  server.sql(`REVOKE SELECT ON ${server.broken}.notes FROM ${server.broken}`);
  await press(page, link('Health'));
  await press(page, button('Check'));
  await until('the check is done', async () => (await state()) === 'done');
  assert.ok((await number('wrong')) >= 1);
  await page.locator('.finding[data-area="rights"]').getByRole('link', { name: BROKEN }).waitFor();
  await press(page, button('Repair'));
  await page.getByRole('heading', { name: 'Repair' }).waitFor();
  await until('the repair is done', async () => (await state()) === 'done');
  assert.equal(await number('wrong'), 0);
  await press(page, link('Health'));
  await press(page, button('Check'));
  await until('the second check is done', async () => (await state()) === 'done');
  assert.equal(await number('wrong'), 0);
  assert.equal(await page.locator('.finding[data-area="rights"]').count(), 0);
});

test('no page broke the policy, asked another origin or logged an error', assertNoMisdeeds);
