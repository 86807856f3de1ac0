//! Topics and the partitions they live in.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use super::{CallId, ConversationId, Digest, UserId};

/// What has a log and a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// A user's own queue.
    User(UserId),
    /// What is said in a conversation.
    Conversation(ConversationId),
    /// How a user appears to others. It has a channel and no log.
    Presence(UserId),
    /// Commands for many, each stored once; every node follows it and sees whom they reach.
    Broadcast,
    /// What changed in what administrators manage, followed by every node; never sent to a client.
    Directory,
    /// Withdrawn tokens, followed by every node; never sent to a client.
    Revocations,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user:{user}"),
            Self::Conversation(conversation) => write!(f, "conversation:{conversation}"),
            Self::Presence(user) => write!(f, "presence:{user}"),
            Self::Broadcast => f.write_str("broadcast"),
            Self::Directory => f.write_str("directory"),
            Self::Revocations => f.write_str("revocations"),
        }
    }
}

/// A text that names no topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown topic")]
pub struct InvalidTopic;

impl FromStr for Topic {
    type Err = InvalidTopic;

    fn from_str(text: &str) -> Result<Self, InvalidTopic> {
        match text {
            "broadcast" => return Ok(Self::Broadcast),
            "directory" => return Ok(Self::Directory),
            "revocations" => return Ok(Self::Revocations),
            _ => {}
        }
        let (what, id) = text.split_once(':').ok_or(InvalidTopic)?;
        let id = Uuid::try_parse(id).map_err(|_| InvalidTopic)?;
        match what {
            "user" => Ok(Self::User(UserId(id))),
            "conversation" => Ok(Self::Conversation(ConversationId(id))),
            "presence" => Ok(Self::Presence(UserId(id))),
            _ => Err(InvalidTopic),
        }
    }
}

/// How many partitions a deployment has: fixed when it is born.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionCount(pub u16);

/// One of the deployment's partitions. Everything of a topic lives in one: its keys and its
/// channel share the hash tag `{pN}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub u16);

impl Topic {
    /// Whether every node follows the topic as long as it lives, with sockets or without.
    pub fn is_for_every_node(self) -> bool {
        matches!(self, Self::Broadcast | Self::Directory | Self::Revocations)
    }

    /// The partition of the topic: FNV-1a over its text, modulo the count. The function is
    /// part of the data format and never changes.
    pub fn partition(&self, count: PartitionCount) -> Partition {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut eat = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        match self {
            // The raw bytes of the id; no allocation on the hot path. How users appear follows from
            // their sessions, so both live in one partition.
            Self::User(user) | Self::Presence(user) => {
                eat(b"user:");
                eat(user.0.as_bytes());
            }
            Self::Conversation(conversation) => {
                eat(b"conversation:");
                eat(conversation.0.as_bytes());
            }
            Self::Broadcast => eat(b"broadcast"),
            Self::Directory => eat(b"directory"),
            Self::Revocations => eat(b"revocations"),
        }
        // FNV's low bits are weak for short inputs; fold the high half in.
        Partition(((hash ^ (hash >> 32)) % u64::from(count.0)) as u16)
    }
}

impl CallId {
    /// The partition in which the state of the call lives; who takes part in it has one of their own.
    pub fn partition(self, count: PartitionCount) -> Partition {
        let digest = Digest::of(self.0.as_bytes()).0;
        Partition(u16::from_be_bytes([digest[0], digest[1]]) % count.0)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}
