//! What is said with messages, in any dialect that says it in this form.
//!
//! Descriptions only: nothing in here is ever made. An `Option` may be absent and is never null,
//! unless it is marked as required: then it is always there, and may be null.

#![expect(dead_code, reason = "read by the derive, never made")]

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

macro_rules! shapes {
    ($($item:item)+) => {
        $(
            #[derive(ToSchema)]
            #[schema(rename_all = "camelCase")]
            $item
        )+
    };
}

/// A UUID, of version 7 where this server made it.
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, format = Uuid)]
pub struct Id(());

/// RFC 3339; from the server in UTC, with milliseconds.
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct Time(());

/// Stable, the same in every dialect and over REST.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Code {
    BadRequest,
    UnknownType,
    Unauthorized,
    Forbidden,
    NotFound,
    Conflict,
    TooLarge,
    RateLimited,
    Unavailable,
    Internal,
}

/// What sort of command it is.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum CommandType {
    Message,
    Task,
    System,
}

/// Whom a command is for: one user, whom its categories reach, or everybody.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Audience {
    User,
    Category,
    Allcast,
}

/// How far a command has come; the last three are final.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum CommandState {
    Pending,
    Delivered,
    Completed,
    Expired,
    Cancelled,
}

/// What is known of a message before its sender is told that it is accepted. Less than the
/// deployment's level counts as that.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Durability {
    Memory,
    Durable,
    Stored,
}

/// What sent a message: a person, the server, or a program.
#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
pub enum SenderType {
    User,
    System,
    Bot,
}

/// What a message is.
#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
pub enum MessageType {
    Text,
    File,
    Image,
    System,
}

/// What a client calls its message; `private` and `broadcast` are a `TEXT`.
#[derive(ToSchema)]
pub enum SaidType {
    #[schema(rename = "private")]
    Private,
    #[schema(rename = "broadcast")]
    Broadcast,
    #[schema(rename = "TEXT")]
    Text,
    #[schema(rename = "FILE")]
    File,
    #[schema(rename = "IMAGE")]
    Image,
}

/// What a participant may do.
#[derive(Serialize, ToSchema)]
#[schema(rename_all = "UPPERCASE")]
pub enum ParticipantRole {
    Member,
    Admin,
}

/// How a user appears.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum PresenceStatus {
    Online,
    Away,
    Busy,
    Offline,
}

/// The log that an entry is of, as clients know it.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Topic {
    User,
    Broadcast,
    Conversation,
}

/// A log that clients confirm.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum ConfirmedTopic {
    User,
    Broadcast,
}

shapes! {
    /// Nothing is said with it.
    pub struct Nothing {}

    /// A refusal.
    pub struct Refused {
        pub code: Code,
        /// For people.
        pub message: String,
        /// When to try again.
        pub retry_after_ms: Option<u64>,
    }

    // --- the session ---

    /// The client's clock, in whatever form it likes.
    pub struct HeartbeatAsked {
        pub timestamp: Option<Value>,
    }

    /// Both clocks.
    pub struct HeartbeatAnswer {
        /// As it was sent.
        pub timestamp: Option<Value>,
        pub server_time: Time,
    }

    /// A token; on an open session of the same user it extends that.
    pub struct Authenticate {
        pub token: String,
    }

    /// The token is good.
    pub struct AuthSuccess {
        pub user_id: Id,
        /// When the session ends unless it is extended.
        pub expires_at: Time,
    }

    /// The session is open. First after the token was accepted.
    pub struct Connected {
        pub session_id: Id,
        pub user_id: Id,
        pub device: String,
        pub node: String,
        pub heartbeat: Beats,
        pub limits: Limits,
        pub resumed: Resumed,
    }

    /// The server pings; a socket that stays silent for so many intervals is closed.
    pub struct Beats {
        pub interval_ms: u64,
        pub max_missed: u32,
    }

    /// What the server accepts.
    pub struct Limits {
        pub frame_bytes: u64,
        pub content_bytes: u64,
        pub frames_per_second: u32,
        pub frames_burst: u32,
        pub messages_per_second: u32,
        pub messages_burst: u32,
        pub sessions_per_user: u32,
    }

    /// Where the user's log is taken up.
    pub struct Resumed {
        pub topic: Topic,
        pub epoch: u64,
        pub offset: u64,
        /// How many entries follow at once.
        pub replayed: u64,
        /// Whether those are all that was missed.
        pub complete: bool,
    }

    /// The node is going away: connect again after that long.
    pub struct Draining {
        pub reconnect_after_ms: u64,
    }

    /// Everything of a log up to a position was dealt with.
    pub struct Ack {
        pub topic: ConfirmedTopic,
        pub epoch: u64,
        pub offset: u64,
    }

    // --- commands ---

    /// A command for another user, or for many.
    pub struct CommandCreate {
        pub command_type: CommandType,
        /// At most 16 KiB of UTF-8, without NUL.
        pub content: String,
        /// Anything; passed through as it was written.
        pub data: Option<Value>,
        /// `user` if absent.
        pub broadcast: Option<Audience>,
        /// The recipient; of a command for one user only.
        pub target_user: Option<Id>,
        #[schema(max_items = 16)]
        pub categories: Option<Vec<String>>,
        #[schema(max_items = 10)]
        pub files: Option<Vec<FileRef>>,
        /// At most two weeks ahead.
        pub expires_at: Option<Time>,
        pub durability: Option<Durability>,
    }

    /// A file that was uploaded.
    pub struct FileRef {
        /// SHA-256, hexadecimal.
        pub hash: String,
        pub filename: String,
    }

    /// The command is accepted.
    pub struct CommandAccepted {
        pub command_id: Id,
        pub status: CommandState,
    }

    /// A page of the caller's queue, or of what became of it.
    pub struct CommandQueueAsked {
        /// Only commands made at or after this time.
        pub since: Option<Time>,
        /// Without: those that have not ended.
        pub status: Option<CommandState>,
        #[schema(minimum = 1, maximum = 200)]
        pub limit: Option<u32>,
        /// The `nextCursor` of the page before.
        pub cursor: Option<String>,
    }

    /// A page; what has not ended runs oldest first, what has ended newest first.
    pub struct CommandQueue {
        pub commands: Vec<QueuedCommand>,
        /// Absent at the end.
        pub next_cursor: Option<String>,
    }

    /// Names a command.
    pub struct CommandNamed {
        pub command_id: Id,
    }

    /// The recipient is done with it.
    pub struct CommandCompleted {
        pub command_id: Id,
        pub completed_at: Time,
    }

    /// A command for the receiver of this.
    pub struct CommandNew {
        pub command_id: Id,
        pub created_at: Time,
        pub command_type: CommandType,
        pub content: String,
        /// What the sender added.
        pub data: Option<Value>,
        pub sender_id: Id,
        /// As it was when the command was sent.
        pub sender_name: String,
        pub broadcast: Audience,
        /// Of a command for one user.
        pub recipient_id: Option<Id>,
        pub categories: Vec<String>,
        pub files: Vec<FileRef>,
        pub expires_at: Time,
    }

    /// A command in the queue.
    pub struct QueuedCommand {
        pub command_id: Id,
        pub created_at: Time,
        pub status: CommandState,
        pub command_type: CommandType,
        pub content: String,
        pub data: Option<Value>,
        pub sender_id: Id,
        pub sender_name: String,
        pub broadcast: Audience,
        pub recipient_id: Option<Id>,
        pub categories: Vec<String>,
        pub files: Vec<FileRef>,
        pub expires_at: Time,
    }

    /// A command has come further: told to the sender of a direct one for every state, and to the
    /// recipients' devices when it ended.
    pub struct CommandStatus {
        pub command_id: Id,
        /// Absent where a broadcast ended for everybody.
        pub recipient_id: Option<Id>,
        pub status: CommandState,
        pub at: Time,
        /// Present of a broadcast.
        pub broadcast: Option<Audience>,
    }

    /// Nobody completed it in time; told to the recipients' devices.
    pub struct CommandExpired {
        pub command_id: Id,
        pub recipient_id: Option<Id>,
        pub at: Time,
        pub broadcast: Option<Audience>,
    }

    /// Both lists at once; one that is absent becomes empty.
    pub struct PreferencesUpdate {
        #[schema(max_items = 200)]
        pub blocked_categories: Option<Vec<String>>,
        #[schema(max_items = 200)]
        pub allowed_categories: Option<Vec<String>>,
    }

    /// Which categories reach the user.
    pub struct Preferences {
        pub blocked_categories: Vec<String>,
        /// Unless empty, only commands whose categories are all among these.
        pub allowed_categories: Vec<String>,
    }

    // --- presence ---

    /// How a user appears to others.
    pub struct Presence {
        pub user_id: Id,
        pub status: PresenceStatus,
        /// What they say about it.
        pub text: Option<String>,
        /// How many sockets they have; none who looks offline.
        pub devices: u32,
        /// Null where that is not known, or they are there.
        #[schema(required = true)]
        pub last_seen_at: Option<Time>,
    }

    // --- conversations ---

    /// A message to a conversation, or to a user.
    pub struct ChatMessage {
        /// This or `targetUser`.
        pub conversation_id: Option<Id>,
        pub target_user: Option<Id>,
        /// Not empty, at most 16 KiB of UTF-8, without NUL.
        pub message: String,
        pub message_type: Option<SaidType>,
        #[schema(max_items = 10)]
        pub files: Option<Vec<FileRef>>,
        pub durability: Option<Durability>,
    }

    /// The message stands in the conversation's log.
    pub struct ChatAccepted {
        pub message_id: Id,
        pub conversation_id: Id,
        pub created_at: Time,
    }

    /// Other words for a message.
    pub struct MessageEdit {
        pub message_id: Id,
        /// Spares a search.
        pub conversation_id: Option<Id>,
        pub message: String,
    }

    /// The message has its new words.
    pub struct MessageEditDone {
        pub message_id: Id,
        pub conversation_id: Id,
        pub edited_at: Time,
    }

    /// Takes a message away.
    pub struct MessageDelete {
        pub message_id: Id,
        /// Spares a search.
        pub conversation_id: Option<Id>,
    }

    /// The message is gone.
    pub struct MessageDeleteDone {
        pub message_id: Id,
        pub conversation_id: Id,
        pub deleted_at: Time,
    }

    /// Names the messages that were received or read, or the last of them.
    pub struct Mark {
        pub conversation_id: Id,
        /// This or `upTo`.
        #[schema(max_items = 200)]
        pub message_ids: Option<Vec<Id>>,
        pub up_to: Option<Id>,
    }

    /// What a participant has received or read.
    pub struct Receipt {
        pub conversation_id: Id,
        pub message_ids: Option<Vec<Id>>,
        pub up_to: Option<Id>,
        pub user_id: Id,
        pub at: Time,
    }

    /// Names a conversation.
    pub struct ConversationNamed {
        pub conversation_id: Id,
    }

    /// Who types, or does no more.
    pub struct Typing {
        pub conversation_id: Id,
        pub user_id: Id,
    }

    /// Somebody said something.
    pub struct MessageNew {
        pub message_id: Id,
        pub created_at: Time,
        pub conversation_id: Id,
        /// Of a system message: who caused it; nobody is the nil UUID.
        pub sender_id: Id,
        pub sender_name: String,
        pub sender_type: SenderType,
        pub content: String,
        pub message_type: MessageType,
        pub files: Vec<FileRef>,
        /// True if the conversation is too large for inboxes.
        pub uncopied: Option<bool>,
        /// What changed, in a system message.
        pub change: Option<Change>,
    }

    /// A message has other words.
    pub struct MessageEdited {
        pub message_id: Id,
        pub conversation_id: Id,
        pub edited_by: Id,
        pub content: String,
        pub edited_at: Time,
        pub uncopied: Option<bool>,
    }

    /// A message was taken away.
    pub struct MessageDeleted {
        pub message_id: Id,
        pub conversation_id: Id,
        pub deleted_by: Id,
        pub deleted_at: Time,
        pub uncopied: Option<bool>,
    }
}

shapes! {
    /// Calls somebody.
    pub struct CallOffer {
        pub target_user: Id,
        /// A name for the call that the caller chose.
        pub call_id: Option<Id>,
        /// A session description, at most `calls.max_sdp`.
        pub sdp: String,
        /// What is to be transmitted; passed on as it is, at most 2 KiB.
        pub media: Option<Value>,
    }

    /// Takes a call, if no other device did before.
    pub struct CallAnswer {
        pub call_id: Id,
        pub sdp: String,
    }

    /// A way by which a party may be reached.
    pub struct CallIce {
        pub call_id: Id,
        /// Passed on as it is, at most `calls.max_candidate`; null says that there are no more.
        pub candidate: Value,
    }

    /// Ends a call, or does not take it.
    pub struct CallHangup {
        pub call_id: Id,
        /// Counts for a callee who has not answered; without it, `declined`.
        pub reason: Option<CallRefusal>,
    }

    /// Names a call.
    pub struct CallNamed {
        pub call_id: Id,
    }

    /// The call is over.
    pub struct CallOver {
        pub call_id: Id,
        pub reason: CallEnd,
    }

    /// Somebody calls.
    pub struct CallIncoming {
        pub call_id: Id,
        /// The other party; `to` is who is told.
        pub from: Id,
        pub to: Id,
        pub media: Option<Value>,
        pub at: Time,
    }

    /// What they offer.
    pub struct CallOffered {
        pub call_id: Id,
        pub from: Id,
        pub to: Id,
        pub sdp: String,
        pub media: Option<Value>,
        pub at: Time,
    }

    /// The callee took the call.
    pub struct CallAnswered {
        pub call_id: Id,
        pub from: Id,
        pub to: Id,
        pub sdp: String,
        pub at: Time,
    }

    /// A way by which the other party may be reached.
    pub struct CallCandidate {
        pub call_id: Id,
        pub from: Id,
        pub to: Id,
        pub candidate: Value,
        pub at: Time,
    }

    /// A call ended, or another device answered it.
    pub struct CallEnded {
        pub call_id: Id,
        pub from: Id,
        pub to: Id,
        pub reason: CallEnd,
        pub at: Time,
    }

    /// Something that the user should know of.
    pub struct Notification {
        pub kind: NotificationKind,
        pub call_id: Id,
        /// Who called.
        pub from: Id,
        /// When they began to.
        pub at: Time,
    }
}

/// Why a call ended.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum CallEnd {
    Hangup,
    Declined,
    Busy,
    Offline,
    Timeout,
    AnsweredElsewhere,
    Glare,
    Disconnected,
}

/// Why a callee does not take a call.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum CallRefusal {
    Hangup,
    Declined,
    Busy,
}

/// What a notification is about: a call that nobody answered.
#[derive(ToSchema)]
pub enum NotificationKind {
    #[schema(rename = "call.missed")]
    CallMissed,
}

/// What changed in a conversation.
#[derive(Serialize, ToSchema)]
#[serde(tag = "what", rename_all = "camelCase")]
pub enum Change {
    Created,
    #[serde(rename_all = "camelCase")]
    Joined {
        user_ids: Vec<Id>,
    },
    #[serde(rename_all = "camelCase")]
    Left {
        user_id: Id,
    },
    #[serde(rename_all = "camelCase")]
    Removed {
        user_id: Id,
    },
    #[serde(rename_all = "camelCase")]
    Renamed {
        title: String,
    },
    #[serde(rename_all = "camelCase")]
    Role {
        user_id: Id,
        role: ParticipantRole,
    },
    #[serde(rename_all = "camelCase")]
    Muted {
        user_id: Id,
        /// Null if they may write again.
        #[schema(required = true)]
        until: Option<Time>,
    },
    Archived,
    Unarchived,
}

/// What a client hears, beside what it always hears.
#[derive(ToSchema)]
pub struct Subscribe {
    /// `user`, `calls` and `notifications` are always heard.
    #[schema(min_items = 1, max_items = 32)]
    pub topics: Vec<String>,
    pub filters: Option<Wanted>,
}

/// What a subscription is narrowed to.
#[derive(ToSchema)]
pub struct Wanted {
    /// Of `conversation` and `typing`: this one instead of all.
    pub conversation_id: Option<Id>,
    /// Of `presence`: whose, instead of everybody's that may be seen.
    pub user_id: Option<Id>,
    #[schema(max_items = 200)]
    pub user_ids: Option<Vec<Id>>,
}

/// What a subscription is narrowed to.
#[derive(ToSchema)]
pub struct Filters {
    pub conversation_id: Option<Id>,
    pub user_ids: Option<Vec<Id>>,
}

/// What is heard from now on, and what is not.
#[derive(ToSchema)]
pub struct Subscribed {
    pub topics: Vec<String>,
    pub filters: Filters,
    pub refused: Vec<RefusedTopic>,
}

/// A topic that is not heard.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct RefusedTopic {
    pub topic: String,
    /// Of `presence`: whose.
    pub user_id: Option<Id>,
    pub code: Code,
}

/// What is heard no more.
#[derive(ToSchema)]
pub struct Unsubscribed {
    pub topics: Vec<String>,
    pub filters: Filters,
}
