//! Commands: what one user asks of another.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Category, MessageId, Timestamp, UserId};

/// Longest content, in bytes of UTF-8.
pub const MAX_CONTENT_BYTES: usize = 16 * 1024;
/// Most categories a command may carry.
pub const MAX_CATEGORIES: usize = 16;
/// Most files a command may carry.
pub const MAX_FILES: usize = 10;

/// What sort of command it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandType {
    /// Something to read.
    Message,
    /// Something to do.
    Task,
    /// Something for the client program.
    System,
}

impl CommandType {
    /// The name on the wire and in Postgres.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Task => "task",
            Self::System => "system",
        }
    }
}

/// Whom a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Broadcast {
    /// One user: a direct command.
    User,
    /// Everybody whom its categories reach.
    Category,
    /// Everybody whom its categories, if it has any, do not keep from it; the sender needs the
    /// right to that.
    Allcast,
}

impl Broadcast {
    /// The name on the wire and in Postgres.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Category => "category",
            Self::Allcast => "allcast",
        }
    }
}

/// A file a command carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// SHA-256 of the bytes, hexadecimal.
    pub hash: String,
    /// The name the sender gave it.
    pub filename: String,
}

/// The body of a `command.new` entry, as stored: the JSON of this struct, in this order of
/// fields. Id and creation time are the entry's own and stand there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandBody {
    /// What sort.
    pub command_type: CommandType,
    /// The text, at most [`MAX_CONTENT_BYTES`].
    pub content: String,
    /// Anything the sender added, passed through as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// Who sent it.
    pub sender_id: UserId,
    /// The sender's name when it was sent.
    pub sender_name: String,
    /// Whom it is for.
    pub broadcast: Broadcast,
    /// The one recipient of a direct command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_id: Option<UserId>,
    /// Tags that recipients filter by.
    pub categories: Vec<Category>,
    /// Files that come with it.
    pub files: Vec<FileRef>,
    /// When it stops being worth delivering.
    pub expires_at: Timestamp,
}

/// How far a command has come. Only moves forward; the last three are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandState {
    /// Accepted, not yet confirmed by any device.
    Pending,
    /// Confirmed by a device of the recipient.
    Delivered,
    /// The recipient says it is done.
    Completed,
    /// Nobody completed it in time.
    Expired,
    /// The sender took it back before it was delivered.
    Cancelled,
}

impl CommandState {
    /// The name on the wire and in Postgres.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// True if nothing can follow.
    pub fn is_final(self) -> bool {
        self > Self::Delivered
    }
}

impl fmt::Display for CommandState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The body of a `command.status` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandStatus {
    /// Which command.
    pub command_id: MessageId,
    /// Whose state of it; nobody's where a broadcast ended for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_id: Option<UserId>,
    /// The state reached.
    pub status: CommandState,
    /// Present if the command is a broadcast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<Broadcast>,
    /// The tags of a broadcast that ended: who was kept from it hears nothing of its end either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<Category>,
    /// When, by the clock of Redis; absent where it is the time of the entry itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}
