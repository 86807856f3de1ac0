//! Plain types and rules. No I/O, no wire format, no clock.

mod call;
mod command;
mod conversation;
mod directory;
mod entry;
mod error;
mod ids;
mod persist;
mod position;
mod preferences;
mod presence;
mod queue;
mod signal;
mod time;
mod topic;

pub use call::{
    Audience, Call, CallEnd, CallEvent, CallEventKind, CallPayload, CallState, Ending, MissedCall,
};
pub use command::{
    Broadcast, CommandBody, CommandState, CommandStatus, CommandType, FileRef, MAX_CATEGORIES,
    MAX_CONTENT_BYTES, MAX_FILES,
};
pub use conversation::{
    ConversationChange, ConversationType, CopyReference, MAX_RECEIPT_MESSAGES, MAX_TITLE, Member,
    Members, MessageBody, MessageDeleted, MessageEdited, MessageReceipt, MessageStatus,
    MessageType, ParticipantRole, SenderType, UnknownWord,
};
pub use directory::DirectoryChange;
pub use entry::{Durability, Entry, Kind, Revocation};
pub use error::{Code, Refusal};
pub use ids::{
    CallId, Category, ClientId, ConversationId, Device, Digest, GroupName, InvalidId, MessageId,
    NodeId, SessionId, UserId,
};
pub use persist::{Persist, PersistRecord, Receipt};
pub use position::{InvalidPosition, Position};
pub use preferences::{MAX_PREFERENCES, Preferences};
pub use presence::{MAX_STATUS_TEXT, Presence, PresenceStatus, Transition};
pub use queue::Queue;
pub use signal::{Signal, SignalKind};
pub use time::Timestamp;
pub use topic::{InvalidTopic, Partition, PartitionCount, Topic};
