// The script of the console. Every page works without it; with it, pages stay up to date, forms answer in place, and times
// are local. What it does is asked for by attributes, and there are no others:
//
//   data-poll="1s"        the element is fetched again (it needs an id), as long as it has this attribute
//   data-enhance          the form is sent by fetch, and the answer takes the place of the page
//   data-copy="id"        the button copies the value or the text of that element
//   data-slug-of="id"     the field proposes a slug made of the value of that field
//   data-announce         a screen reader is told the text when it changes
//   data-shortcuts="off"  (of the body) a slash does not go to the search
//   data-from-fragment    the field gets what is behind the # of the address, which then loses it

// ---- Trusted Types: the one policy, which takes only what this script parses ----

let parses = false;
globalThis.trustedTypes?.createPolicy('default', {
  createHTML(text) {
    if (!parses) throw new TypeError('HTML from a string');
    return text;
  },
});

/** Parses an answer of our own server. Scripts in it do not run. */
export function parse(text) {
  parses = true;
  try {
    return new DOMParser().parseFromString(text, 'text/html');
  } finally {
    parses = false;
  }
}

// ---- Morph: makes a tree equal to another, and leaves alone what is equal ----

const isField = (node) => /^(INPUT|TEXTAREA|SELECT)$/.test(node.nodeName);
const keyOf = (node) => (node.nodeType === 1 && (node.id || node.dataset.key)) || null;
const isAlike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

/**
 * Makes `from` equal to `to`. Focus, selection, scrolling and open details stay, and so does what is typed, unless `to` is
 * the answer to a form: that says itself what is kept.
 */
export function morph(from, to, isAnswer = false) {
  if (from.nodeType !== 1) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  const isTyped = isField(from) && from.type !== 'hidden';
  morphAttributes(from, to, isTyped && !isAnswer ? ['value', 'checked'] : [], isAnswer);
  if (from.nodeName !== 'TEXTAREA') morphChildren(from, to, isAnswer);
  if (!isTyped || !isAnswer) return;
  if (from.nodeName === 'TEXTAREA') from.defaultValue = to.defaultValue;
  if (from.value !== to.value) from.value = to.value;
  from.checked = to.checked;
}

function morphAttributes(from, to, fields, isAnswer) {
  const kept = new Set([...fields, 'data-sent', ...(from.nodeName === 'DETAILS' && !(isAnswer && to.open) ? ['open'] : [])]);
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !kept.has(name)) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value && !kept.has(name)) from.setAttribute(name, value);
  }
}

function morphChildren(from, to, isAnswer) {
  const keyed = new Map();
  for (const child of from.children) if (keyOf(child)) keyed.set(keyOf(child), child);
  let at = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const key = keyOf(wanted);
    let found = key ? keyed.get(key) : null;
    if (!found && at && isAlike(at, wanted)) found = at;
    if (!found || !isAlike(found, wanted)) {
      from.insertBefore(document.importNode(wanted, true), at);
      continue;
    }
    if (found === at) at = at.nextSibling;
    else if (at && !keyOf(at) && at.nextSibling === found) {
      // One node went away before it: removing that one leaves the focus in `found` alone.
      const next = found.nextSibling;
      at.remove();
      at = next;
    } else from.insertBefore(found, at);
    morph(found, wanted, isAnswer);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

// ---- Times: UTC from the server, local here ----

const dateAndTime = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const timeOnly = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });

/** Prepares a page before it is shown: times, and buttons that work only with this script. */
function prepare(root) {
  for (const button of root.querySelectorAll('[data-copy][hidden]')) button.hidden = false;
  for (const element of root.querySelectorAll('time[datetime]')) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    element.title = at.toISOString().replace('T', ' ').replace(/(\.\d+)?Z$/, ' UTC');
    const today = at.toDateString() === new Date().toDateString();
    element.textContent = (today ? timeOnly : dateAndTime).format(at);
  }
}

// ---- Poll ----

const milliseconds = (text) => Math.max(500, Number.parseFloat(text) * 1000 || 5000);
const tags = new Map();
/** Counts what a form has put in place of the page: an answer that was asked for before is out of date. */
let generation = 0;
const polling = new Set();
const LONGEST_PAUSE = 30_000;

const isShown = () =>
  document.visibilityState === 'visible'
    ? Promise.resolve()
    : new Promise((done) => document.addEventListener('visibilitychange', done, { once: true }));

const pause = (time) => new Promise((done) => setTimeout(done, time));

/** Says at an element that it is old, or no longer. */
function noteAge(element, since) {
  let note = document.getElementById(`${element.id}-age`);
  if (!since) return note?.remove();
  if (!note) {
    note = document.createElement('p');
    note.id = `${element.id}-age`;
    note.className = 'stale';
    note.setAttribute('role', 'status');
    element.before(note);
  }
  const text = `Not updated since ${timeOnly.format(since)}, trying again`;
  if (note.textContent !== text) note.textContent = text;
}

/** Moves the focus to the heading if its element is gone or is disabled now: the keyboard would begin at the top. */
function keepFocus() {
  const { activeElement, body } = document;
  if (activeElement && activeElement !== body && !activeElement.matches(':disabled')) return;
  const heading = document.querySelector('main h1');
  if (heading) heading.tabIndex = -1;
  heading?.focus();
}

/** Fetches an element of this page again. */
async function refresh(id) {
  const [tag, asked] = [tags.get(id), generation];
  const address = new URL(location.href);
  address.searchParams.set('fragment', id);
  const headers = { Accept: 'text/html', ...(tag && { 'If-None-Match': tag }) };
  const answer = await fetch(address, { headers, cache: 'no-store', signal: AbortSignal.timeout(10_000) });
  if (answer.status === 304 || asked !== generation) return;
  // The session has ended, or what is shown is gone: the page says so itself.
  if (answer.redirected || [401, 403, 404].includes(answer.status)) return location.reload();
  if (!answer.ok) throw new Error(`${answer.status}`);
  const page = parse(await answer.text());
  const [old, now] = [document.getElementById(id), page.getElementById(id)];
  if (!old || !now || asked !== generation) return;
  prepare(page);
  const hadFocus = old.contains(document.activeElement);
  morph(old, now);
  if (hadFocus) keepFocus();
  tags.set(id, answer.headers.get('ETag'));
  announce();
}

let announced = null;
/** Tells a screen reader what the page says of its state, if it has changed. */
function announce() {
  const text = document.querySelector('main [data-announce]')?.textContent.trim() ?? null;
  const status = document.getElementById('status');
  if (status && announced !== null && text !== null && text !== announced) status.textContent = text;
  announced = text;
}

async function poll(id) {
  let [last, failures] = [new Date(), 0];
  for (;;) {
    const element = document.getElementById(id);
    if (!element?.dataset.poll) break;
    await pause(Math.min(milliseconds(element.dataset.poll) * 2 ** failures, LONGEST_PAUSE));
    await isShown();
    if (!document.getElementById(id)?.dataset.poll) break;
    try {
      await refresh(id);
      [last, failures] = [new Date(), 0];
    } catch {
      failures = Math.min(failures + 1, 5);
    }
    const now = document.getElementById(id);
    if (now) noteAge(now, failures && last);
  }
  polling.delete(id);
}

// ---- Forms ----

/** Shows an answer in place of the page. */
function show(page, address) {
  prepare(page);
  const [old, now] = [document.querySelector('main'), page.querySelector('main')];
  if (!old || !now) return location.assign(address);
  if (address !== location.href) history.pushState(null, '', address);
  tags.clear();
  generation += 1;
  document.title = page.title;
  for (const selector of ['nav', 'main']) {
    const [shown, next] = [document.querySelector(selector), page.querySelector(selector)];
    if (shown && next) morph(shown, next, true);
  }
  const problem = document.querySelector('main #errors');
  if (problem) problem.focus();
  else keepFocus();
  begin();
}

async function send(form, submitter) {
  const body = new URLSearchParams(new FormData(form, submitter));
  const address = submitter?.hasAttribute('formaction') ? submitter.formAction : form.action;
  try {
    const answer = await fetch(address, { method: 'POST', body, headers: { Accept: 'text/html' } });
    if (!answer.headers.get('Content-Type')?.startsWith('text/html')) throw new TypeError('no page');
    const page = parse(await answer.text());
    // Such an answer would take what was typed away, unless it has it in a form of its own.
    if (answer.status >= 500 && !page.querySelector('main form[method="post"]')) throw new Error('not now');
    delete form.dataset.sent;
    show(page, answer.redirected ? answer.url : location.href);
  } catch {
    delete form.dataset.sent;
    let note = form.querySelector('.not-sent');
    if (!note) {
      note = Object.assign(document.createElement('p'), { className: 'problem not-sent', tabIndex: -1 });
      note.setAttribute('role', 'alert');
      form.append(note);
    }
    note.textContent = 'The server did not answer. Nothing that you typed is lost; try again.';
  }
}

document.addEventListener('submit', (event) => {
  const form = event.target;
  if (form.method !== 'post') return;
  // A double click sends it once.
  if (form.dataset.sent) return event.preventDefault();
  form.dataset.sent = 'true';
  if (!('enhance' in form.dataset)) return;
  event.preventDefault();
  send(form, event.submitter);
});

// A page that is shown again by the back button can send its forms again.
addEventListener('pageshow', () => {
  for (const form of document.querySelectorAll('form[data-sent]')) delete form.dataset.sent;
});
addEventListener('popstate', () => location.reload());

// ---- Fields that propose a slug, buttons that copy, the slash ----

const slugOf = (name) =>
  name.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 63);

document.addEventListener('input', (event) => {
  const field = event.target;
  if ('slugOf' in field.dataset) field.dataset.edited = 'true';
  const proposed = field.id && document.querySelector(`[data-slug-of="${CSS.escape(field.id)}"]`);
  if (proposed && (!proposed.dataset.edited || !proposed.value)) proposed.value = slugOf(field.value);
});

document.addEventListener('click', async ({ target }) => {
  const button = target.closest?.('[data-copy]');
  const source = button && document.getElementById(button.dataset.copy);
  if (!source) return;
  const text = (source.value ?? source.textContent).trim();
  const label = (button.dataset.label ??= button.textContent);
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    // Without https there is no clipboard: the text is selected instead.
    if (source.select) source.select();
    else getSelection().selectAllChildren(source);
    button.textContent = 'Press Ctrl+C';
  }
  setTimeout(() => (button.textContent = label), 2000);
});

document.addEventListener('keydown', (event) => {
  const { target, key } = event;
  if (key !== '/' || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.body.dataset.shortcuts === 'off') return;
  if (isField(target) || target.isContentEditable) return;
  const search = document.querySelector('[type=search]');
  if (!search) return;
  event.preventDefault();
  search.focus();
  search.select();
});

// ---- Begin ----

function begin() {
  announce();
  for (const field of document.querySelectorAll('[data-from-fragment]')) {
    if (location.hash.length > 1) field.value = decodeURIComponent(location.hash.slice(1));
  }
  // A secret does not stay in the address.
  if (document.querySelector('[data-from-fragment]')) history.replaceState(null, '', location.pathname + location.search);
  for (const { id } of document.querySelectorAll('[data-poll][id]')) {
    if (polling.has(id)) continue;
    polling.add(id);
    poll(id);
  }
}

document.documentElement.dataset.js = '';
prepare(document);
begin();
document.querySelector('main #errors')?.focus();
