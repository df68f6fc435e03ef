// The script of the console by itself: what it does to a page, without a server.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, test } from 'node:test';

import { browser } from './support.mjs';

const SCRIPT = readFileSync(new URL('../../src/http/console/assets/console.js', import.meta.url), 'utf8');
const ORIGIN = 'http://console.test';

let context;
let page;
/** The answers of the made-up server, by path; a function or [status, headers, body]. */
let answers;

before(async () => {
  context = await (await browser()).newContext({ timezoneId: 'Asia/Tokyo', locale: 'en-GB' });
  page = await context.newPage();
  await context.route('**/*', async (route) => {
    const { pathname } = new URL(route.request().url());
    if (pathname === '/console.js') return route.fulfill({ contentType: 'text/javascript', body: SCRIPT });
    const answer = answers[pathname];
    if (!answer) return route.fulfill({ status: 404, contentType: 'text/html', body: '<p>none</p>' });
    const [status, headers, body] = typeof answer === 'function' ? await answer(route.request()) : answer;
    if (!status) return route.abort();
    return route.fulfill({ status, headers: { 'Content-Type': 'text/html; charset=utf-8', ...headers }, body });
  });
});

const POLICY = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types default",
};
const html = (main, title = 'T') =>
  `<!doctype html><html lang="en"><head><title>${title}</title><script type="module" src="/console.js"></script></head>` +
  `<body><nav></nav><main>${main}</main><p id="status" role="status"></p></body></html>`;
const ok = (main, headers) => [200, { ...POLICY, ...headers }, html(main)];

async function show(main, more = {}) {
  answers = { '/page': ok(main), ...more };
  await page.goto(`${ORIGIN}/page`);
  await page.waitForFunction(() => 'js' in document.documentElement.dataset);
}

/** Makes the main part equal to other HTML by the script. */
const morph = (next) =>
  page.evaluate(async (text) => {
    const { morph, parse } = await import('/console.js');
    morph(document.querySelector('main'), parse(`<main>${text}</main>`).querySelector('main'));
  }, next);

test('a morph keeps the focus, the selection and what was typed', async () => {
  await show('<p id="n">1</p><input id="a" value="x"><button id="b">Pause</button>');
  await page.locator('#a').fill('typed');
  await page.evaluate(() => document.querySelector('#a').setSelectionRange(1, 3));
  await morph('<p class="new">first</p><p id="n">2</p><input id="a" value="y"><button id="b">Resume</button>');
  const state = await page.evaluate(() => {
    const field = document.activeElement;
    return [field.id, field.value, field.selectionStart, field.selectionEnd, document.querySelector('main').innerText];
  });
  assert.deepEqual(state.slice(0, 4), ['a', 'typed', 1, 3]);
  assert.match(state[4], /first\s+2\s+Resume/);
});

test('a morph keeps an element that has moved, and open details', async () => {
  await show('<details id="d"><summary>More</summary><p>1</p></details><ul><li id="x">x</li><li id="y">y</li></ul>');
  await page.locator('summary').click();
  await page.evaluate(() => (document.querySelector('#y').mark = 'same'));
  await morph('<p>new</p><details id="d"><summary>More</summary><p>2</p></details><ul><li id="y">y</li><li id="z">z</li></ul>');
  const state = await page.evaluate(() => [
    document.querySelector('#d').open,
    document.querySelector('#y').mark,
    [...document.querySelectorAll('li')].map((item) => item.id),
    document.querySelector('#d p').textContent,
  ]);
  assert.deepEqual(state, [true, 'same', ['y', 'z'], '2']);
});

test('a morph leaves alone what is equal', async () => {
  await show('<div id="a"><p>same</p><progress value="1" max="3"></progress></div>');
  const changes = await page.evaluate(async () => {
    const { morph, parse } = await import('/console.js');
    const records = [];
    const observer = new MutationObserver((list) => records.push(...list));
    observer.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
    const main = (value) =>
      parse(`<main><div id="a"><p>same</p><progress value="${value}" max="3"></progress></div></main>`).querySelector('main');
    morph(document.querySelector('main'), main(1));
    const before = observer.takeRecords().length;
    morph(document.querySelector('main'), main(2));
    return [before, observer.takeRecords().map((record) => record.attributeName)];
  });
  assert.deepEqual(changes, [0, ['value']]);
});

test('HTML from a string is refused outside of the script', async () => {
  await show('<p id="a">x</p>');
  const thrown = await page.evaluate(() => {
    try {
      document.querySelector('#a').innerHTML = '<img src=x onerror=alert(1)>';
      return 'taken';
    } catch (error) {
      return error.name;
    }
  });
  assert.equal(thrown, 'TypeError');
});

test('an element is fetched again as long as it says so, and a 304 leaves it alone', async () => {
  let count = 0;
  const known = [];
  const live = () => {
    count += 1;
    const poll = count < 4 ? 'data-poll="0.5s"' : '';
    return ok(`<div id="live" ${poll}><b>${count}</b></div>`, { ETag: `"${count}"` });
  };
  await show('<div id="live" data-poll="0.5s"><b>0</b></div>', {
    '/page': (request) => {
      const headers = request.headers();
      if (!request.url().endsWith('?fragment=live')) return ok('<div id="live" data-poll="0.5s"><b>0</b></div>');
      known.push(headers['if-none-match']);
      return headers['if-none-match'] === '"2"' && known.length === 3 ? [304, {}, ''] : live();
    },
  });
  await page.waitForFunction(() => document.querySelector('#live b').textContent === '4');
  await page.waitForTimeout(1200);
  assert.deepEqual(known, [undefined, '"1"', '"2"', '"2"', '"3"']);
});

test('a page that cannot be updated says so, and stops saying it', async () => {
  let away = true;
  await show('', {
    '/page': (request) => {
      if (away && request.url().endsWith('?fragment=live')) return [0];
      return ok('<div id="live" data-poll="0.5s"><b>1</b></div>');
    },
  });
  await page.locator('.stale').filter({ hasText: /^Not updated since \d\d:\d\d:\d\d, trying again$/ }).waitFor();
  away = false;
  await page.locator('.stale').waitFor({ state: 'detached' });
});

test('a screen reader is told what has changed, and not each update', async () => {
  const states = ['running, 10 percent', 'running, 10 percent', 'running, 20 percent', 'done'];
  let at = 0;
  const live = (state, count, poll) => ok(`<div id="live" ${poll}><p data-announce>${state}</p><b>${count}</b></div>`);
  await show('', {
    '/page': (request) => {
      if (!request.url().includes('fragment')) return live(states[0], 0, 'data-poll="0.5s"');
      at += 1;
      return live(states[at], at, at < 3 ? 'data-poll="0.5s"' : '');
    },
  });
  await page.evaluate(() => {
    globalThis.told = [];
    new MutationObserver(() => globalThis.told.push(document.querySelector('#status').textContent)).observe(
      document.querySelector('#status'), { childList: true });
  });
  await page.waitForFunction(() => document.querySelector('#live b').textContent === '3');
  assert.deepEqual(await page.evaluate(() => globalThis.told), ['running, 20 percent', 'done']);
});

test('times are local, with UTC as their title', async () => {
  await show('<time datetime="2024-02-03T20:30:00Z">2024-02-03 20:30 UTC</time>');
  const time = page.locator('time');
  assert.match(await time.textContent(), /4 Feb 2024.* 05:30:00/);
  assert.equal(await time.getAttribute('title'), '2024-02-03 20:30:00 UTC');
});

test('a form is sent once, and its answer takes the place of the page', async () => {
  let sent = 0;
  await show('<h1 tabindex="-1">Before</h1><form method="post" action="/act" data-enhance><input name="a" value="1"><button id="b">Go</button></form>', {
    '/act': async (request) => {
      sent += 1;
      assert.equal(request.postData(), 'a=1');
      await new Promise((done) => setTimeout(done, 300));
      return [200, POLICY, html('<h1 tabindex="-1">After</h1><form method="post" action="/act" data-enhance><input name="a" value="1"><button id="b">Again</button></form>', 'After')];
    },
  });
  await page.evaluate(() => (document.body.mark = 'same page'));
  await page.locator('#b').dblclick();
  await page.getByRole('heading', { name: 'After' }).waitFor();
  assert.equal(sent, 1);
  assert.deepEqual(
    await page.evaluate(() => [document.body.mark, document.activeElement.id, document.title]),
    ['same page', 'b', 'After'],
  );
});

test('the focus goes to the heading where its button is disabled by an answer or an update', async () => {
  const act = (off) => `<form method="post" action="/act" data-enhance><button id="b"${off}>Go</button></form>`;
  await show(`<h1>One</h1>${act('')}`, { '/act': ok(`<h1>Two</h1>${act(' disabled')}`) });
  await page.locator('#b').press('Enter');
  await page.getByRole('heading', { name: 'Two' }).waitFor();
  await page.waitForFunction(() => document.activeElement.nodeName === 'H1');
  let over = false;
  const live = (off) => `<div id="live"${over ? '' : ' data-poll="0.5s"'}><h1>Live</h1><button id="b"${off}>Go</button></div>`;
  await show(live(''), { '/page': () => ok(live(over ? ' disabled' : '')) });
  await page.locator('#b').focus();
  over = true;
  await page.locator('#b:disabled').waitFor();
  await page.waitForFunction(() => document.activeElement.nodeName === 'H1');
});

test('the answer to a form says what is kept: a hidden revision changes, a password goes', async () => {
  const form = (revision, typed, more) =>
    `<form method="post" action="/act" data-enhance><input type="hidden" name="revision" value="${revision}">` +
    `<input id="a" name="a" value="${typed}"><input id="p" type="password"><textarea id="t">${typed}</textarea>` +
    `<details${more}><summary>More</summary></details><button>Go</button></form>`;
  await show(form(1, '', ''), { '/act': () => ok(form(2, 'typed', ' open')) });
  await page.locator('#a').fill('typed');
  await page.locator('#p').fill('secret');
  await page.locator('#t').fill('other');
  await page.getByRole('button').click();
  await page.locator('[name=revision][value="2"]').waitFor({ state: 'attached' });
  const state = await page.evaluate(() => ['#a', '#p', '#t'].map((id) => document.querySelector(id).value));
  assert.deepEqual(state, ['typed', '', 'typed']);
  assert.equal(await page.locator('details').evaluate((details) => details.open), true);
});

test('a form that is answered with an outage keeps what was typed, and is sent again', async () => {
  const form = (name) => `<form method="post" action="/act" data-enhance><input id="a" name="a" value=""><button id="b">${name}</button></form>`;
  const all = [[503, POLICY, html('<h1>Not available</h1>')], [503, POLICY, html(form('Try again'))], ok('<h1>Done</h1>')];
  await show(form('Send'), { '/act': () => all.shift() });
  await page.locator('#a').fill('typed');
  await page.locator('#b').click();
  await page.getByRole('alert').filter({ hasText: 'Nothing that you typed is lost' }).waitFor();
  assert.equal(await page.locator('#a').inputValue(), 'typed');
  await page.locator('#b').click();
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByRole('heading', { name: 'Done' }).waitFor();
});

test('a form whose server does not answer keeps what was typed', async () => {
  await show('<form method="post" action="/act" data-enhance><input name="a"><button>Go</button></form>', { '/act': () => [0] });
  await page.locator('input').fill('typed');
  await page.getByRole('button').click();
  await page.getByRole('alert').filter({ hasText: 'did not answer' }).waitFor();
  assert.equal(await page.locator('input').inputValue(), 'typed');
});

test('a field takes the secret behind the # of the address, which loses it', async () => {
  answers = { '/page': ok('<input id="a" data-from-fragment>') };
  await page.goto(`${ORIGIN}/page?x=1#s%20ecret`);
  await page.waitForFunction(() => document.querySelector('#a').value === 's ecret');
  assert.equal(page.url(), `${ORIGIN}/page?x=1`);
});

test('a slug is proposed from the name until it is written by hand', async () => {
  await show('<input id="name"><input id="slug" data-slug-of="name">');
  await page.locator('#name').pressSequentially('Acme Søns & Öl!');
  assert.equal(await page.locator('#slug').inputValue(), 'acme-s-ns-ol');
  await page.locator('#slug').fill('acme');
  await page.locator('#name').fill('Other');
  assert.equal(await page.locator('#slug').inputValue(), 'acme');
});

test('a slash goes to the search, unless it is written into a field or turned off', async () => {
  await show('<input type="search" id="q"><input id="a">');
  const focused = () => page.evaluate(() => document.activeElement.id);
  await page.keyboard.press('/');
  assert.deepEqual([await focused(), await page.locator('#q').inputValue()], ['q', '']);
  await page.locator('#a').focus();
  await page.keyboard.press('/');
  assert.deepEqual([await focused(), await page.locator('#a').inputValue()], ['a', '/']);
  await page.evaluate(() => {
    document.activeElement.blur();
    document.body.dataset.shortcuts = 'off';
  });
  await page.keyboard.press('/');
  assert.equal(await focused(), '');
});
