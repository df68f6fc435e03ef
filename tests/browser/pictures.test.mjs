// The pictures of the book and of the README: `SCREENSHOTS=1 tests/browser/run pictures.test.mjs`. They take some minutes,
// because the charts show what a server has done; `pngquant --quality 70-95` makes them a third. Without SCREENSHOTS none are made.

import { mkdirSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Server, open, signIn, until } from './support.mjs';

const FOLDER = fileURLToPath(new URL('../../docs/images/', import.meta.url));
const FILES = {
  'V1__create_notes.sql': 'CREATE TABLE notes (id uuid NOT NULL CONSTRAINT notes_pkey PRIMARY KEY, body text NOT NULL);\n',
};
const LABELS = 'SELECT pg_sleep(0.1);\nCREATE TABLE labels (id uuid NOT NULL CONSTRAINT labels_pkey PRIMARY KEY);\n';
const NAMES = ['Acme', 'Globex', 'Initech', 'Hooli', 'Umbrella', 'Soylent', 'Stark', 'Wayne', 'Wonka', 'Cyberdyne', 'Tyrell', 'Aperture'];
const KINDS = ['Corp', 'Industries', 'Labs', 'Foods', 'Logistics', 'Energy', 'Systems', 'Partners'];
/** How long the server works before its charts are shown. */
const MINUTES = Number(process.env.SCREENSHOT_MINUTES ?? 9);

test('pictures of the console', { skip: !process.env.SCREENSHOTS }, async () => {
  mkdirSync(FOLDER, { recursive: true });
  const server = await Server.start({ files: FILES, env: { ROWHOUSE_TENANTS__VACANCIES: '8', ROWHOUSE_FLEET__WORKERS: '3' } });
  const slugs = [];
  for (const name of NAMES) {
    for (const kind of KINDS) {
      const slug = `${name}-${kind}`.toLowerCase();
      const body = { name: `${name} ${kind}`, slug, external_id: `crm-${4000 + slugs.length * 7}` };
      await server.api('POST', '/control/v1/tenants', body);
      slugs.push(slug);
    }
  }
  await server.tenant('northwind', 'Northwind Traders');
  for (const slug of ['hooli-labs', 'wonka-foods', 'stark-energy']) {
    await server.api('POST', `/control/v1/tenants/${slug}/suspend`, undefined, undefined, { 'If-Match': '*' });
  }
  await server.api('DELETE', '/control/v1/tenants/cyberdyne-systems', undefined, undefined, { 'If-Match': '*' });
  const { body: broken } = await server.api('GET', '/control/v1/tenants/initech-labs');
  server.sql(`CREATE TABLE tenant_${broken.id.replaceAll('-', '')}.labels (id integer)`);
  server.addMigration('V2__create_labels.sql', LABELS);
  await server.restart();
  await server.api('POST', '/control/v1/examinations', {});
  const end = Date.now() + MINUTES * 60_000;
  for (let round = 0; Date.now() < end; round += 1) {
    const busy = 6 + 5 * Math.sin(round / 40) + Math.random() * 4;
    for (let number = 0; number < busy; number += 1) {
      await server.api('GET', `/control/v1/tenants/${slugs[(round * 7 + number) % slugs.length]}${number === 5 ? 'x' : ''}`);
    }
    if (round % 60 === 59) await server.api('POST', '/control/v1/tenants', { name: `Trial ${round}`, slug: `trial-${round}` });
    await new Promise((done) => setTimeout(done, 300));
  }
  for (const [way, colorScheme] of [['light', 'light'], ['dark', 'dark']]) {
    const page = await open(server, { colorScheme, viewport: { width: 1180, height: 760 } });
    const take = (name) => page.screenshot({ path: `${FOLDER}console-${name}.png` });
    await signIn(page, server.admin);
    if (way === 'dark') {
      await page.goto('/console');
      await page.waitForTimeout(500);
      await take('overview-dark');
      await page.context().close();
      continue;
    }
    await page.goto('/console');
    await page.waitForTimeout(500);
    await take('overview');
    await page.goto('/console/tenants/northwind');
    await take('tenant');
    await page.goto('/console/migrations');
    await page.getByRole('button', { name: 'Start the migration' }).click();
    const live = page.locator('#live');
    await until('it has done a part', async () =>
      Number(await live.getAttribute('data-done')) > 40 && Number(await live.getAttribute('data-failed')) > 0, 60_000);
    await take('migration');
    await until('it is over', async () => (await live.getAttribute('data-state')) === 'failed', 120_000);
    await page.goto('/console/health');
    await take('health');
    await page.context().close();
  }
});
