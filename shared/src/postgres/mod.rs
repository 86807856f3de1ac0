//! The only SQL. One file per group of tables, a function per question, named by it.
//!
//! Nothing in here knows Redis, sockets or settings. Every question is answered by an index:
//! the connections forbid the planner what only looks cheap while a table is small.

mod audit;
mod bots;
mod broadcasts;
mod categories;
mod commands;
mod conversation_changes;
mod conversation_list;
mod conversations;
mod error;
mod expiry;
mod groups;
mod idempotency;
mod log;
mod messages;
mod partitions;
mod pointers;
mod pool;
mod positions;
mod preferences;
mod presence;
mod recipients;
mod resealing;
mod revocations;
mod rows;
mod users;
mod write;

pub use audit::{Audit, Audited};
pub use bots::ApiKey;
pub use categories::{CategoryChange, CategoryRecord, Created};
pub use commands::StoredCommand;
pub use conversation_changes::{ConversationChanged, IdleConversation, UntoldChange};
pub use conversation_list::{ConversationCursor, ConversationRecord, Participant};
pub use conversations::{ConversationCreated, NewConversation, OpenConversation};
pub use error::{PgError, WriteError};
pub use expiry::{DueBroadcast, DueCommand, Sweepable};
pub use groups::{Group, MemberChange, Membership};
pub use idempotency::RequestKey;
pub use messages::{HistoryFrom, StoredMessage};
pub use partitions::{DroppedPartitions, KeptFrom};
pub use pointers::{LowestPointers, ReadingStart};
pub use pool::Postgres;
pub use recipients::{RecipientCounts, RecipientState};
pub use resealing::{KeptContent, KeptContents};
pub use users::{NewProfile, Role, User, UserChange, UserChanged, UserStatus};
pub use write::{Buried, PartitionBatch, PendingBatch, StateChange};

// For the tests that look at plans.
#[doc(hidden)]
pub use broadcasts::{BROADCASTS_BETWEEN, LAST_BROADCAST_BEFORE};
#[doc(hidden)]
pub use commands::{ENDED_OF_USER, EXPIRED_AFTER_RECEIPT, SENT};
#[doc(hidden)]
pub use conversation_changes::IDLE_CONVERSATIONS;
#[doc(hidden)]
pub use conversation_list::{CONVERSATION, CONVERSATIONS_OF, PARTICIPANTS};
#[doc(hidden)]
pub use expiry::{
    ARCHIVE_EXPIRED, ARCHIVE_EXPIRED_BROADCASTS, DUE_BROADCASTS, DUE_COMMANDS, SWEEPABLE,
};
#[doc(hidden)]
pub use log::ENTRIES_BETWEEN;
#[doc(hidden)]
pub use pointers::LOWEST_POINTERS;
#[doc(hidden)]
pub use recipients::{RECIPIENT_COUNTS, RECIPIENTS_OF, STATES_OF};
