// The console: one window is one device of one user on one socket, speaking the JSON dialect.
// It knows only what any client may know; all it shows came over REST or the socket.

import * as tags from './categories.js';
import * as conversations from './conversations.js';
import { $, announce, button, clock, complain, el, fill, fillRows, onSubmit, submitOnEnter } from './dom.js';
import * as people from './people.js';
import { keep, recall } from './storage.js';
import * as talk from './talk.js';

const MAX_REQUESTS = 100; // unanswered, kept while there is no connection
const MAX_ASIDES = 200; // unanswered, too, but not worth keeping
const MAX_QUEUE = 1000;
const MAX_ROWS = 100; // in each list
const MAX_CONTENT_BYTES = 16 * 1024;
const ANSWER_WITHIN_MS = 10_000; // a node that takes longer counts as lost
const QUIET_MS = 15_000; // silence after which the node is pinged

// [meaning, what to do]: "move" reconnects to the next node, "stay" to the same one, "stop" leaves it to the user.
// Any other code is a "move".
const CLOSE = {
  0: ['no answer in time', 'move'],
  1006: ['connection lost, or the node refused this page', 'move'],
  1008: ['refused by policy', 'stop'],
  1009: ['a frame was too large', 'stay'],
  1012: ['the node is draining', 'move'],
  1013: ['the node is full', 'move'],
  4401: ['no longer logged in', 'stay'],
  4403: ['banned', 'stop'],
  4408: ['heartbeats missed', 'move'],
  4409: ['displaced by a newer session of yours', 'stop'],
  4410: ['this window was too slow', 'stay'],
  4429: ['too many requests', 'stay'],
};
const RANK = { failed: 0, sending: 0, pending: 1, delivered: 2, completed: 3, expired: 3, cancelled: 3, ended: 3 };
const isOver = (item) => RANK[item.status] === 3;

const now = () => new Date().toISOString();
/** `crypto.randomUUID` exists only on https and localhost; this works on any address. */
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');

// --- What this window knows ------------------------------------------------------------------------------------------

const device = recall(sessionStorage, 'device') ?? `web-${newId().slice(0, 8)}`;
keep(sessionStorage, 'device', device);
let session = recall(sessionStorage, 'session'); // {token, expiresAt, userId, username}
let nodes = [...new Set([location.origin, ...recall(localStorage, 'nodes', [])])];
let sent = new Map(); // request id -> command sent from this window
let requests = []; // not yet answered, oldest first; only the first is on its way
const queue = new Map(); // command id -> command addressed to this user; ended ones stay, so duplicates are recognised
const early = new Map(); // command id -> statuses that overtook the answer to our own request
let refreshTimer;

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
  refreshIn((new Date(session.expiresAt) - Date.now()) * 0.8);
  connect(recall(sessionStorage, 'node'));
}

function leave(reason) {
  hangUp();
  clearTimeout(refreshTimer);
  sessionStorage.removeItem('tidegate.session');
  session = null;
  for (const known of [queue, early, sent]) known.clear();
  tags.forget();
  requests = [];
  conversations.forget();
  talk.forget();
  setPhase('signed out', reason);
}

function refreshIn(wait) {
  clearTimeout(refreshTimer);
  refreshTimer = setTimeout(refresh, Math.min(Math.max(wait, 1000), 2 ** 31 - 1));
}

async function refresh() {
  const owner = session;
  try {
    const { token, expiresAt } = await post('/auth/refresh', {}, owner.token);
    if (session !== owner) return;
    Object.assign(session, { token, expiresAt });
    keep(sessionStorage, 'session', session);
    if (link.phase === 'open') transmit('authenticate', { token }, newId());
    refreshIn((new Date(expiresAt) - Date.now()) * 0.8);
  } catch (error) {
    if (session !== owner) return;
    if (error.status === 401 || new Date(session.expiresAt) < Date.now()) leave('the token has run out');
    else refreshIn(15_000);
  }
}

// --- The connection ---
// phase: signed out, disconnected, connecting, open, reconnecting or closed
const link = { phase: 'signed out', detail: '', node: location.origin, attempt: 0, facts: {}, asides: new Map() };

function setPhase(phase, detail = '') {
  Object.assign(link, { phase, detail, since: Date.now() });
  paint();
}

/** Forgets the socket at once: a dead peer would keep a closing one open for long. */
function hangUp() {
  const { ws, timer, asides } = link;
  clearTimeout(timer);
  Object.assign(link, { ws: null, refused: false, listing: null, asides: new Map(), facts: {} });
  Object.assign(link, { onItsWay: 0, pinged: 0, leaveAt: 0, holdUntil: 0 }); // times, 0 for none
  ws?.close(1000);
  for (const answer of asides.values()) answer({ type: 'lost', payload: {} });
}

function connect(node) {
  hangUp();
  link.node = nodes.includes(node) ? node : nodes[0];
  keep(sessionStorage, 'node', link.node);
  setPhase('connecting', `to ${link.node}`);
  const ws = new WebSocket(`${link.node.replace(/^http/, 'ws')}/api/ws?device=${device}`, 'tidegate.json.v1');
  link.ws = ws;
  const ifCurrent = (handler) => (event) => link.ws === ws && handler(event);
  ws.onopen = ifCurrent(() => transmit('authenticate', { token: session.token }, newId()));
  ws.onmessage = ifCurrent((event) => receive(JSON.parse(event.data)));
  ws.onclose = ifCurrent((event) => lost(event.code, event.reason));
}

function lost(code, reason) {
  const { phase, leaveAt, refused, onItsWay } = link;
  const [meaning, action] = CLOSE[code] ?? ['closed by the node', 'move'];
  if (code === 4401 && (refused || phase === 'open')) return leave(`${meaning} (4401)`);
  if (code === 1009 && onItsWay) settle({ type: 'error', payload: { code: 'too_large', message: meaning } });
  hangUp();
  const why = `${meaning}${code ? ` (${code})` : ''}${reason ? `: ${reason}` : ''}`;
  if (action === 'stop') return setPhase('closed', why);
  // Full jitter: any wait up to a bound that doubles, so that many clients do not come back as one wave.
  const base = code === 1013 || code === 4429 ? 2000 : 500;
  const jitter = Math.random() * Math.min(20_000, base * 2 ** link.attempt++);
  const wait = leaveAt ? Math.max(leaveAt - Date.now(), 0) : jitter;
  const next = action === 'move' ? nodes[(nodes.indexOf(link.node) + 1) % nodes.length] : link.node;
  link.due = Date.now() + wait;
  link.timer = setTimeout(connect, wait, next);
  setPhase('reconnecting', why);
}

const transmit = (type, payload, id) => link.ws.send(JSON.stringify({ type, id, payload }));

/** Asks at once and only once, beside what is kept; false if there is no connection, an answer `lost` if that ends. */
function aside(type, payload, onAnswer) {
  if (link.phase !== 'open') return false;
  const id = newId();
  link.asides.set(id, onAnswer);
  if (link.asides.size > MAX_ASIDES) link.asides.delete(link.asides.keys().next().value);
  transmit(type, payload, id);
  return true;
}

/** Once a second: what a browser does not notice by itself. */
function tick() {
  const late = (since) => since && Date.now() - since > ANSWER_WITHIN_MS;
  if (link.phase === 'reconnecting') return paintState();
  if (link.phase === 'connecting' && late(link.since)) return lost(0);
  if (link.phase !== 'open') return undefined;
  if (late(link.pinged) || late(link.onItsWay)) return lost(0);
  if (link.leaveAt && Date.now() > link.leaveAt) return lost(1012);
  if (link.pinged || Date.now() - link.heard < QUIET_MS) return undefined;
  link.pinged = Date.now();
  return transmit('ping', {}, newId());
}

// --- Requests: kept until answered, sent one after the other, repeated under the same id ---
function request(type, payload) {
  if (requests.length >= MAX_REQUESTS) return complain('queue_full', `${MAX_REQUESTS} requests are waiting already`);
  const id = newId();
  requests.push({ id, type, payload, tries: 0 });
  pump();
  paint();
  return id;
}

function pump() {
  if (link.phase !== 'open' || link.onItsWay || Date.now() < link.holdUntil || !requests.length) return;
  const [{ id, type, payload }] = requests;
  link.onItsWay = Date.now();
  transmit(type, payload, id);
}

/** Takes the answer to the request on its way. */
function settle({ type, payload, timestamp }) {
  const [asked] = requests;
  link.onItsWay = 0;
  if (['rate_limited', 'unavailable'].includes(payload.code) && asked.tries++ < 8) {
    const wait = payload.retryAfterMs ?? Math.random() * 500 * 2 ** asked.tries;
    link.holdUntil = Date.now() + wait;
    setTimeout(pump, wait + 1);
    return;
  }
  requests.shift();
  settled(asked, { type, payload, timestamp });
  pump();
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
  link.listing.id = newId();
  transmit('command.queue', { limit: 100, cursor }, link.listing.id);
}

function listed({ type, payload }) {
  const { before, seen } = link.listing;
  link.listing.id = null;
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
function receive(message) {
  const { type, payload, replyTo, timestamp } = message;
  Object.assign(link, { heard: Date.now(), pinged: 0 });
  if (replyTo && replyTo === requests[0]?.id) settle(message);
  else if (replyTo && replyTo === link.listing?.id) listed(message);
  else if (link.asides.has(replyTo)) answered(message);
  else if (type === 'connected') opened(payload);
  else if (type === 'command.new') arrive({ ...payload, status: 'delivered' }, true);
  else if (type === 'command.status') applyStatus({ at: timestamp, ...payload });
  else if (type === 'command.expired') applyStatus({ at: timestamp, ...payload, status: 'expired' });
  else if (type === 'preferences') prefer(payload);
  else if (type === 'server.draining') {
    Object.assign(link, { leaveAt: Date.now() + payload.reconnectAfterMs, detail: 'the node is draining' });
  } else if (type === 'auth.failed') {
    link.refused = !['unavailable', 'rate_limited'].includes(payload.code);
    complain(payload.code, payload.message ?? 'the node did not accept the token');
  } else if (type === 'error') complain(payload.code, payload.message);
  else conversations.receive(message);
  paint();
}

function answered(message) {
  const onAnswer = link.asides.get(message.replyTo);
  link.asides.delete(message.replyTo);
  onAnswer(message);
}

function opened({ node, sessionId, device: name, resumed }) {
  const { ws } = link;
  const replayed = `${resumed?.replayed ?? 0} replayed${resumed?.complete === false ? ' at once, more may follow' : ''}`;
  link.facts = { Node: node, Session: sessionId, Device: name, Resumed: replayed };
  setPhase('open');
  // A node that accepts and fails again must not be hammered: only a lasting session counts as success.
  setTimeout(() => link.ws === ws && (link.attempt = 0), 5000);
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
setInterval(tick, 1000);
await learnNodes();
if (session) enter();
else paint();
