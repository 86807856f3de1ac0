// Who takes part in the open conversation, and what may be done about it. What a user may not do is not offered; the
// server decides.

import * as conversations from './conversations.js';
import { $, button, complain, el, fillRows, onSubmit } from './dom.js';
import * as people from './people.js';

let gate; // {me, changed}
let shown;

export const start = (given) => { gate = given; };
/** Whether this user manages the group. */
export const isAdmin = ({ type, participant }) => type === 'GROUP' && participant(gate.me())?.role === 'ADMIN';

export function close() {
  $('manage').ariaExpanded = 'false';
}

export function paint(conversation) {
  shown = conversation;
  const isOpen = $('manage').ariaExpanded === 'true' && Boolean(conversation?.isKnown) && !conversation.isGone;
  $('panel').hidden = !isOpen;
  if (!isOpen) return;
  const mayManage = isAdmin(conversation);
  const isGroup = conversation.type === 'GROUP';
  const rows = conversation.participants.map(({ userId, username, role }) => {
    const [isMe, isContact] = [userId === gate.me(), Boolean(people.nameOf(userId))];
    return { key: userId, username, role, isMe, isContact, isGroup, mayManage };
  });
  fillRows($('participants'), rows, participantRow);
  const hidden = conversation.participantCount - rows.length;
  $('more-participants').textContent = hidden > 0 ? `and ${hidden} more` : '';
  const mayChange = mayManage && !conversation.isArchived;
  $('rename').hidden = $('add-participant').hidden = !mayChange;
  $('leave').hidden = !isGroup;
  $('archive').hidden = isGroup && !mayManage;
  $('archive').textContent = conversation.isArchived ? 'Unarchive' : 'Archive';
}

function participantRow({ key: userId, username, role, isMe, isContact, isGroup, mayManage }) {
  const path = `/participants/${userId}`;
  const other = role === 'ADMIN' ? 'member' : 'admin';
  const act = (label, ariaLabel, action) => button(label, action, { ariaLabel });
  const remember = () => gate.remember(username, userId);
  const promote = () => attempt('PATCH', path, { role: other.toUpperCase() });
  const actions = [
    !isMe && !isContact && act('Add to contacts', `Add ${username} to contacts`, remember),
    !isMe && mayManage && act(`Make ${other}`, `Make ${username} ${other}`, promote),
    !isMe && mayManage && act('Remove', `Remove ${username}`, () => attempt('DELETE', path)),
  ].filter(Boolean);
  return el('li', {}, el('b', {}, isMe ? `${username} (you)` : username),
    isGroup ? el('span', { className: 'tag' }, role.toLowerCase()) : null,
    el('span', { className: 'actions' }, ...actions));
}

const attempt = (method, path, body) =>
  conversations.change(shown.id, method, path, body).catch(({ code, message }) => complain(code ?? 'failed', message));

onSubmit('rename', async ({ title }) => {
  await conversations.change(shown.id, 'PATCH', '', { title: title.trim() });
  $('rename').reset();
});

onSubmit('add-participant', async ({ who }) => {
  const userId = people.resolve(who.trim());
  if (!userId) return complain('bad_request', `“${who}” is neither a contact nor a user id`);
  await conversations.change(shown.id, 'POST', '/participants', { userId });
  return $('add-participant').reset();
});

$('manage').onclick = () => {
  $('manage').ariaExpanded = $('manage').ariaExpanded === 'true' ? 'false' : 'true';
  gate.changed();
};
$('leave').onclick = () => attempt('DELETE', `/participants/${gate.me()}`);
$('archive').onclick = () => attempt('POST', shown.isArchived ? '/unarchive' : '/archive');
