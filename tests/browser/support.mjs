// Servers, browsers and people of the browser tests.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';

const require = createRequire(`${process.env.MODULES}/`);
const { chromium } = require('playwright-core');
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

export const PASSWORD = 'correct horse battery 9';

/** How long a test waits for what must come. */
const TIMEOUT_MS = 15_000;

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // A name that is not localhost, for which a browser sends less.
  '--host-resolver-rules=MAP console.test 127.0.0.1',
];

/** What is undone at the end of a file, the last first. */
const undo = [];
after(async () => {
  for (const step of undo.reverse()) await step();
});

// ---- Servers ----

/** A server of this checkout with a database of its own. */
export class Server {
  /** Starts one; `files` are its tenant migrations by name, beside the built-in ones if there are none. */
  static async start({ env = {}, files, host = '127.0.0.1' } = {}) {
    const folder = mkdtempSync(join(tmpdir(), 'rowhouse-browser-'));
    // Started by root, the embedded server runs as an unprivileged user, which must be able to enter the folder.
    chmodSync(folder, 0o755);
    const server = new Server();
    Object.assign(server, { folder, host, port: 0, env: { ...env }, data: join(folder, 'data') });
    if (files) {
      server.migrations = mkdtempSync(join(folder, 'migrations-'));
      server.env.ROWHOUSE_TENANT_MIGRATIONS = server.migrations;
      for (const [name, text] of Object.entries(files)) server.addMigration(name, text);
    }
    undo.push(async () => {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    });
    await server.run();
    server.rootToken = readFileSync(join(server.data, 'root-token'), 'utf8').trim();
    server.admin = {
      email: 'admin@rowhouse.localhost',
      password: readFileSync(join(server.data, 'admin-password'), 'utf8').trim(),
    };
    return server;
  }

  addMigration(name, text) {
    writeFileSync(join(this.migrations, name), text);
  }

  /** Runs the program, on the port that it had before if there was one. */
  async run() {
    const env = { ...process.env, ROWHOUSE_LISTEN: `${this.host}:${this.port}`, ROWHOUSE_DATA_DIR: this.data, ...this.env };
    delete env.DATABASE_URL;
    delete env.ROWHOUSE_DATABASE__URL;
    this.process = spawn(process.env.ROWHOUSE, ['serve'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.log = '';
    this.process.stderr.on('data', (text) => (this.log += text));
    this.ended = new Promise((done) => this.process.on('exit', done));
    let out = '';
    const listening = new Promise((done) => {
      this.process.stdout.on('data', (text) => {
        out += text;
        const found = /^listening on (http:\S+)/m.exec(out);
        if (found) done(found[1]);
      });
    });
    const died = this.ended.then(() => assert.fail(`the server did not start:\n${this.log}`));
    this.url = await Promise.race([listening, died]);
    died.catch(() => {});
    this.port = new URL(this.url).port;
  }

  async stop(signal = 'SIGTERM') {
    this.process.kill(signal);
    await this.ended;
  }

  /** Restarts it, so that it reads its migrations again. */
  async restart(signal) {
    await this.stop(signal);
    await this.run();
  }

  /** Runs SQL as the owner of everything. */
  sql(text) {
    const socket = join(this.data, 'socket');
    const args = ['-h', socket, '-p', '5432', '-U', 'rowhouse', '-v', 'ON_ERROR_STOP=1', '-Atqc', text, 'rowhouse'];
    return execFileSync('psql', args, { encoding: 'utf8' }).trim();
  }

  /** Calls the API, as root unless a token is given, and returns the status and the body. */
  async api(method, path, body, token = this.rootToken, headers = {}) {
    const answer = await fetch(this.url + path, {
      method,
      headers: { Authorization: `Bearer ${token}`, ...(body && { 'Content-Type': 'application/json' }), ...headers },
      body: body && JSON.stringify(body),
    });
    const text = await answer.text();
    return { status: answer.status, body: text && JSON.parse(text) };
  }

  /** Makes a tenant with an admin, `admin@SLUG.example.com`. */
  async tenant(slug, name = slug) {
    const admin = { email: `admin@${slug}.example.com`, password: PASSWORD, first_name: 'Ada', last_name: 'Admin' };
    const made = await this.api('POST', '/control/v1/tenants', { name, slug, admin });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    return made.body.tenant ?? made.body;
  }
}

// ---- Browsers ----

let launched;

/** The browser of this file. */
export async function browser() {
  if (!launched) {
    launched = chromium.launch({ executablePath: process.env.BROWSER, args: FLAGS });
    undo.push(async () => (await launched).close());
  }
  return launched;
}

/** What pages did that none may do: errors on the console, reports of the policy, requests to another origin. */
export const misdeeds = [];

/** Opens a window on a server. `options` are those of playwright's contexts. */
export async function open(server, options = {}) {
  const context = await (await browser()).newContext({
    baseURL: server.url,
    viewport: { width: 1280, height: 900 },
    locale: 'en-GB',
    timezoneId: 'UTC',
    reducedMotion: 'reduce',
    ...options,
  });
  context.setDefaultTimeout(TIMEOUT_MS);
  await context.exposeBinding('reportViolation', (_, text) => misdeeds.push(`policy: ${text}`)).catch(() => {});
  if (options.javaScriptEnabled !== false) {
    await context.addInitScript(() => {
      addEventListener('securitypolicyviolation', (event) =>
        globalThis.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile} on ${location.pathname}`));
    });
  }
  const page = await context.newPage();
  watch(page, server);
  context.on('page', (other) => watch(other, server));
  return page;
}

function watch(page, server) {
  const expected = () => page.expectedErrors ?? [];
  page.on('console', (message) => {
    const text = message.text();
    if (message.type() === 'error' && !expected().some((pattern) => pattern.test(text))) {
      misdeeds.push(`console: ${text} (${page.url()})`);
    }
  });
  page.on('pageerror', (error) => misdeeds.push(`error: ${error.message} (${page.url()})`));
  page.on('request', (request) => {
    const { origin, protocol } = new URL(request.url());
    if (origin !== (page.context().origin ?? server.url) && !['data:', 'blob:', 'about:'].includes(protocol)) misdeeds.push(`request: ${request.url()}`);
  });
}

/** Says which errors of the browser are meant to be there: a status of 400 or more is one for it. */
export const expectErrors = (page, ...patterns) => (page.expectedErrors = patterns);
export const STATUS = /Failed to load resource: the server responded with a status of/;
export const AWAY = /Failed to load resource: net::ERR_/;

/** Fails if a page did what none may do. Called at the end of each file. */
export function assertNoMisdeeds() {
  assert.deepEqual(misdeeds, []);
}

/** Signs in by the page, as a person does. */
export async function signIn(page, { email, password }) {
  await page.goto('/console/login');
  await page.getByLabel('E-mail').fill(email);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await page.getByRole('button', { name: 'Sign out' }).waitFor();
}

// ---- The keyboard ----

/** Presses Tab, or Shift and Tab, until an element has the focus. */
export async function tabTo(page, target) {
  for (let presses = 0; presses < 200; presses += 1) {
    const way = await target.evaluate((element) => {
      const { activeElement, body } = document;
      if (element === activeElement) return '';
      const isBefore = activeElement !== body && element.compareDocumentPosition(activeElement) & Node.DOCUMENT_POSITION_FOLLOWING;
      return isBefore ? 'Shift+Tab' : 'Tab';
    });
    if (!way) return;
    await page.keyboard.press(way);
  }
  assert.fail(`no Tab leads to ${target}`);
}

/** Presses a button, follows a link or opens details by the keyboard alone. */
export async function press(page, target) {
  await tabTo(page, target);
  await page.keyboard.press('Enter');
}

/** Writes into a field by the keyboard alone, in place of what is there. */
export async function write(page, target, text) {
  await tabTo(page, target);
  await page.keyboard.press('Control+A');
  await page.keyboard.type(text);
}

/** Chooses a radio button by the keyboard alone: Tab leads to the chosen one of its group, and arrows lead on. */
export async function choose(page, target) {
  const name = await target.getAttribute('name');
  await tabTo(page, page.locator(`input[type="radio"][name="${name}"]:checked`));
  for (let presses = 0; presses < 10; presses += 1) {
    if (await target.isChecked()) return;
    await page.keyboard.press('ArrowDown');
  }
  assert.fail(`no arrow leads to ${target}`);
}

/** Signs in by the keyboard alone. */
export async function signInByKeys(page, { email, password }) {
  await page.goto('/console/login');
  await write(page, page.getByLabel('E-mail'), email);
  await write(page, page.getByLabel('Password', { exact: true }), password);
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Sign out' }).waitFor();
}

export const adminOf = (slug) => ({ email: `admin@${slug}.example.com`, password: PASSWORD });

/** Waits until a condition holds. */
export async function until(what, condition, timeout = TIMEOUT_MS) {
  const end = Date.now() + timeout;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) assert.fail(`waited in vain until ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** Returns what axe finds to be serious or critical on a page; `only` some of its rules, or all. */
export async function axe(page, only) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate((rules) =>
    globalThis.axe.run(document, {
      resultTypes: ['violations'],
      rules: { 'target-size': { enabled: true } },
      ...(rules && { runOnly: { type: 'rule', values: rules } }),
    }), only);
  return violations
    .filter(({ impact }) => ['serious', 'critical'].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 160)).join(' | ')}`);
}

/** Fails if a page is wider than its window. */
export async function assertNoSidewaysScrolling(page, what) {
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= window, `${what}: ${content} px in a window of ${window}`);
}
