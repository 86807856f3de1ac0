// The console: one window is one device of one user on one socket, speaking the JSON dialect.
// It knows only what any client may know; all it shows came over REST or the socket.

import { JsonClient, newId } from './client/index.js';
import * as tags from './categories.js';
import * as conversations from './conversations.js';
import { $, announce, button, clock, complain, el, fill, fillRows, onSubmit, submitOnEnter } from './dom.js';
import * as people from './people.js';
import { keep, recall } from './storage.js';
import * as talk from './talk.js';

const MAX_REQUESTS = 100; // unanswered, kept while there is no connection
const MAX_QUEUE = 1000;
const MAX_ROWS = 100; // in each list
const MAX_CONTENT_BYTES = 16 * 1024;
const ANSWER_WITHIN_MS = 10_000; // a node that takes longer over REST counts as lost
const RENEW_MS = 3_600_000; // a token with less time left is renewed before it is used again

/** What close codes mean, for people. */
const MEANING = {
  0: 'no answer in time',
  1006: 'connection lost, or the node refused this page',
  1008: 'refused by policy',
  1009: 'a frame was too large',
  1012: 'the node is draining',
  1013: 'the node is full',
  4401: 'no longer logged in',
  4403: 'banned',
  4408: 'heartbeats missed',
  4409: 'displaced by a newer session of yours',
  4410: 'this window was too slow',
  4429: 'too many requests',
};
const RANK = { failed: 0, sending: 0, pending: 1, delivered: 2, completed: 3, expired: 3, cancelled: 3, ended: 3 };
const isOver = (item) => RANK[item.status] === 3;

const now = () => new Date().toISOString();

// --- What this window knows ------------------------------------------------------------------------------------------

const device = recall(sessionStorage, 'device') ?? `web-${newId().slice(0, 8)}`;
keep(sessionStorage, 'device', device);
let session = recall(sessionStorage, 'session'); // {token, expiresAt, userId, username}
let nodes = [...new Set([location.origin, ...recall(localStorage, 'nodes', [])])];
let sent = new Map(); // request id -> command sent from this window
let requests = []; // not yet answered, oldest first; only the first is on its way
const queue = new Map(); // command id -> command addressed to this user; ended ones stay, so duplicates are recognised
const early = new Map(); // command id -> statuses that overtook the answer to our own request

function remember(name, id) {
  people.remember(name, id);
  paint();
}

// --- REST and tokens ---
/** Asks the page's own origin and, only if that is gone, the other nodes: a token is valid on all of them. */
async function ask(method, path, body, token) {
  const headers = { ...(body && { 'Content-Type': 'application/json' }), ...(token && { Authorization: `Bearer ${token}` }) };
  if (method === 'POST') headers['Idempotency-Key'] = newId(); // a node that is gone may have done it
  for (const node of nodes) {
    const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
    const options = { method, headers, signal, ...(body && { body: JSON.stringify(body) }) };
    const response = await fetch(`${node}/api/v1${path}`, options).catch(() => null);
    if (!response) continue;
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    const { code = `http_${response.status}`, message = 'the node gave no reason' } = answer.error ?? {};
    throw Object.assign(new Error(message), { code, status: response.status });
  }
  throw Object.assign(new Error('no node answers'), { code: 'unavailable' });
}

const post = (path, body, token) => ask('POST', path, body, token);

/** The server's categories; while they cannot be told, those known before. */
async function learnCategories() {
  const owner = session;
  if (!owner) return;
  const answer = await ask('GET', '/categories', undefined, owner.token).catch(() => null);
  if (!answer || session !== owner) return;
  tags.learn(answer.items);
  paint();
}

/** Before anything is painted, as painting keeps the work. */
function recallWork() {
  const work = recall(sessionStorage, `work.${session.userId}`, { sent: [], requests: [] });
  sent = new Map(work.sent.map((item) => [item.id, item]));
  requests = work.requests;
  conversations.recallRefused(work.refused ?? []);
}

/** From a fresh login or a reloaded window to a desk with a connection. */
function enter() {
  keep(sessionStorage, 'session', session);
  recallWork();
  connect(recall(sessionStorage, 'node'));
}

function leave(reason) {
  hangUp();
  sessionStorage.removeItem('tidegate.session');
  session = null;
  for (const known of [queue, early, sent]) known.clear();
  tags.forget();
  requests = [];
  conversations.forget();
  talk.forget();
  setPhase('signed out', reason);
}

/** The token of this window, a new one where the old one does not do. */
async function giveToken(reason) {
  const owner = session;
  const isOld = new Date(owner.expiresAt) - Date.now() < RENEW_MS;
  if (reason === 'connect' && !isOld) return owner.token;
  const renewed = await post('/auth/refresh', {}, owner.token).catch((error) => {
    if (error.status === 401) return {}; // then the node says so, too
    throw error;
  });
  Object.assign(owner, renewed);
  if (session === owner) keep(sessionStorage, 'session', session);
  return owner.token;
}

// --- The connection ---
// phase: signed out, disconnected, connecting, open, reconnecting or closed
const link = { phase: 'signed out', detail: '', node: location.origin, facts: {} };

function setPhase(phase, detail = '') {
  Object.assign(link, { phase, detail });
  paint();
}

function hangUp() {
  const { client } = link;
  Object.assign(link, { client: null, listing: null, onItsWay: false, facts: {} });
  client?.close();
}

function connect(node) {
  hangUp();
  const at = Math.max(nodes.indexOf(node), 0);
  const client = new JsonClient({ url: [...nodes.slice(at), ...nodes.slice(0, at)], token: giveToken, device });
  link.client = client;
  const ifCurrent = (handler) => (event) => link.client === client && handler(event);
  client.on('state', ifCurrent(changed));
  client.on('connected', ifCurrent(({ payload }) => opened(payload)));
  for (const name of [...Object.keys(HANDLERS), ...conversations.events]) client.on(name, ifCurrent(receive));
  client.connect();
}

function changed({ phase, url, code, reason, due }) {
  Object.assign(link, { node: url, due });
  keep(sessionStorage, 'node', url);
  const meaning = MEANING[code] ?? 'closed by the node';
  const why = `${meaning}${code ? ` (${code})` : ''}${reason ? `: ${reason}` : ''}`;
  if (phase === 'connecting') setPhase('connecting', `to ${url}`);
  if (phase === 'waiting') setPhase('reconnecting', why);
  if (phase === 'closed' && code === 4401) leave(why);
  else if (phase === 'closed') setPhase('closed', why);
}

/** Asks beside what is kept; false if there is no connection, an answer `lost` once the client has ended. */
function aside(type, payload, onAnswer) {
  if (link.phase !== 'open') return false;
  if (type.startsWith('typing.')) {
    link.client.signal(type, payload);
    return true;
  }
  const refused = ({ code, message, retryAfterMs }) =>
    (code === 'closed' ? { type: 'lost', payload: {} } : { type: 'error', payload: { code, message, retryAfterMs } });
  link.client.ask(type, payload).catch(refused).then((answer) => {
    onAnswer(answer);
    paint();
  });
  return true;
}

// --- Requests: kept until answered, also over a reload, asked one after the other under the same id ---
function request(type, payload) {
  if (requests.length >= MAX_REQUESTS) return complain('queue_full', `${MAX_REQUESTS} requests are waiting already`);
  const id = newId();
  requests.push({ id, type, payload });
  pump();
  paint();
  return id;
}

function pump() {
  const { client, phase, onItsWay } = link;
  if (phase !== 'open' || onItsWay || !requests.length) return;
  const [asked] = requests;
  const answered = (answer) => {
    if (link.client !== client) return; // it is asked again by the next one
    link.onItsWay = false;
    requests.shift();
    settled(asked, answer);
    pump();
    paint();
  };
  link.onItsWay = true;
  const { id, type, payload } = asked;
  client.ask(type, payload, { id }).catch(({ code, message }) => ({ type: 'error', payload: { code, message } })).then(answered);
}

function settled(asked, { type, payload, timestamp }) {
  if (conversations.settle(asked, { type, payload, timestamp })) return;
  const item = sent.get(asked.id); // only if it was a command.create
  const commandId = payload.commandId ?? asked.payload.commandId;
  if (type === 'error' && item) {
    Object.assign(item, { status: 'failed', problem: `${payload.code} – ${payload.message}` });
    announce(`Failed: ${item.problem}`);
  } else if (type === 'error') {
    complain(payload.code, payload.message);
    if (commandId) list(); // a complete or cancel that came too late: look again
  } else if (type === 'command.accepted' && item) {
    item.commandId = commandId;
    advance(item, 'pending', timestamp);
    for (const status of early.get(commandId) ?? []) applyStatus(status);
    early.delete(commandId);
  } else if (type === 'preferences') {
    prefer(payload);
  } else {
    const at = payload.completedAt ?? payload.at ?? timestamp;
    if (payload.completedAt) applyStatus({ commandId, recipientId: session.userId, status: 'completed', at });
    else applyStatus({ commandId, status: payload.status, at });
  }
}

/** What reaches this user from now on; what is here already is shown or hidden by it, and the rest read anew. */
function prefer(preferences) {
  const before = JSON.stringify(tags.choices());
  tags.choose(preferences);
  if (JSON.stringify(tags.choices()) !== before) list();
}

/** Reads the queue anew, page by page; what the whole answer no longer holds has ended elsewhere. */
function list(cursor) {
  if (link.phase !== 'open') return;
  if (!cursor) link.listing = { before: [...queue.values()], seen: new Set() };
  const { listing } = link;
  aside('command.queue', { limit: 100, ...(cursor && { cursor }) }, (answer) => listing === link.listing && listed(answer));
}

function listed({ type, payload }) {
  const { before, seen } = link.listing;
  if (type === 'error') {
    complain(payload.code, payload.message);
    setTimeout(list, payload.retryAfterMs ?? 5000);
    return;
  }
  for (const command of payload.commands) {
    seen.add(command.commandId);
    arrive(command);
  }
  // What the preferences hide is not listed, and has not ended for that.
  const missing = before.filter(({ commandId, categories }) => !seen.has(commandId) && tags.admits(categories));
  if (!payload.nextCursor) for (const item of missing) advance(item, 'ended');
  if (payload.nextCursor && seen.size < MAX_QUEUE) list(payload.nextCursor);
}

// --- What comes in ---
const HANDLERS = {
  'command.new': (payload) => arrive({ ...payload, status: 'delivered' }, true),
  'command.status': (payload) => applyStatus(payload),
  'command.expired': (payload) => applyStatus({ ...payload, status: 'expired' }),
  preferences: (payload) => prefer(payload),
  'server.draining': () => { link.detail = 'the node is draining'; },
  error: ({ code, message }) => complain(code, message),
};

function receive(message) {
  if (Object.hasOwn(HANDLERS, message.type)) HANDLERS[message.type](message.payload);
  else conversations.receive(message);
  paint();
}

function opened({ node, sessionId, device: name, resumed }) {
  const replayed = `${resumed?.replayed ?? 0} replayed${resumed?.complete === false ? ' at once, more may follow' : ''}`;
  link.facts = { Node: node, Session: sessionId, Device: name, Resumed: replayed };
  setPhase('open');
  aside('preferences.get', {}, ({ type, payload }) => {
    if (type === 'error') complain(payload.code, payload.message);
    else if (type === 'preferences') prefer(payload);
  });
  learnCategories();
  list();
  conversations.connected();
  pump();
}

/** A command for this user, live, replayed or listed; a known one only moves forward. */
function arrive(command, live) {
  const known = queue.get(command.commandId);
  if (known) return advance(known, command.status);
  queue.set(command.commandId, { ...command, times: {} });
  for (const [id, old] of queue) if (queue.size > MAX_QUEUE && isOver(old)) queue.delete(id);
  if (live) announce(`New ${command.commandType} from ${command.senderName}: ${command.content}`);
  return undefined;
}

function advance(item, status, at = now()) {
  item.times[status] ??= at;
  if (RANK[status] > RANK[item.status]) item.status = status;
}

function applyStatus(update) {
  const { commandId, recipientId, status, at } = update;
  const mine = [...sent.values()].find((item) => item.commandId === commandId);
  const command = queue.get(commandId);
  // What one recipient does with a broadcast is not its end for everybody.
  if (mine && (mine.broadcast === 'user' || !recipientId)) advance(mine, status, at);
  if (command && (recipientId ?? session.userId) === session.userId) advance(command, status, at);
  if (mine || command || !requests.length) return;
  early.set(commandId, [...(early.get(commandId) ?? []), update]);
  if (early.size > MAX_REQUESTS) early.delete(early.keys().next().value);
}

// --- What the user sees ---
let painting = false;
/** Repaints soon, once for many changes (in a microtask: animation frames do not run in hidden windows). */
function paint() {
  if (!painting) queueMicrotask(paintAll);
  painting = true;
}

function paintAll() {
  painting = false;
  paintState();
  $('welcome').hidden = Boolean(session);
  $('views').hidden = $('account').hidden = !session;
  if (!session) {
    for (const view of ['desk', 'talk']) $(view).hidden = true;
    document.body.classList.remove('filled');
    return;
  }
  talk.paint();
  $('my-name').textContent = session.username;
  $('my-id').textContent = session.userId;
  $('toggle').textContent = isUp() ? 'Disconnect' : 'Connect';
  fill($('facts'), Object.entries(link.facts), ([term, fact]) => [el('dt', {}, term), el('dd', {}, fact)]);
  fill($('node'), nodes, (node) => el('option', { selected: node === link.node }, node), link.node);
  fill($('to-names'), people.names(), (name) => el('option', { value: name }));
  fill($('people'), people.names().filter((name) => people.idOf(name) !== session.userId),
    (name) => el('li', {}, button(name, () => address(name), { title: `Write to ${people.idOf(name)}` })));

  paintCategories();

  const asked = new Set(requests.map(({ payload }) => payload.commandId));
  const rows = (items) => items.map((item) => ({ ...item, busy: asked.has(item.commandId) }));
  const newest = [...queue.values()].sort((a, b) => b.createdAt.localeCompare(a.createdAt));
  const open = newest.filter((item) => !isOver(item) && tags.admits(item.categories));
  show('queue', open.length, rows([...open, ...newest.filter(isOver)]), incomingRow);
  show('sent', sent.size, rows([...sent.values()].reverse()), sentRow);
  const waiting = open.length + conversations.unread();
  document.title = `${waiting ? `(${waiting}) ` : ''}${session.username} – Tidegate console`;
  keep(sessionStorage, `work.${session.userId}`, { sent: [...sent.values()], requests, refused: conversations.refused() });
}

function paintCategories() {
  const usable = tags.known().filter(({ retiredAt }) => !retiredAt);
  const ticked = new Set(new FormData($('compose')).getAll('categories'));
  fill($('categories'), usable, (category) => tags.tagBox(el, category, ticked.has(category.name)));
  const choosable = tags.choosable(wanted());
  const focused = document.activeElement?.ariaLabel;
  fill($('preferences'), choosable, (choice) => tags.choiceRow(el, choice, savePreferences));
  const same = [...$('preferences').querySelectorAll('select')].find((select) => select.ariaLabel === focused);
  if (same && same !== document.activeElement) same.focus();
  $('preferences-empty').hidden = choosable.length > 0;
}

/** The preferences as they will be once everything that was asked for is done. */
const wanted = () => requests.findLast(({ type }) => type === 'preferences.update')?.payload ?? tags.choices();

function savePreferences(tag, state) {
  $('preferences').stamp = undefined; // painted anew even if it is not to be
  if (!request('preferences.update', tags.changed(wanted(), tag, state))) paint();
}

const isUp = () => link.phase === 'open' || link.phase === 'connecting';

function paintState() {
  const waiting = requests.length - (link.onItsWay ? 1 : 0);
  $('state').dataset.phase = link.phase;
  if ($('phase').textContent !== link.phase) $('phase').textContent = link.phase; // spoken when it changes
  $('detail').textContent = [
    link.phase === 'open' && `on ${link.facts.Node}`,
    link.phase === 'reconnecting' && `in ${Math.max(0, Math.ceil((link.due - Date.now()) / 1000))} s`,
    link.detail,
    waiting > 0 && `${waiting} to be sent`,
  ].filter(Boolean).join(' – ');
}

function show(name, count, items, view) {
  const keyed = items.slice(0, MAX_ROWS).map((item) => ({ ...item, key: item.id ?? item.commandId }));
  fillRows($(name), keyed, (item) => {
    const row = Object.assign(view(item), { tabIndex: -1, className: isOver(item) ? 'over' : '' });
    row.dataset.status = item.status;
    return row;
  });
  $(`${name}-count`).textContent = count;
  $(`${name}-empty`).hidden = items.length > 0;
}

/** Its type, whether it is for many, and its categories. */
function labels({ commandType, broadcast, categories = [] }) {
  const many = { category: 'broadcast', allcast: 'to everybody' }[broadcast];
  return [el('span', { className: 'tag' }, commandType), many && el('span', { className: 'tag wide' }, many),
    ...categories.map((tag) => el('span', { className: 'tag', title: tag }, tags.titleOf(tag)))].filter(Boolean);
}

const row = (item, head, foot, ...actions) => el('li', {},
  el('div', { className: 'head' }, ...head, ...labels(item), clock(item.createdAt)),
  el('p', { className: 'content' }, item.content),
  el('div', { className: 'foot' }, foot, el('span', { className: 'actions' }, ...actions)));

function incomingRow(item) {
  const { commandId, senderId, senderName, status, expiresAt } = item;
  const reply = () => {
    if (!people.nameOf(senderId)) remember(senderName, senderId);
    address(people.nameOf(senderId));
  };
  const complete = () => item.busy || request('command.complete', { commandId });
  const foot = isOver(item) ? [`${status} `, clock(item.times[status] ?? item.createdAt)]
    : [`${status}${expiresAt ? ` – until ${new Date(expiresAt).toLocaleString()}` : ''}`];
  return row(item, [el('b', {}, senderName)], el('span', {}, ...foot), button('Reply', reply),
    isOver(item) ? null : button('Complete', complete, { ariaDisabled: item.busy }));
}

function sentRow(item) {
  const { commandId, toName, broadcast, status, times } = item;
  const cancel = () => item.busy || request('command.cancel', { commandId });
  // Who sent to many is told of its end only.
  const steps = ['expired', 'cancelled'].includes(status) || broadcast !== 'user'
    ? [...new Set(['pending', 'delivered', status])].filter((step) => times[step]) : ['pending', 'delivered', 'completed'];
  const foot = status === 'failed' ? el('span', { className: 'problem' }, `failed: ${item.problem}`)
    : status === 'sending' ? el('span', {}, 'to be sent')
      : el('ol', { className: 'steps' }, ...steps.map((step) =>
        el('li', { className: times[step] ? 'reached' : '' }, `${step} `, times[step] ? clock(times[step]) : null)));
  return row(item, ['to ', el('b', {}, toName)], foot,
    status === 'pending' ? button('Cancel', cancel, { ariaDisabled: item.busy }) : null);
}

// --- What the user does ---
function address(name) {
  $('audience').value = 'user';
  showAudience();
  $('to').value = name;
  $('to').setCustomValidity('');
  $('content').focus();
}

/** The nodes that this page's own one knows of: right behind it, as they are surely part of the deployment. */
async function learnNodes() {
  const answer = await fetch('nodes.json').then((response) => response.json()).catch(() => ({}));
  nodes = [...new Set([location.origin, ...(answer.nodes ?? []), ...nodes])];
}

function addNode(text) {
  const { protocol, origin } = URL.canParse(text) ? new URL(text) : {};
  if (!/^https?:$/.test(protocol)) return complain('bad_request', `“${text}” is not the http(s) URL of a node`);
  nodes = [...new Set([...nodes, origin])];
  keep(localStorage, 'nodes', nodes);
  $('add-node').reset();
  return paint();
}

onSubmit('login', async ({ username, password }, submitter) => {
  if (submitter?.id === 'register') await post('/auth/register', { username, password });
  session = { username, ...(await post('/auth/login', { username, password })) };
  $('password').value = '';
  remember(username, session.userId);
  enter();
  setTimeout(() => $('desk').hidden || $('to').focus()); // after the desk has been painted
});

/** Only a command for one user has an addressee. */
function showAudience() {
  const broadcast = $('audience').value;
  $('to-field').hidden = $('to').disabled = broadcast !== 'user';
  $('categories-hint').textContent = broadcast === 'category' ? '(at least one)' : '(optional)';
}

onSubmit('compose', ({ audience: broadcast, to, content, type, expires }) => {
  const targetUser = broadcast === 'user' ? people.resolve(to.trim()) : undefined;
  const categories = new FormData($('compose')).getAll('categories');
  if (broadcast === 'user' && !targetUser) {
    $('to').setCustomValidity('Neither a contact nor a user id: ask them for the id at the top of their window.');
    return $('to').reportValidity();
  }
  const bytes = new TextEncoder().encode(content).length;
  if (bytes > MAX_CONTENT_BYTES) return complain('too_large', `${bytes} bytes of content, ${MAX_CONTENT_BYTES} are allowed`);
  if (broadcast === 'category' && !categories.length) return complain('bad_request', 'tick at least one category');
  const command = { commandType: type, content, broadcast, categories, ...(targetUser && { targetUser }) };
  if (expires) command.expiresAt = new Date(expires).toISOString();
  const id = request('command.create', command);
  if (!id) return undefined;
  const toName = targetUser ? people.nameOf(targetUser) ?? targetUser : 'many';
  sent.set(id, { ...command, id, toName, status: 'sending', createdAt: now(), times: {} });
  for (const [old, item] of sent) if (sent.size > MAX_ROWS && item.status !== 'sending') sent.delete(old);
  $('content').value = '';
  return $('content').focus();
});

onSubmit('add-person', ({ name, id }) => {
  if (!people.isUserId(id.trim())) return complain('bad_request', 'that is not a user id');
  remember(name.trim(), id.trim().toLowerCase());
  return $('add-person').reset();
});

onSubmit('add-node', ({ url }) => addNode(url.trim()));

$('audience').onchange = showAudience;
$('to').oninput = () => $('to').setCustomValidity('');
$('content').onkeydown = submitOnEnter;
$('node').onchange = () => connect($('node').value);
$('toggle').onclick = () => {
  if (!isUp()) return connect(link.node);
  hangUp();
  return setPhase('disconnected', 'by you');
};
$('log-out').onclick = () => {
  const { token } = session;
  leave('by you');
  post('/auth/logout', {}, token).catch((error) => complain(error.code, `the token was not revoked: ${error.message}`));
};
$('copy-id').onclick = async () => {
  getSelection().selectAllChildren($('my-id')); // without a clipboard (plain http) it is ready for Ctrl-C
  await navigator.clipboard?.writeText(session.userId).then(() => announce('Copied'));
};
addEventListener('storage', () => {
  people.reload();
  nodes = [...new Set([...nodes, ...recall(localStorage, 'nodes', [])])];
  paint();
});
addEventListener('focus', () => {
  learnCategories();
  if (session) conversations.list();
});
addEventListener('online', () => link.phase === 'reconnecting' && connect(link.node));

const gate = {
  me: () => session?.userId,
  myName: () => session?.username,
  nameOf: people.nameOf,
  remember,
  ask: (method, path, body) => ask(method, path, body, session?.token),
  aside,
  request,
  requests: () => requests,
  announce,
  complain,
  changed: paint,
};
conversations.start(gate);
talk.start(gate);
if (session) recallWork();
for (const node of new URLSearchParams(location.search).getAll('nodes').flatMap((some) => some.split(','))) addNode(node);
setInterval(() => link.phase === 'reconnecting' && paintState(), 1000);
await learnNodes();
if (session) enter();
else paint();
