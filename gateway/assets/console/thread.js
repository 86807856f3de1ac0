// The conversation that is open: its messages, newest at the bottom, and what this user writes. It keeps the place that is
// looked at while messages come and go, and confirms as read what has been in sight.

import * as conversations from './conversations.js';
import { $, announce, button, clock, complain, el, fillRows, onSubmit, submitOnEnter } from './dom.js';
import * as participants from './participants.js';
import * as people from './people.js';

const MAX_CONTENT_BYTES = 16 * 1024;
const MAX_ROWS = 400; // while the end is looked at; who scrolls up gets more
const NEAR_PX = 40; // so close counts as at the end
const AHEAD_PX = 300; // older messages are asked for when only so much is above
const TYPING_EVERY_MS = 3000; // the server lets typing lapse after 6 s

let gate; // {me, request, requests, aside, changed}
let shown; // the conversation, if there is one yet
let withUser; // whom the first message will be for
let key; // of the one or the other
let isAtEnd = true;
let editing; // the id of the own message that is being changed
let doomed; // the id of the message whose deletion is to be confirmed
let typedAt = 0; // when the others were told last, in ms
const drafts = new Map(); // by key

export function start(given) {
  gate = given;
  participants.start(given);
}

export const forget = () => drafts.clear();

/** To where one can write; on a touch screen not, as that would open its keyboard. */
export function focus() {
  if ($('thread').hidden) return;
  (matchMedia('(hover: hover)').matches && !$('say').hidden ? $('said') : $('thread-title')).focus();
}

export function paint(conversation, user) {
  const next = conversation?.id ?? user;
  // The first message has made the conversation: what is written goes on there.
  if (next !== key) change(next, key && partnerIn(conversation) === key);
  [shown, withUser] = [conversation, user];
  $('thread').hidden = !next;
  $('no-thread').hidden = Boolean(next);
  if (!next) return;
  const anchor = firstInSight();
  paintBar();
  paintRows();
  paintWriting();
  keepPlace(anchor);
  lookAround();
}

const partnerIn = (conversation) => (conversation?.type === 'DIRECT' ? conversation.others()[0]?.userId : undefined);

function change(next, isSame) {
  drafts.set(key, editing ? '' : $('said').value);
  if (!isSame) $('said').value = drafts.get(next) ?? '';
  drafts.delete(next);
  [key, isAtEnd, editing, doomed, typedAt] = [next, true, undefined, undefined, 0];
  participants.close();
}

function paintBar() {
  const name = shown ? (shown.isKnown ? shown.name() : '…') : people.nameOf(withUser) ?? withUser;
  if ($('thread-title').textContent !== name) $('thread-title').textContent = name;
  const facts = !shown ? 'Your first message begins the conversation.'
    : shown.isGone ? 'You do not take part in it, or it does not exist.'
      : [shown.type === 'GROUP' && `${shown.participantCount} participants`, shown.isArchived && 'archived']
        .filter(Boolean).join(' – ');
  $('thread-facts').textContent = facts;
  $('manage').hidden = !shown?.isKnown || shown.isGone;
  participants.paint(shown);
}

// --- The messages ---
function paintRows() {
  const { messages = [], hasStart, isLoading } = shown ?? { hasStart: true };
  if (isAtEnd) shown?.trim(MAX_ROWS);
  const changes = gate.requests().filter(({ payload }) => payload.messageId);
  const changing = new Map(changes.map(({ type, payload }) => [payload.messageId, type]));
  const days = messages.map(({ createdAt }) => new Date(createdAt).toDateString());
  const items = messages.map((message, i) => rowItem(message, days[i] !== days[i - 1], changing.get(message.id)));
  fillRows($('message-rows'), shown?.isGone ? [] : items, messageRow);
  const pending = conversations.pending(shown, withUser ?? partnerIn(shown));
  fillRows($('unsent-rows'), pending.map((each) => ({ ...each, key: each.id })), unsentRow);
  $('older').hidden = Boolean(hasStart) || Boolean(shown?.isGone);
  $('older').textContent = isLoading ? 'Loading…' : 'Older messages';
}

/** All that a row says and offers. `change` is the request that waits to change it. */
function rowItem(message, isNewDay, change) {
  const { id: key, senderId, senderName, senderType, content, createdAt, editedAt, isDeleted, files = [] } = message;
  const isSystem = senderType === 'SYSTEM';
  const isMine = senderId === gate.me() && !isSystem;
  const isWritable = !isSystem && !isDeleted && !shown.isArchived && !change;
  return {
    ...{ key, senderName, senderType, content, createdAt, editedAt, isDeleted, isSystem, isMine, isNewDay, change },
    files: files.map(({ filename }) => filename),
    status: isMine ? shown.statusOf(message) : '',
    mayEdit: isMine && isWritable,
    mayDelete: isWritable && (isMine || participants.isAdmin(shown)),
    isDoomed: key === doomed,
  };
}

function messageRow(item) {
  const { key: id, senderName, senderType, content, createdAt, isDeleted, isMine, files, status } = item;
  const date = new Date(createdAt).toLocaleDateString([], { dateStyle: 'full' });
  const day = item.isNewDay ? el('p', { className: 'day' }, date) : null;
  if (item.isSystem) {
    return el('li', { className: 'system' }, day, el('p', { className: 'content' }, content, ' ', clock(createdAt)));
  }
  const head = el('div', { className: 'head' }, el('b', {}, isMine ? 'You' : senderName),
    senderType === 'BOT' ? el('span', { className: 'tag' }, 'bot') : null, clock(createdAt));
  const note = { 'message.edit': 'changing …', 'message.delete': 'deleting …' }[item.change];
  const facts = isDeleted ? [] : [item.editedAt && el('span', {}, 'edited'), note, statusMark(status)].filter(Boolean);
  const actions = [item.mayEdit && button('Edit', () => edit(id)),
    item.mayDelete && button(item.isDoomed ? 'Really delete?' : 'Delete', () => remove(id))].filter(Boolean);
  const text = isDeleted ? 'This message was deleted.' : content;
  const row = el('li', { className: isMine ? 'mine' : '', tabIndex: -1 }, day, el('div', { className: 'bubble' }, head,
    el('p', { className: `content${isDeleted ? ' gone' : ''}` }, text),
    ...(isDeleted ? [] : files.map((name) => el('p', { className: 'hint' }, `File: ${name}`))),
    facts.length ? el('div', { className: 'foot' }, ...facts) : null,
    actions.length ? el('div', { className: 'actions' }, ...actions) : null));
  row.dataset.status = status;
  return row;
}

function statusMark(status) {
  const mark = { SENT: '✓ sent', DELIVERED: '✓✓ delivered', READ: '✓✓ read' }[status];
  return mark ? el('span', { className: `receipt ${status.toLowerCase()}` }, mark) : null;
}

/** A message that the server has not accepted: not yet, or not at all. */
function unsentRow({ id, conversationId, targetUser, message, problem }) {
  const again = () => {
    conversations.discard(id);
    gate.request('chat.message', { ...(conversationId ? { conversationId } : { targetUser }), message });
  };
  const discard = () => conversations.discard(id);
  const foot = problem ? [el('span', { className: 'problem' }, `not sent: ${problem}`),
    button('Try again', again), button('Discard', discard)] : ['to be sent'];
  const row = el('li', { className: 'mine', tabIndex: -1 }, el('div', { className: 'bubble' },
    el('div', { className: 'head' }, el('b', {}, 'You')),
    el('p', { className: 'content' }, message),
    el('div', { className: 'foot' }, ...foot)));
  row.dataset.status = problem ? 'failed' : 'sending';
  return row;
}

function edit(id) {
  const { content } = shown.messages.find((message) => message.id === id);
  [editing, doomed] = [id, undefined];
  $('said').value = content;
  gate.changed();
  $('said').focus();
}

function stopEditing() {
  editing = undefined;
  $('said').value = '';
  gate.changed();
}

/** The first press asks, the second one deletes. */
function remove(id) {
  if (doomed === id) gate.request('message.delete', { messageId: id, conversationId: shown.id });
  doomed = doomed === id ? undefined : id;
  gate.changed();
}

// --- The place that is looked at ---
const scroller = $('messages');

/** The row at the upper edge, and how far it is from there: it stays while others are put in above. */
function firstInSight() {
  const row = [...$('message-rows').children].find((each) => each.offsetTop + each.offsetHeight > scroller.scrollTop);
  return row && { key: row.key, above: row.offsetTop - scroller.scrollTop };
}

function keepPlace(anchor) {
  if (isAtEnd) scroller.scrollTop = scroller.scrollHeight;
  else if (anchor) {
    const row = [...$('message-rows').children].find((each) => each.key === anchor.key);
    if (row && row.offsetTop - scroller.scrollTop !== anchor.above) scroller.scrollTop = row.offsetTop - anchor.above;
  }
}

/** Reads what is in sight, and gets what will soon be. */
function lookAround() {
  $('to-newest').hidden = isAtEnd || !shown?.unread();
  if (!shown?.isKnown || shown.isGone || document.hidden || $('talk').hidden || !scroller.clientHeight) return;
  const bottom = scroller.scrollTop + scroller.clientHeight;
  const isSeen = (row) => row.offsetTop + Math.min(row.offsetHeight, NEAR_PX) <= bottom;
  const seen = [...$('message-rows').children].findLast(isSeen)?.key ?? '';
  const read = shown.messages.findLast((message) => message.id <= seen && shown.isOfOther(message));
  if (read && shown.unread()) conversations.confirmRead(shown, read.id);
  if (shown.hasEnd && !shown.hasStart && scroller.scrollTop < AHEAD_PX) conversations.loadOlder(shown);
}

function toEnd() {
  isAtEnd = true;
  keepPlace();
  lookAround();
}

scroller.onscroll = () => {
  isAtEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_PX;
  lookAround();
};
new ResizeObserver(() => keepPlace()).observe(scroller);
document.addEventListener('visibilitychange', lookAround);
$('to-newest').onclick = toEnd;
$('older').onclick = () => shown && conversations.loadOlder(shown);

// --- What this user writes ---
function paintWriting() {
  const isOpen = !shown?.isGone && !shown?.isArchived;
  $('say').hidden = !isOpen;
  $('read-only').hidden = isOpen || shown.isGone;
  $('editing').hidden = !editing;
  $('say-it').textContent = editing ? 'Save' : 'Send';
  const names = shown?.typists() ?? [];
  $('typing').textContent = names.length ? `${names.join(', ')} ${names.length > 1 ? 'are' : 'is'} typing …` : '';
}

function tellTyping(type) {
  if (!shown?.isKnown || (type === 'typing.stop' && !typedAt)) return;
  typedAt = type === 'typing.start' ? Date.now() : 0;
  gate.aside(type, { conversationId: shown.id }, () => {});
}

onSubmit('say', ({ text }) => {
  if (!text.trim()) return undefined;
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > MAX_CONTENT_BYTES) return complain('too_large', `${bytes} bytes of content, ${MAX_CONTENT_BYTES} are allowed`);
  tellTyping('typing.stop');
  if (editing) {
    if (!gate.request('message.edit', { messageId: editing, conversationId: shown.id, message: text })) return undefined;
    return stopEditing();
  }
  const where = shown ? { conversationId: shown.id } : { targetUser: withUser };
  if (!gate.request('chat.message', { ...where, message: text })) return undefined;
  $('said').value = '';
  isAtEnd = true;
  return $('said').focus();
});

$('said').oninput = () => {
  if (!$('said').value.trim()) tellTyping('typing.stop');
  else if (!editing && Date.now() - typedAt > TYPING_EVERY_MS) tellTyping('typing.start');
};
$('said').onkeydown = (event) => {
  if (event.key === 'Escape' && editing) stopEditing();
  else if (event.key === 'ArrowUp' && !$('said').value) editLast(event);
  else submitOnEnter(event);
};
$('stop-editing').onclick = () => {
  stopEditing();
  $('said').focus();
};

function editLast(event) {
  const isMine = ({ senderId, senderType }) => senderId === gate.me() && senderType !== 'SYSTEM';
  const last = shown?.messages.findLast((message) => isMine(message) && !message.isDeleted);
  if (!last) return;
  event.preventDefault();
  edit(last.id);
  announce('Editing your last message');
}
