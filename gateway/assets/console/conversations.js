// All conversations of this user: listed by REST, kept live by what comes over the socket. Knows nothing of the page
// around; the `gate` that it is given at the start asks REST and the socket for it.

import { Conversation } from './conversation.js';

const PAGE = 50; // messages
const MAX_LISTED = 1000; // conversations
const MAX_IDLE = 200; // messages kept of a conversation that is not open
const TYPING_LAPSES_MS = 7000; // the server's 6 s and a little for the way
const GATHER_MS = 300; // receipts and questions of that time become one
const AGAIN_MS = 5000;

let gate; // {me, myName, nameOf, ask, aside, requests, announce, complain, changed}
let known = new Map();
let opened; // the id of the conversation that is shown
let held = []; // puts in own messages that came before the answer to the request that may have made them
let unsent = []; // messages that were refused: {id, conversationId?, targetUser?, message, problem}
const owed = new Map(); // `<type> <conversation>` -> the message id up to which to confirm
const looking = new Set(); // ids of conversations that are asked for soon
const timers = {};

export const start = (given) => { gate = given; };
export const listed = () => [...known.values()].filter(({ isKnown, isGone }) => isKnown && !isGone)
  .sort((a, b) => (b.newestId() || b.id).localeCompare(a.newestId() || a.id));
export const get = (id) => known.get(id);
export const directWith = (user) => listed().find((each) => each.type === 'DIRECT' && each.others()[0]?.userId === user);
export const unread = () => listed().filter((each) => !each.isArchived && each.unread() > 0).length;

export const refused = () => unsent;
export const recallRefused = (list) => { unsent = list; };
export function discard(id) {
  unsent = unsent.filter((each) => each.id !== id);
  gate.changed();
}

export function forget() {
  known = new Map();
  [held, unsent, opened] = [[], [], undefined];
  for (const each of [owed, looking]) each.clear();
  for (const name of Object.keys(timers)) stop(name);
}

function stop(name) {
  clearTimeout(timers[name]);
  delete timers[name];
}
/** Does it soon, once for all who ask in the meantime. */
function soon(name, wait, action) {
  timers[name] ??= setTimeout(() => {
    delete timers[name];
    action();
  }, wait);
}

/** REST, for the user of this moment: `then` is not called once there is another. */
async function ask(method, path, then, otherwise) {
  const user = gate.me();
  const [answer, error] = await gate.ask(method, path).then((it) => [it], (failure) => [undefined, failure]);
  if (user !== gate.me()) return;
  if (error) otherwise(error);
  else then(answer);
  gate.changed();
}

function touch(id) {
  if (!known.has(id)) known.set(id, new Conversation(id, gate.me()));
  return known.get(id);
}

// --- What is asked for ---
/** The socket is open, perhaps again: whatever does not come by the user's own log may have been missed. */
export function connected() {
  gate.aside('subscribe', { topics: ['conversation'] }, complainOfRefusal);
  for (const each of known.values()) each.hasEnd = false;
  list({ isAfresh: true });
  if (opened) hearTyping('subscribe', opened);
  if (opened) loadNewest(touch(opened));
  confirmOwed();
}

function complainOfRefusal({ type, payload }) {
  if (type === 'error') return gate.complain(payload.code, payload.message);
  for (const { topic, code } of payload.refused ?? []) gate.complain(code, `no subscription to “${topic}”`);
  return undefined;
}

const hearTyping = (type, id) =>
  gate.aside(type, { topics: ['typing'], filters: { conversation_id: id } }, () => {});

/** Lists what there is, page by page. `isAfresh`: messages may have been missed. */
export function list({ isAfresh = false, cursor, seen = new Set() } = {}) {
  const query = `limit=100${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`;
  ask('GET', `/conversations?${query}`, ({ items, nextCursor }) => {
    for (const item of items) {
      seen.add(item.id);
      const conversation = touch(item.id);
      conversation.learn(item, isAfresh && item.id !== opened);
      confirmDelivered(conversation);
      if (item.id === opened && !conversation.hasAll()) lookAt(opened); // a list names few
    }
    if (nextCursor && seen.size < MAX_LISTED) return list({ isAfresh, cursor: nextCursor, seen });
    for (const each of known.values()) if (!nextCursor && !seen.has(each.id)) lookAt(each.id);
    return undefined;
  }, () => soon('list', AGAIN_MS, () => list({ isAfresh })));
}

/** Learns soon what a conversation is now: its participants, its title, whether this user still takes part. */
function lookAt(id) {
  looking.add(id);
  soon('look', GATHER_MS, () => {
    for (const each of looking) look(each);
    looking.clear();
  });
}

function look(id) {
  ask('GET', `/conversations/${id}`, (view) => {
    const { isArchived } = touch(id);
    touch(id).learn(view);
    if (isArchived && !view.isArchived && id === opened) hearTyping('subscribe', id); // archiving ended it
  }, ({ status }) => {
    if (status === 404 || status === 403) lose(id);
    else if (known.has(id)) setTimeout(lookAt, AGAIN_MS, id);
  });
}

function lose(id) {
  if (id === opened) touch(id).isGone = true;
  else known.delete(id);
}

/** Shows this one from now on; undefined for none. */
export function open(id) {
  if (id === opened) return;
  if (opened) {
    hearTyping('unsubscribe', opened);
    get(opened)?.trim(MAX_IDLE);
    if (get(opened)?.isGone) known.delete(opened);
  }
  opened = id;
  if (!id) return;
  hearTyping('subscribe', id);
  const conversation = touch(id);
  if (!conversation.isKnown || !conversation.hasAll()) look(id);
  if (!conversation.hasEnd) loadNewest(conversation);
}

const loadNewest = (conversation) => load(conversation);
export const loadOlder = (conversation) => conversation.hasStart || load(conversation, conversation.messages[0]?.id);

function load(conversation, before) {
  if (conversation.isLoading) return;
  conversation.isLoading = true;
  const query = `limit=${PAGE}${before ? `&before=${before}` : ''}`;
  ask('GET', `/conversations/${conversation.id}/messages?${query}`, (page) => {
    conversation.isLoading = false;
    conversation.takePage({ ...page, items: page.items.filter((item) => !hold(conversation, item)) }, before);
    if (!conversation.hasEnd) loadNewest(conversation); // the socket was opened anew in the meantime
  }, ({ status, code, message }) => {
    conversation.isLoading = false;
    if (status === 404 || status === 403) return lose(conversation.id);
    gate.complain(code, message);
    return setTimeout(() => conversation.id === opened && load(conversation, before), AGAIN_MS);
  });
}

/** Keeps a message back that is pending in this window, until that is settled. */
function hold(conversation, item) {
  const [asked] = gate.requests();
  const isSame = asked?.type === 'chat.message' && item.content === asked.payload.message;
  const isPending = isSame && item.senderId === gate.me();
  if (isPending) held.push(() => conversation.put(item));
  return isPending;
}

/** Messages asked for and not yet accepted, or refused, in this conversation or to this user. */
export function pending(conversation, user) {
  const isHere = ({ conversationId, targetUser }) =>
    (conversationId ? conversationId === conversation?.id : targetUser === user);
  const asked = gate.requests().filter(({ type, payload }) => type === 'chat.message' && isHere(payload));
  return [...unsent.filter(isHere), ...asked.map(({ id, payload }) => ({ id, ...payload }))];
}

/** A change over REST; what came of it is looked at right away. */
export async function change(id, method, path, body) {
  const answer = await gate.ask(method, `/conversations/${id}${path}`, body);
  look(id);
  return answer;
}

export async function makeGroup(title, participantIds) {
  const view = await gate.ask('POST', '/conversations', { type: 'GROUP', participantIds, ...(title && { title }) });
  touch(view.id).learn(view);
  return view.id;
}

// --- Confirmations: the furthest per conversation, repeated until one is answered ---
/** This user has seen everything up to this message. */
export function confirmRead(conversation, id) {
  if (id <= (conversation.read[gate.me()] ?? '')) return;
  conversation.readUpTo(id);
  owe('mark.read', conversation.id, id);
  gate.changed();
}

function confirmDelivered(conversation) {
  const newest = conversation.newest();
  const had = [conversation.delivered[gate.me()], conversation.read[gate.me()]];
  if (!newest || !conversation.unread() || had.some((pointer) => pointer >= newest.id)) return;
  conversation.advance('delivered', gate.me(), newest.id);
  owe('mark.delivered', conversation.id, newest.id);
}

function owe(type, id, upTo) {
  const key = `${type} ${id}`;
  if (upTo > (owed.get(key) ?? '')) owed.set(key, upTo);
  soon('confirm', GATHER_MS, confirmOwed);
}

function confirmOwed() {
  for (const [key, upTo] of owed) {
    const [type, conversationId] = key.split(' ');
    const isSent = gate.aside(type, { conversationId, upTo }, ({ type: answer, payload }) => {
      if (answer !== 'lost' && !['rate_limited', 'unavailable'].includes(payload.code)) return;
      if (upTo > (owed.get(key) ?? '')) owed.set(key, upTo);
      soon('confirm', payload.retryAfterMs ?? AGAIN_MS, confirmOwed);
    });
    if (isSent) owed.delete(key);
  }
}

// --- What comes in ---
const HANDLERS = {
  'message.new': arrive,
  'message.edited': ({ messageId, conversationId, content, editedAt }, at) =>
    get(conversationId)?.change(messageId, { content, editedAt: editedAt ?? at }),
  'message.deleted': ({ messageId, conversationId }) =>
    get(conversationId)?.change(messageId, { content: '', isDeleted: true }),
  'message.delivered': (receipt) => confirmed('delivered', receipt),
  'message.read': (receipt) => confirmed('read', receipt),
  'typing.start': ({ conversationId, userId }) => {
    get(conversationId)?.typing.set(userId, Date.now() + TYPING_LAPSES_MS);
    setTimeout(gate.changed, TYPING_LAPSES_MS + 100);
  },
  'typing.stop': ({ conversationId, userId }) => get(conversationId)?.typing.delete(userId),
  // Unasked for: a right was lost.
  unsubscribed: ({ filters }) => filters?.conversation_id && lookAt(filters.conversation_id),
};

/** What there is to hear of conversations. */
export const events = Object.keys(HANDLERS);

/** Takes a frame; false if it is not about conversations. */
export function receive({ type, payload, timestamp }) {
  if (!Object.hasOwn(HANDLERS, type)) return false;
  HANDLERS[type](payload, timestamp);
  return true;
}

/** A message that came live, as the history has it. */
const asItem = ({ messageId, change: _, ...rest }) =>
  ({ id: messageId, status: 'SENT', isDeleted: false, editedAt: null, ...rest });

function arrive(message) {
  const { conversationId, senderId, senderType } = message;
  const { payload: awaited, type } = gate.requests()[0] ?? {};
  const isAwaited = type === 'chat.message' && (awaited.targetUser || awaited.conversationId === conversationId);
  if (isAwaited && senderId === gate.me() && senderType !== 'SYSTEM') held.push(() => take(message));
  else take(message);
}

function take(message) {
  const { conversationId, senderName, senderType, content } = message;
  const conversation = touch(conversationId);
  const isNew = conversation.hear(asItem(message));
  if (conversationId !== opened) conversation.trim(MAX_IDLE);
  if (message.change || senderType === 'SYSTEM' || !conversation.isKnown) lookAt(conversationId);
  if (!isNew || !conversation.isOfOther(message)) return;
  confirmDelivered(conversation);
  gate.announce(`${senderName}: ${content}`);
}

function confirmed(pointer, receipt) {
  const conversation = get(receipt.conversationId);
  conversation?.receive(pointer, receipt);
  if (conversation && receipt.userId === gate.me() && !conversation.hasUnread()) lookAt(conversation.id); // read elsewhere
  if (receipt.conversationId !== opened || !conversation.isUnsure() || conversation.others().length < 2) return;
  soon('statuses', 2000, () => opened && loadNewest(touch(opened)));
}

/** Takes the answer to a kept request about a message; false if it was about something else. */
export function settle({ id, type: asked, payload: { conversationId, targetUser, message } }, { type, payload, timestamp }) {
  if (asked === 'message.edit' && type !== 'error') return true; // the new text comes as it does to everybody
  if (asked !== 'chat.message') return type !== 'error' && receive({ type, payload, timestamp });
  for (const putIn of held.splice(0)) putIn();
  if (type === 'error') {
    unsent.push({ id, conversationId, targetUser, message, problem: `${payload.code} – ${payload.message}` });
    gate.announce(`Not sent: ${payload.message}`);
    if (conversationId) lookAt(conversationId);
    return true;
  }
  const conversation = touch(payload.conversationId);
  const me = { userId: gate.me(), username: gate.myName(), role: 'MEMBER' };
  if (!conversation.isKnown && targetUser) {
    const other = { userId: targetUser, username: gate.nameOf(targetUser), role: 'MEMBER' };
    Object.assign(conversation, { type: 'DIRECT', isKnown: true, participants: [me, other] });
    lookAt(conversation.id);
  }
  const said = { senderId: me.userId, senderName: me.username, senderType: 'USER', messageType: 'TEXT', content: message };
  conversation.put(asItem({ ...payload, ...said, files: [] }));
  return true;
}
