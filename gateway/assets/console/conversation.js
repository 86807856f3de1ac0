// One conversation as this window knows it: who takes part, what was said lately, who has read how far. Knows neither the
// network nor the page. Ids of messages grow in the order of the conversation, so all of this goes by comparing them.

const RANK = { SENT: 0, DELIVERED: 1, READ: 2 };
const later = (a = '', b = '') => (a > b ? a : b);

export class Conversation {
  constructor(id, me) {
    Object.assign(this, { id, me, type: '', title: null, isArchived: false, participants: [], participantCount: 0 });
    Object.assign(this, { isKnown: false, isGone: false }); // what the server said of it, if it did
    Object.assign(this, { messages: [], hasStart: false, hasEnd: false }); // without holes; hasEnd: up to the newest
    Object.assign(this, { read: {}, delivered: {}, heard: new Set() }); // user id -> message id; whose receipts came live
    this.counted = { unread: 0, upTo: '' }; // by the server, when `upTo` was the newest message
    this.typing = new Map(); // user id -> when they lapse, in ms
  }

  /** Takes what REST says of it. `isAfresh`: messages may have been missed since those that are known. */
  learn({ type, title, isArchived, participants, participantCount, unreadCount, lastMessage }, isAfresh) {
    Object.assign(this, { type, title, isArchived, participants, participantCount, isKnown: true, isGone: false });
    for (const { userId, lastReadMessageId } of participants) this.advance('read', userId, lastReadMessageId ?? '');
    const upTo = lastMessage?.id ?? '';
    const isLater = ({ id }) => id > upTo;
    if (isAfresh) Object.assign(this, { messages: this.messages.filter(isLater), hasStart: false, hasEnd: false });
    if (upTo < this.counted.upTo) return; // an answer that was overtaken
    this.counted = { unread: unreadCount, upTo };
    this.lastMessage = lastMessage && this.newerOf(this.lastMessage, lastMessage);
  }

  /** Between two states of a message: deleted stays deleted, of two texts the later edit counts. */
  newerOf(known, item) {
    if (known?.id !== item.id) return item;
    const isKept = known.isDeleted || (known.editedAt ?? '') > (item.editedAt ?? '');
    const status = RANK[known.status] > RANK[item.status] ? known.status : item.status;
    return { ...(isKept ? known : item), status };
  }

  /** Takes what came live; false if it is no news. What is older than all that is here is read when it is asked for. */
  hear(item) {
    this.typing.delete(item.senderId);
    const isBefore = this.hasEnd && item.id < this.messages[0]?.id;
    return !isBefore && this.put(item) && item.id > this.counted.upTo;
  }

  /** Puts a message in its place; false if it was there. */
  put(item) {
    const at = this.messages.findLastIndex(({ id }) => id <= item.id);
    const known = this.messages[at];
    if (known?.id !== item.id) this.messages.splice(at + 1, 0, item);
    else this.messages[at] = this.newerOf(known, item);
    return known?.id !== item.id;
  }

  /** Takes a page of the history, newest first, that was asked for with this `before`. */
  takePage({ items, nextCursor }, before) {
    if (before && before !== this.messages[0]?.id) return; // what it goes on from is no longer here
    const isApart = !before && items.at(-1)?.id > (this.messages.at(-1)?.id ?? '');
    if (isApart) Object.assign(this, { messages: [], hasStart: false }); // what is between is not known
    for (const item of items) this.put(item);
    if (!nextCursor) this.hasStart = true;
    if (!before) this.hasEnd = true;
    for (const { status, senderId, id } of items) {
      if (senderId !== this.me || !RANK[status]) continue;
      for (const { userId } of this.others()) this.advance(status === 'READ' ? 'read' : 'delivered', userId, id);
    }
  }

  /** Lets go of old messages. They can be read again. */
  trim(kept) {
    if (this.messages.length > kept) Object.assign(this, { messages: this.messages.slice(-kept), hasStart: false });
  }

  /** An edit or a deletion. */
  change(messageId, news) {
    const apply = (item) => (item?.id === messageId ? this.newerOf(item, { ...item, ...news }) : item);
    this.messages = this.messages.map(apply);
    this.lastMessage = apply(this.lastMessage);
  }

  /** A pointer (`read` or `delivered`) moves forward only. */
  advance(pointer, userId, messageId) {
    this[pointer][userId] = later(this[pointer][userId], messageId);
  }

  /** A receipt that came live. */
  receive(pointer, { userId, messageIds = [], upTo }) {
    this.heard.add(userId);
    this.advance(pointer, userId, [...messageIds, upTo].reduce(later, ''));
  }

  /** Of a large group the server does not tell everybody. */
  hasAll = () => this.participants.length >= this.participantCount;
  others = () => this.participants.filter(({ userId }) => userId !== this.me);
  participant = (id) => this.participants.find(({ userId }) => userId === id);
  isOfOther = ({ senderId, senderType }) => senderId !== this.me && senderType !== 'SYSTEM';
  newest = () => (this.messages.at(-1)?.id > (this.lastMessage?.id ?? '') ? this.messages.at(-1) : this.lastMessage);
  newestId = () => later(this.newest()?.id, this.counted.upTo);

  /** Whether everything behind the own read pointer is here. */
  hasUnread = () => this.hasEnd && (this.hasStart || this.messages[0]?.id <= (this.read[this.me] ?? ''));

  /** What others wrote behind the own read pointer. */
  unread() {
    const pointer = this.read[this.me] ?? '';
    if (this.isGone || pointer >= this.newestId()) return 0;
    const after = (id) => this.messages.filter((item) => item.id > id && this.isOfOther(item) && !item.isDeleted).length;
    if (this.hasUnread()) return after(pointer);
    return (pointer < this.counted.upTo ? this.counted.unread : 0) + after(later(this.counted.upTo, pointer));
  }

  /** The own read pointer moves. */
  readUpTo(id) {
    this.advance('read', this.me, id);
    if (this.hasUnread()) this.counted = { unread: this.unread(), upTo: this.newestId() };
  }

  /** How far an own message has come: as far as the participant who is furthest behind. */
  statusOf({ id, status = 'SENT' }) {
    const others = this.others().map(({ userId }) => [this.read[userId] ?? '', this.delivered[userId] ?? '']);
    const told = !others.length || !this.hasAll() ? 'SENT' : others.every(([read]) => read >= id) ? 'READ'
      : others.every((pointers) => pointers.reduce(later) >= id) ? 'DELIVERED' : 'SENT';
    return RANK[told] > RANK[status] ? told : status;
  }

  /** Whether statuses depend on participants of whom nothing was heard since the history was read. */
  isUnsure() {
    const last = this.messages.findLast(({ senderId, senderType }) => senderId === this.me && senderType !== 'SYSTEM');
    const isOpen = !this.hasAll() || this.others().some(({ userId }) => !this.heard.has(userId));
    return last && isOpen && this.statusOf(last) !== 'READ';
  }

  /** What people call it: its title or else the others' names. */
  name() {
    const names = [...this.others().map(({ username }) => username), ...(this.hasAll() ? [] : ['…'])];
    return this.title || names.join(', ') || 'nobody else';
  }

  nameOf(id) {
    const last = this.messages.findLast(({ senderId }) => senderId === id); // who has left
    return this.participant(id)?.username ?? last?.senderName ?? 'somebody';
  }

  /** Who is typing now. */
  typists() {
    const isTyping = ([id, until]) => id !== this.me && until > Date.now();
    return [...this.typing].filter(isTyping).map(([id]) => this.nameOf(id));
  }
}
