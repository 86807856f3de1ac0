//! What stands in a log.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{MessageId, Position, Timestamp, Topic, UserId};

/// What an entry tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A command for the owner of the topic, or for many; the body is a [`super::CommandBody`].
    CommandNew,
    /// A command changed its state; the body is a [`super::CommandStatus`]. Stands in the
    /// recipient's log when the recipient or the sender ended the command, in the sender's
    /// log, written by a worker, for every state, and in the log of broadcasts when one ended
    /// for everybody.
    CommandStatus,
    /// The owner of the topic chose anew; the body is [`super::Preferences`].
    Preferences,
    /// Somebody said something in a conversation; the body is a [`super::MessageBody`]. Stands
    /// in the conversation's log and, copied, in the inbox of each participant.
    MessageNew,
    /// A message was changed; the body is a [`super::MessageEdited`]. Copied like that.
    MessageEdited,
    /// A message was taken away; the body is a [`super::MessageDeleted`]. Copied like that.
    MessageDeleted,
    /// A participant has received messages; the body is a [`super::MessageReceipt`].
    MessageDelivered,
    /// A participant has read messages; the body is a [`super::MessageReceipt`].
    MessageRead,
    /// Something that the owner of the topic should know of, for example a call that nobody answered;
    /// the body says which `kind` it is, see [`super::MissedCall`].
    Notification,
    /// Administrators changed something; the body is a [`super::DirectoryChange`].
    DirectoryChange,
    /// Tokens were withdrawn; the body is a [`Revocation`].
    Revocation,
}

impl Kind {
    /// The name that is stored and, for what clients see, sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CommandNew => "command.new",
            Self::CommandStatus => "command.status",
            Self::Preferences => "preferences",
            Self::MessageNew => "message.new",
            Self::MessageEdited => "message.edited",
            Self::MessageDeleted => "message.deleted",
            Self::MessageDelivered => "message.delivered",
            Self::MessageRead => "message.read",
            Self::Notification => "notification",
            Self::DirectoryChange => "directory.change",
            Self::Revocation => "revocation",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [
            Self::CommandNew,
            Self::CommandStatus,
            Self::Preferences,
            Self::MessageNew,
            Self::MessageEdited,
            Self::MessageDeleted,
            Self::MessageDelivered,
            Self::MessageRead,
            Self::Notification,
            Self::DirectoryChange,
            Self::Revocation,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or(())
    }
}

/// One entry of a topic's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The topic it belongs to.
    pub topic: Topic,
    /// Its place in the topic.
    pub position: Position,
    /// Its identity, by which duplicates are recognised.
    pub id: MessageId,
    /// What it tells.
    pub kind: Kind,
    /// When it was appended, by the clock of Redis.
    pub at: Timestamp,
    /// A JSON object whose shape `kind` decides.
    pub body: Bytes,
}

/// What a publisher wants to know before it is told "accepted".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Redis has it in memory.
    Memory,
    /// It survives one failure: fsynced, or on a replica.
    #[default]
    Durable,
    /// It is committed in Postgres.
    Stored,
}

/// Tokens that no longer count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// Whose tokens.
    pub user_id: UserId,
    /// The one token with this `jti`; all of the user's tokens if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// Tokens issued (`iat`) up to and including this second count no longer. Unix seconds.
    pub issued_until: i64,
    /// When the revocation itself may be forgotten: no token it names lives longer.
    pub expires_at: Timestamp,
}
