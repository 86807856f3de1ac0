// Rendered from gateway/src/dialect/contracts by `make docs`; not written by hand.

/** A frame that answers a request. */
export interface Answer<T extends string, P> {
  type: T;
  /** The `id` of the request. */
  replyTo?: string;
  payload: P;
}

/** A frame of a log: it has a place there, and comes again until it is confirmed. */
export interface Entry<T extends string, P> {
  type: T;
  /** By which duplicates are recognised. */
  id: string;
  topic: Topic;
  epoch: number;
  offset: number;
  payload: P;
}

/** A frame that is told once. */
export interface Live<T extends string, P> {
  type: T;
  payload: P;
}

/** A frame of the events dialect. */
export interface Signal<T extends string, D> {
  type: T;
  data: D;
  /** Milliseconds since 1970. */
  ts: number;
  id?: string;
}

/** What is asked with a request, and what answers it. */
export interface Asked<P, A extends string, R> {
  payload: P;
  answer: A;
  reply: R;
}

/** Everything of a log up to a position was dealt with. */
export interface Ack {
  topic: ConfirmedTopic;
  epoch: number;
  offset: number;
}

/** Whom a command is for: one user, whom its categories reach, or everybody. */
export type Audience = 'user' | 'category' | 'allcast';

/** The token is good. */
export interface AuthSuccess {
  userId: Id;
  /** When the session ends unless it is extended. */
  expiresAt: Time;
}

/** A token; on an open session of the same user it extends that. */
export interface Authenticate {
  token: string;
}

/** The server pings; a socket that stays silent for so many intervals is closed. */
export interface Beats {
  intervalMs: number;
  maxMissed: number;
}

/** Takes a call. */
export interface CallAnswer {
  callId: Id;
  sdp: string;
}

/** What the callee answered. */
export interface CallAnswered {
  callId: Id;
  from: Id;
  to: Id;
  sdp: string;
  at: Time;
}

/** A way by which the other party may be reached. */
export interface CallCandidate {
  callId: Id;
  from: Id;
  to: Id;
  /** As the other party wrote it; null says that there are no more. */
  candidate: unknown;
  at: Time;
}

/** Why a call ended. */
export type CallEnd = 'hangup' | 'declined' | 'busy' | 'offline' | 'timeout' | 'answered_elsewhere' | 'glare' | 'disconnected';

/** The call is over. */
export interface CallEnded {
  callId: Id;
  from: Id;
  to: Id;
  reason: CallEnd;
  at: Time;
}

/** Ends a call, or does not take it. */
export interface CallHangup {
  callId: Id;
  reason?: HangupReason;
}

/** A way by which the caller of this may be reached. */
export interface CallIce {
  callId: Id;
  /** Passed on as it is; null says that there are no more. */
  candidate: unknown;
}

/** Somebody calls. */
export interface CallIncoming {
  callId: Id;
  /** The other party. */
  from: Id;
  /** Who is told. */
  to: Id;
  at: Time;
  /** What is to be transmitted, as the caller wrote it. */
  media?: unknown;
}

/** Names a call. */
export interface CallNamed {
  callId: Id;
}

/** Calls a user. */
export interface CallOffer {
  targetUser: Id;
  /** A session description, passed on as it is. */
  sdp: string;
  /** The server makes one if it is absent. */
  callId?: Id;
  /** What is to be transmitted, passed on as it is. */
  media?: unknown;
}

/** What the caller offers. */
export interface CallOffered {
  callId: Id;
  from: Id;
  to: Id;
  sdp: string;
  at: Time;
  media?: unknown;
}

/** The call is over. */
export interface CallOver {
  callId: Id;
  reason: CallEnd;
}

/** What changed in a conversation. */
export type Change = { what: 'created' } | { userIds: Id[]; what: 'joined' } | { userId: Id; what: 'left' } | { userId: Id; what: 'removed' } | { title: string; what: 'renamed' } | { userId: Id; role: ParticipantRole; what: 'role' } | { userId: Id; until: Time | null; what: 'muted' } | { what: 'archived' } | { what: 'unarchived' };

/** The message stands in the conversation's log. */
export interface ChatAccepted {
  messageId: Id;
  conversationId: Id;
  createdAt: Time;
}

/** The message stands in the conversation's log. */
export interface ChatAck {
  messageId: Id;
  /** The SEND's `client-id`, else its receipt; null without either. */
  clientId: string | null;
  status: MessageStatus;
}

/** A message to a conversation, or to a user. */
export interface ChatMessage {
  /** Not empty, at most 16 KiB of UTF-8, without NUL. */
  message: string;
  /** This or `targetUser`. */
  conversationId?: Id;
  durability?: Durability;
  files?: FileRef[];
  messageType?: SaidType;
  targetUser?: Id;
}

/** A message to a conversation, or to a user. */
export interface ChatSend {
  content: string;
  /** This or `targetUser`. */
  conversationId?: Id;
  durability?: Durability;
  files?: FileRef[];
  messageType?: SaidType;
  targetUser?: Id;
}

/** Whether somebody types. */
export interface ChatTyping {
  conversationId: Id;
  isTyping: boolean;
}

/** Stable, the same in every dialect and over REST. */
export type Code = 'bad_request' | 'unknown_type' | 'unauthorized' | 'forbidden' | 'not_found' | 'conflict' | 'too_large' | 'rate_limited' | 'unavailable' | 'internal';

/** The command is accepted. */
export interface CommandAccepted {
  commandId: Id;
  status: CommandState;
}

/** The recipient is done with it. */
export interface CommandCompleted {
  commandId: Id;
  completedAt: Time;
}

/** A command for another user, or for many. */
export interface CommandCreate {
  commandType: CommandType;
  /** At most 16 KiB of UTF-8, without NUL. */
  content: string;
  /** `user` if absent. */
  broadcast?: Audience;
  categories?: string[];
  /** Anything; passed through as it was written. */
  data?: unknown;
  durability?: Durability;
  /** At most two weeks ahead. */
  expiresAt?: Time;
  files?: FileRef[];
  /** The recipient; of a command for one user only. */
  targetUser?: Id;
}

/** Nobody completed it in time; told to the recipients' devices. */
export interface CommandExpired {
  commandId: Id;
  at: Time;
  broadcast?: Audience;
  recipientId?: Id;
}

/** Names a command. */
export interface CommandNamed {
  commandId: Id;
}

/** A command for the receiver of this. */
export interface CommandNew {
  commandId: Id;
  createdAt: Time;
  commandType: CommandType;
  content: string;
  senderId: Id;
  /** As it was when the command was sent. */
  senderName: string;
  broadcast: Audience;
  categories: string[];
  files: FileRef[];
  expiresAt: Time;
  /** What the sender added. */
  data?: unknown;
  /** Of a command for one user. */
  recipientId?: Id;
}

/** A page; what has not ended runs oldest first, what has ended newest first. */
export interface CommandQueue {
  commands: QueuedCommand[];
  /** Absent at the end. */
  nextCursor?: string;
}

/** A page of the caller's queue, or of what became of it. */
export interface CommandQueueAsked {
  /** The `nextCursor` of the page before. */
  cursor?: string;
  limit?: number;
  /** Only commands made at or after this time. */
  since?: Time;
  /** Without: those that have not ended. */
  status?: CommandState;
}

/** How far a command has come; the last three are final. */
export type CommandState = 'pending' | 'delivered' | 'completed' | 'expired' | 'cancelled';

/** A command has come further: told to the sender of a direct one for every state, and to the recipients' devices when it ended. */
export interface CommandStatus {
  commandId: Id;
  status: CommandState;
  at: Time;
  /** Present of a broadcast. */
  broadcast?: Audience;
  /** Absent where a broadcast ended for everybody. */
  recipientId?: Id;
}

/** What sort of command it is. */
export type CommandType = 'message' | 'task' | 'system';

/** A log that clients confirm. */
export type ConfirmedTopic = 'user' | 'broadcast';

/** The session is open. First after the token was accepted. */
export interface Connected {
  sessionId: Id;
  userId: Id;
  device: string;
  node: string;
  heartbeat: Beats;
  limits: Limits;
  resumed: Resumed;
}

/** Names a conversation. */
export interface ConversationNamed {
  conversationId: Id;
}

/** The node is going away: connect again after that long. */
export interface Draining {
  reconnectAfterMs: number;
}

/** What is known of a message before its sender is told that it is accepted. Less than the deployment's level counts as that. */
export type Durability = 'memory' | 'durable' | 'stored';

/** A refusal. */
export interface EventError {
  /** For people. */
  message: string;
  code?: Code;
}

/** Somebody said something: read it by REST. */
export interface EventMessageNew {
  conversationId: Id;
  messageId: Id;
  senderId: Id;
  createdAt: Time;
}

/** A participant has read a message: told of each that the receipt names. */
export interface EventMessageRead {
  conversationId: Id;
  messageId: Id;
  readerId: Id;
  readAt: Time;
}

/** A user came, went, or rests. */
export interface EventPresence {
  userId: Id;
  status: EventStatus;
  lastSeenAt?: Time;
}

/** How several users are: of nobody, the sign that a subscription is in force; behind it those whom it names; and where much happens at once. */
export interface EventPresences {
  users: EventUser[];
}

/** Whether a user is there. */
export type EventStatus = 'online' | 'away' | 'offline';

/** A conversation, or the presence of a user. */
export interface EventTopic {
  kind: EventTopicKind;
  id: Id;
}

/** What is heard. */
export type EventTopicKind = 'conversation' | 'user';

/** What is heard from now on, instead of what was heard before; `server.presence.batch` says when. */
export interface EventTopics {
  topics: EventTopic[];
}

/** Whether the sender of this types. */
export interface EventTyping {
  conversationId: Id;
  isTyping: boolean;
}

/** Whether somebody types. */
export interface EventTypist {
  conversationId: Id;
  userId: Id;
  isTyping: boolean;
}

/** How a user is. */
export interface EventUser {
  userId: Id;
  status: EventStatus;
}

/** A file that was uploaded. */
export interface FileRef {
  /** SHA-256, hexadecimal. */
  hash: string;
  filename: string;
}

/** What a subscription is narrowed to. */
export interface Filters {
  conversation_id?: Id;
  user_ids?: Id[];
}

/** Why somebody ends a call; before the answer, a callee's choice. */
export type HangupReason = 'hangup' | 'declined' | 'busy';

/** Both clocks. */
export interface HeartbeatAnswer {
  serverTime: Time;
  /** As it was sent. */
  timestamp?: unknown;
}

/** The client's clock, in whatever form it likes. */
export interface HeartbeatAsked {
  timestamp?: unknown;
}

/** A UUID, of version 7 where this server made it. */
export type Id = string;

/** What the server accepts. */
export interface Limits {
  frameBytes: number;
  contentBytes: number;
  framesPerSecond: number;
  framesBurst: number;
  messagesPerSecond: number;
  messagesBurst: number;
  sessionsPerUser: number;
}

/** Names the messages that were received or read, or the last of them. */
export interface Mark {
  conversationId: Id;
  /** This or `upTo`. */
  messageIds?: Id[];
  upTo?: Id;
}

/** Takes a message away. */
export interface MessageDelete {
  messageId: Id;
  /** Spares a search. */
  conversationId?: Id;
}

/** The message is gone. */
export interface MessageDeleteDone {
  messageId: Id;
  conversationId: Id;
  deletedAt: Time;
}

/** A message was taken away. */
export interface MessageDeleted {
  messageId: Id;
  conversationId: Id;
  deletedBy: Id;
  deletedAt: Time;
  uncopied?: boolean;
}

/** Other words for a message. */
export interface MessageEdit {
  messageId: Id;
  message: string;
  /** Spares a search. */
  conversationId?: Id;
}

/** The message has its new words. */
export interface MessageEditDone {
  messageId: Id;
  conversationId: Id;
  editedAt: Time;
}

/** A message has other words. */
export interface MessageEdited {
  messageId: Id;
  conversationId: Id;
  editedBy: Id;
  content: string;
  editedAt: Time;
  uncopied?: boolean;
}

/** Somebody said something. */
export interface MessageNew {
  messageId: Id;
  createdAt: Time;
  conversationId: Id;
  /** Of a system message: who caused it; nobody is the nil UUID. */
  senderId: Id;
  senderName: string;
  senderType: SenderType;
  content: string;
  messageType: MessageType;
  files: FileRef[];
  /** What changed, in a system message. */
  change?: Change;
  /** True if the conversation is too large for inboxes. */
  uncopied?: boolean;
}

/** How far a message has come. */
export type MessageStatus = 'SENT' | 'DELIVERED' | 'READ';

/** What a message is. */
export type MessageType = 'TEXT' | 'FILE' | 'IMAGE' | 'SYSTEM';

/** Nothing is said with it. */
export type Nothing = Record<string, never>;

/** Something the user should know of. */
export type Notification = { callId: Id; from: Id; at: Time; kind: 'call.missed' };

/** What a participant may do. */
export type ParticipantRole = 'MEMBER' | 'ADMIN';

/** Which categories reach the user. */
export interface Preferences {
  blockedCategories: string[];
  /** Unless empty, only commands whose categories are all among these. */
  allowedCategories: string[];
}

/** Both lists at once; one that is absent becomes empty. */
export interface PreferencesUpdate {
  allowedCategories?: string[];
  blockedCategories?: string[];
}

/** How a user appears to others. */
export interface Presence {
  userId: Id;
  status: PresenceStatus;
  /** How many sockets they have; none who looks offline. */
  devices: number;
  lastSeenAt: Time | null;
  /** What they say about it. */
  text?: string;
}

/** Whose presence is asked for. */
export interface PresenceQuery {
  userIds: Id[];
}

/** How the caller wants to appear. */
export interface PresenceSet {
  /** `online`: as it is; `offline`: as nobody who is there. */
  status: PresenceStatus;
  /** At most 256 bytes of UTF-8; absent: it stays. */
  text?: string;
}

/** How users appear. */
export interface PresenceState {
  users: Presence[];
  refused: RefusedUser[];
}

/** How a user appears. */
export type PresenceStatus = 'online' | 'away' | 'busy' | 'offline';

/** A command in the queue. */
export interface QueuedCommand {
  commandId: Id;
  createdAt: Time;
  status: CommandState;
  commandType: CommandType;
  content: string;
  senderId: Id;
  senderName: string;
  broadcast: Audience;
  categories: string[];
  files: FileRef[];
  expiresAt: Time;
  data?: unknown;
  recipientId?: Id;
}

/** What a participant has received or read. */
export interface Receipt {
  conversationId: Id;
  userId: Id;
  at: Time;
  messageIds?: Id[];
  upTo?: Id;
}

/** A refusal. */
export interface Refused {
  code: Code;
  /** For people. */
  message: string;
  /** When to try again. */
  retryAfterMs?: number;
}

/** A topic that is not heard. */
export interface RefusedTopic {
  topic: string;
  code: Code;
  /** Of `presence`: whose. */
  userId?: Id;
}

/** A user who may not be watched. */
export interface RefusedUser {
  userId: Id;
  code: Code;
}

/** Where the user's log is taken up. */
export interface Resumed {
  topic: Topic;
  epoch: number;
  offset: number;
  /** How many entries follow at once. */
  replayed: number;
  /** Whether those are all that was missed. */
  complete: boolean;
}

/** What a client calls its message; `private` and `broadcast` are a `TEXT`. */
export type SaidType = 'private' | 'broadcast' | 'TEXT' | 'FILE' | 'IMAGE';

/** What sent a message: a person, the server, or a program. */
export type SenderType = 'USER' | 'SYSTEM' | 'BOT';

/** A message, as in the history. */
export interface StompMessage {
  id: Id;
  conversationId: Id;
  senderId: Id;
  senderName: string;
  senderType: SenderType;
  content: string;
  messageType: MessageType;
  status: MessageStatus;
  createdAt: Time;
  editedAt: Time | null;
  isDeleted: boolean;
  files: FileRef[];
  change?: Change;
}

/** A refusal. */
export interface StompRefused {
  code: Code;
  /** For people. */
  message: string;
  /** That of the SEND, as in `chat.ack`. */
  clientId?: string;
  /** When to try again. */
  retryAfterMs?: number;
}

/** What a client hears, beside what it always hears. */
export interface Subscribe {
  /** `user`, `calls` and `notifications` are always heard. */
  topics: string[];
  filters?: Wanted;
}

/** What is heard from now on, and what is not. */
export interface Subscribed {
  topics: string[];
  filters: Filters;
  refused: RefusedTopic[];
}

/** RFC 3339; from the server in UTC, with milliseconds. */
export type Time = string;

/** The log that an entry is of, as clients know it. */
export type Topic = 'user' | 'broadcast' | 'conversation';

/** Who types, or does no more. */
export interface Typing {
  conversationId: Id;
  userId: Id;
}

/** What is heard no more. */
export interface Unsubscribed {
  topics: string[];
  filters: Filters;
}

/** What a subscription is narrowed to. */
export interface Wanted {
  /** Of `conversation` and `typing`: this one instead of all. */
  conversation_id?: Id;
  /** Of `presence`: whose, instead of everybody's that may be seen. */
  user_id?: Id;
  user_ids?: Id[];
}

/** What a client may ask, and what answers it. */
export interface JsonRequests {
  'authenticate': Asked<Authenticate, 'auth.success', AuthSuccess>;
  'call.answer': Asked<CallAnswer, 'call.answer', CallNamed>;
  'call.hangup': Asked<CallHangup, 'call.ended', CallOver>;
  'call.ice': Asked<CallIce, 'call.ice', CallNamed>;
  'call.offer': Asked<CallOffer, 'call.ringing', CallNamed>;
  'chat.message': Asked<ChatMessage, 'chat.accepted', ChatAccepted>;
  'command.cancel': Asked<CommandNamed, 'command.status', CommandStatus>;
  'command.complete': Asked<CommandNamed, 'command.completed', CommandCompleted>;
  'command.create': Asked<CommandCreate, 'command.accepted', CommandAccepted>;
  'command.queue': Asked<CommandQueueAsked, 'command.queue', CommandQueue>;
  'heartbeat': Asked<HeartbeatAsked, 'heartbeat', HeartbeatAnswer>;
  'mark.delivered': Asked<Mark, 'message.delivered', Receipt>;
  'mark.read': Asked<Mark, 'message.read', Receipt>;
  'message.delete': Asked<MessageDelete, 'message.deleted', MessageDeleteDone>;
  'message.edit': Asked<MessageEdit, 'message.edited', MessageEditDone>;
  'ping': Asked<Nothing, 'pong', Nothing>;
  'preferences.get': Asked<Nothing, 'preferences', Preferences>;
  'preferences.update': Asked<PreferencesUpdate, 'preferences', Preferences>;
  'presence.query': Asked<PresenceQuery, 'presence.state', PresenceState>;
  'presence.update': Asked<PresenceSet, 'presence.update', Presence>;
  'subscribe': Asked<Subscribe, 'subscribed', Subscribed>;
  'typing.start': Asked<ConversationNamed, 'typing.start', ConversationNamed>;
  'typing.stop': Asked<ConversationNamed, 'typing.stop', ConversationNamed>;
  'unsubscribe': Asked<Subscribe, 'unsubscribed', Unsubscribed>;
  'user.status': Asked<PresenceSet, 'presence.update', Presence>;
}

/** What a client may say without an answer. */
export interface JsonSaid {
  'ack': Ack;
}

/** What comes by itself. */
export interface JsonEvents {
  'call.answer': Live<'call.answer', CallAnswered>;
  'call.ended': Live<'call.ended', CallEnded>;
  'call.ice': Live<'call.ice', CallCandidate>;
  'call.incoming': Live<'call.incoming', CallIncoming>;
  'call.offer': Live<'call.offer', CallOffered>;
  'command.expired': Entry<'command.expired', CommandExpired>;
  'command.new': Entry<'command.new', CommandNew>;
  'command.status': Entry<'command.status', CommandStatus>;
  'connected': Live<'connected', Connected>;
  'message.deleted': Entry<'message.deleted', MessageDeleted>;
  'message.delivered': Entry<'message.delivered', Receipt>;
  'message.edited': Entry<'message.edited', MessageEdited>;
  'message.new': Entry<'message.new', MessageNew>;
  'message.read': Entry<'message.read', Receipt>;
  'notification': Entry<'notification', Notification>;
  'preferences': Entry<'preferences', Preferences>;
  'presence.offline': Live<'presence.offline', Presence>;
  'presence.online': Live<'presence.online', Presence>;
  'presence.update': Live<'presence.update', Presence>;
  'server.draining': Live<'server.draining', Draining>;
  'typing.start': Live<'typing.start', Typing>;
  'typing.stop': Live<'typing.stop', Typing>;
  'unsubscribed': Live<'unsubscribed', Unsubscribed>;
}

/** What answers requests. */
export interface JsonAnswers {
  'auth.failed': Answer<'auth.failed', Refused>;
  'auth.success': Answer<'auth.success', AuthSuccess>;
  'call.answer': Answer<'call.answer', CallNamed>;
  'call.ended': Answer<'call.ended', CallOver>;
  'call.ice': Answer<'call.ice', CallNamed>;
  'call.ringing': Answer<'call.ringing', CallNamed>;
  'chat.accepted': Answer<'chat.accepted', ChatAccepted>;
  'command.accepted': Answer<'command.accepted', CommandAccepted>;
  'command.completed': Answer<'command.completed', CommandCompleted>;
  'command.queue': Answer<'command.queue', CommandQueue>;
  'command.status': Answer<'command.status', CommandStatus>;
  'error': Answer<'error', Refused>;
  'heartbeat': Answer<'heartbeat', HeartbeatAnswer>;
  'message.deleted': Answer<'message.deleted', MessageDeleteDone>;
  'message.delivered': Answer<'message.delivered', Receipt>;
  'message.edited': Answer<'message.edited', MessageEditDone>;
  'message.read': Answer<'message.read', Receipt>;
  'pong': Answer<'pong', Nothing>;
  'preferences': Answer<'preferences', Preferences>;
  'presence.state': Answer<'presence.state', PresenceState>;
  'presence.update': Answer<'presence.update', Presence>;
  'subscribed': Answer<'subscribed', Subscribed>;
  'typing.start': Answer<'typing.start', ConversationNamed>;
  'typing.stop': Answer<'typing.stop', ConversationNamed>;
  'unsubscribed': Answer<'unsubscribed', Unsubscribed>;
}

/** What a client may ask, and what answers it. */
export interface StompRequests {
  'authenticate': Asked<Authenticate, 'auth.success', AuthSuccess>;
  'call.answer': Asked<CallAnswer, 'call.answer', CallNamed>;
  'call.hangup': Asked<CallHangup, 'call.ended', CallOver>;
  'call.ice': Asked<CallIce, 'call.ice', CallNamed>;
  'call.offer': Asked<CallOffer, 'call.ringing', CallNamed>;
  'chat.message': Asked<ChatMessage, 'chat.accepted', ChatAccepted>;
  'chat.read': Asked<Mark, 'message.read', Receipt>;
  'chat.send': Asked<ChatSend, 'chat.ack', ChatAck>;
  'chat.typing': Asked<ChatTyping, 'typing.start', ConversationNamed>;
  'command.cancel': Asked<CommandNamed, 'command.status', CommandStatus>;
  'command.complete': Asked<CommandNamed, 'command.completed', CommandCompleted>;
  'command.create': Asked<CommandCreate, 'command.accepted', CommandAccepted>;
  'command.queue': Asked<CommandQueueAsked, 'command.queue', CommandQueue>;
  'heartbeat': Asked<HeartbeatAsked, 'heartbeat', HeartbeatAnswer>;
  'mark.delivered': Asked<Mark, 'message.delivered', Receipt>;
  'mark.read': Asked<Mark, 'message.read', Receipt>;
  'message.delete': Asked<MessageDelete, 'message.deleted', MessageDeleteDone>;
  'message.edit': Asked<MessageEdit, 'message.edited', MessageEditDone>;
  'ping': Asked<Nothing, 'pong', Nothing>;
  'preferences.get': Asked<Nothing, 'preferences', Preferences>;
  'preferences.update': Asked<PreferencesUpdate, 'preferences', Preferences>;
  'presence.query': Asked<PresenceQuery, 'presence.state', PresenceState>;
  'presence.update': Asked<PresenceSet, 'presence.update', Presence>;
  'typing.start': Asked<ConversationNamed, 'typing.start', ConversationNamed>;
  'typing.stop': Asked<ConversationNamed, 'typing.stop', ConversationNamed>;
  'user.status': Asked<PresenceSet, 'presence.update', Presence>;
}

/** What comes by itself. */
export interface StompEvents {
  'call.answer': Live<'call.answer', CallAnswered>;
  'call.ended': Live<'call.ended', CallEnded>;
  'call.ice': Live<'call.ice', CallCandidate>;
  'call.incoming': Live<'call.incoming', CallIncoming>;
  'call.offer': Live<'call.offer', CallOffered>;
  'command.expired': Entry<'command.expired', CommandExpired>;
  'command.new': Entry<'command.new', CommandNew>;
  'command.status': Entry<'command.status', CommandStatus>;
  'message.deleted': Entry<'message.deleted', MessageDeleted>;
  'message.delivered': Entry<'message.delivered', Receipt>;
  'message.edited': Entry<'message.edited', MessageEdited>;
  'message.new': Entry<'message.new', StompMessage>;
  'message.read': Entry<'message.read', Receipt>;
  'notification': Entry<'notification', Notification>;
  'preferences': Entry<'preferences', Preferences>;
  'presence.offline': Live<'presence.offline', Presence>;
  'presence.online': Live<'presence.online', Presence>;
  'presence.update': Live<'presence.update', Presence>;
  'typing.start': Live<'typing.start', Typing>;
  'typing.stop': Live<'typing.stop', Typing>;
  'unsubscribed': Live<'unsubscribed', StompRefused>;
}

/** What answers requests. */
export interface StompAnswers {
  'auth.success': Answer<'auth.success', AuthSuccess>;
  'call.answer': Answer<'call.answer', CallNamed>;
  'call.ended': Answer<'call.ended', CallOver>;
  'call.ice': Answer<'call.ice', CallNamed>;
  'call.ringing': Answer<'call.ringing', CallNamed>;
  'chat.accepted': Answer<'chat.accepted', ChatAccepted>;
  'chat.ack': Answer<'chat.ack', ChatAck>;
  'command.accepted': Answer<'command.accepted', CommandAccepted>;
  'command.completed': Answer<'command.completed', CommandCompleted>;
  'command.queue': Answer<'command.queue', CommandQueue>;
  'command.status': Answer<'command.status', CommandStatus>;
  'error': Answer<'error', StompRefused>;
  'heartbeat': Answer<'heartbeat', HeartbeatAnswer>;
  'message.deleted': Answer<'message.deleted', MessageDeleteDone>;
  'message.delivered': Answer<'message.delivered', Receipt>;
  'message.edited': Answer<'message.edited', MessageEditDone>;
  'message.read': Answer<'message.read', Receipt>;
  'pong': Answer<'pong', Nothing>;
  'preferences': Answer<'preferences', Preferences>;
  'presence.state': Answer<'presence.state', PresenceState>;
  'presence.update': Answer<'presence.update', Presence>;
  'typing.start': Answer<'typing.start', ConversationNamed>;
  'typing.stop': Answer<'typing.stop', ConversationNamed>;
}

/** What a client may say without an answer. */
export interface EventsSaid {
  'client.messenger.typing': EventTyping;
  'client.system.subscribe': EventTopics;
}

/** What comes by itself. */
export interface EventsEvents {
  'server.messenger.message_new': Signal<'server.messenger.message_new', EventMessageNew>;
  'server.messenger.message_read': Signal<'server.messenger.message_read', EventMessageRead>;
  'server.messenger.typing': Signal<'server.messenger.typing', EventTypist>;
  'server.presence.batch': Signal<'server.presence.batch', EventPresences>;
  'server.presence.update': Signal<'server.presence.update', EventPresence>;
  'server.system.error': Signal<'server.system.error', EventError>;
}
