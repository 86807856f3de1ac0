// The view of conversations: which of the page's views is shown, the list, and how a new conversation begins. Addresses:
// `#conversations`, `#conversation/<id>` and `#new/<user id>` for one that the first message will make.

import * as conversations from './conversations.js';
import { $, button, complain, el, fill, fillRows, onSubmit } from './dom.js';
import * as people from './people.js';
import * as thread from './thread.js';

let me; // the user id of this window
let changed; // has the page painted anew

/** What the address says: the view, and in it a conversation or a user. */
function place() {
  const [view, id] = location.hash.slice(1).split('/');
  if (view === 'conversation' && id) return { isTalk: true, id };
  if (view === 'new' && id) return { isTalk: true, user: id };
  return { isTalk: view === 'conversations' };
}

const go = (address) => { location.hash = address; };
/** To the conversation with a user, or to where one can be begun. */
function goTo(user) {
  const direct = conversations.directWith(user);
  go(direct ? `conversation/${direct.id}` : `new/${user}`);
}

export function start(gate) {
  ({ me, changed } = gate);
  thread.start(gate);
  addEventListener('hashchange', () => {
    changed();
    setTimeout(thread.focus); // after it has been painted
  });
}

/** The next user of this window begins at the beginning. */
export function forget() {
  thread.forget();
  history.replaceState(null, '', location.pathname + location.search);
}

export function paint() {
  const { isTalk, id, user } = place();
  const direct = user && conversations.directWith(user);
  if (direct) return location.replace(`#conversation/${direct.id}`);
  $('desk').hidden = isTalk;
  $('talk').hidden = !isTalk;
  $('talk').dataset.shows = id || user ? 'thread' : 'list';
  document.body.classList.toggle('filled', isTalk);
  for (const [name, isHere] of [['to-desk', !isTalk], ['to-talk', isTalk]]) $(name).ariaCurrent = isHere ? 'page' : null;
  const unread = conversations.unread();
  $('unread-count').textContent = unread;
  $('unread-count').hidden = !unread;
  conversations.open(isTalk ? id : undefined);
  if (!isTalk) return thread.paint();
  paintList(id);
  paintBeginning();
  return thread.paint(id && conversations.get(id), user);
}

function paintList(shown) {
  const items = conversations.listed();
  const [live, archived] = [items.filter((each) => !each.isArchived), items.filter((each) => each.isArchived)];
  fillRows($('conversations'), [...live, ...archived].map((each) => summary(each, shown)), summaryRow);
  $('conversations-empty').hidden = items.length > 0;
}

function summary(conversation, shown) {
  const { id: key, isArchived } = conversation;
  const { senderId, senderName, senderType, content, isDeleted, createdAt } = conversation.newest() ?? {};
  const who = senderType === 'SYSTEM' || !senderId ? '' : `${senderId === me() ? 'you' : senderName}: `;
  const last = isDeleted ? 'a deleted message' : content ?? '';
  const typists = conversation.typists();
  const text = typists.length ? `${typists.join(', ')} …` : `${who}${last.slice(0, 120)}`;
  return { key, name: conversation.name(), isArchived, text, createdAt, unread: conversation.unread(), isShown: key === shown };
}

/** The time of today, the day of what is older. */
const briefly = (at) => {
  const date = new Date(at);
  const isToday = date.toDateString() === new Date().toDateString();
  const text = isToday ? date.toLocaleTimeString([], { timeStyle: 'short' })
    : date.toLocaleDateString([], { dateStyle: 'short' });
  return el('time', { dateTime: at, title: date.toLocaleString() }, text);
};

function summaryRow({ key, name, isArchived, text, createdAt, unread, isShown }) {
  const span = (className, ...children) => el('span', { className }, ...children);
  const count = unread >= 1000 ? '999+' : `${unread}`; // the server counts no further
  const link = el('a', { href: `#conversation/${key}`, ariaCurrent: isShown ? 'true' : null },
    span('head', el('b', {}, name), isArchived ? span('tag', 'archived') : null, createdAt ? briefly(createdAt) : null),
    span('foot', span('last', text), unread ? span('count new', count, span('unseen', ' unread')) : null));
  return el('li', { className: isArchived ? 'over' : '' }, link);
}

// --- New ones ---
function paintBeginning() {
  const others = people.names().filter((name) => people.idOf(name) !== me());
  fill($('direct-people'), others, (name) =>
    el('li', {}, button(name, () => goTo(people.idOf(name)), { title: `Talk to ${people.idOf(name)}` })));
  const ticked = new Set(new FormData($('begin-group')).getAll('members'));
  fill($('group-people'), others, (name) => {
    const value = people.idOf(name);
    const box = el('input', { type: 'checkbox', name: 'members', value, checked: ticked.has(value) });
    return el('label', { className: 'tick' }, box, name);
  });
}

onSubmit('begin-direct', ({ with: text }) => {
  const user = people.resolve(text.trim());
  if (!user) return complain('bad_request', `“${text}” is neither a contact nor a user id`);
  if (user === me()) return complain('bad_request', 'that is you');
  $('begin-direct').reset();
  return goTo(user);
});

onSubmit('begin-group', async ({ title, others }) => {
  const texts = others.split(/[\s,]+/).filter(Boolean);
  const unknown = texts.find((text) => !people.resolve(text));
  if (unknown) return complain('bad_request', `“${unknown}” is neither a contact nor a user id`);
  const ids = new Set([...new FormData($('begin-group')).getAll('members'), ...texts.map(people.resolve)]);
  if (!ids.size) return complain('bad_request', 'a group needs somebody else');
  const id = await conversations.makeGroup(title.trim(), [...ids]);
  $('begin-group').reset();
  $('begin').open = false;
  return go(`conversation/${id}`);
});
