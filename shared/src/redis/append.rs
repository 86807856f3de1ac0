//! What goes into a log, and what became of it.

use bytes::Bytes;
use fred::types::Value;

use super::{conversations::Copier, error::Failure, keys, reply};
use crate::domain::{
    Digest, Durability, Kind, MessageId, Partition, Position, Timestamp, Topic, UserId,
};

/// The scope of an idempotency key: the sender plus the client's request id, or a derived name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(pub String);

impl IdempotencyKey {
    /// Under which the end of a command is first come: for one recipient, or for everybody.
    pub fn end_of(command: MessageId, recipient: Option<UserId>) -> Self {
        match recipient {
            Some(recipient) => Self(format!("final:{command}:{recipient}")),
            None => Self(format!("final:{command}")),
        }
    }
}

/// An entry to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// The log.
    pub topic: Topic,
    /// What the entry tells.
    pub kind: Kind,
    /// Its body, a JSON object.
    pub body: Bytes,
    /// Under which a second try is recognised.
    pub key: IdempotencyKey,
    /// What a second try has to have in common with the first.
    pub digest: Digest,
    /// When the append counts as done.
    pub durability: Durability,
    /// Remove this older entry from the log in the same step (a command that ended is not replayed).
    pub remove: Option<Position>,
    /// Refuse if any device of the topic's user has confirmed up to this position (cancelling).
    pub unless_delivered: Option<Position>,
    /// Its identity, where that is known before: a copy has the one of what it is a copy of.
    pub id: Option<MessageId>,
    /// What Postgres is told instead of the body.
    pub persisted: Option<Bytes>,
    /// By which version of the conversation it was decided; a conversation's log takes nothing
    /// without, and no other log takes anything with it.
    pub author: Option<Author>,
}

/// Whoever appends to a conversation has looked at who takes part, at some version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    /// Somebody who may do what they do by this version: refused if it is not the present one.
    By {
        /// The version they were judged by.
        version: u64,
        /// Who makes the copies, if the entry is to be copied.
        copier: Option<Copier>,
    },
    /// The conversation itself, which changed: this version counts from here on, unless a later
    /// one does already.
    Change {
        /// The version after the change.
        version: u64,
        /// As in [`Author::By`].
        copier: Option<Copier>,
    },
}

impl Append {
    /// An entry of which nothing is special; what is, is set with `..`.
    pub fn new(
        topic: Topic,
        kind: Kind,
        body: impl Into<Bytes>,
        key: IdempotencyKey,
        digest: Digest,
        durability: Durability,
    ) -> Self {
        Self {
            topic,
            kind,
            body: body.into(),
            key,
            digest,
            durability,
            remove: None,
            unless_delivered: None,
            id: None,
            persisted: None,
            author: None,
        }
    }
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// In the log now.
    New {
        /// The entry's identity.
        id: MessageId,
        /// Its place in the log.
        position: Position,
        /// When, by Redis' clock.
        at: Timestamp,
        /// Its place in the partition's persist stream.
        persist_id: String,
        /// Subscribers of the topic's channel on the node that took it.
        listeners: u32,
        /// Who copies it, if it is to be copied.
        copying: Copying,
    },
    /// Was in the log already, by an earlier try with the same key and digest.
    Duplicate {
        /// The identity given then.
        id: MessageId,
        /// The place given then.
        position: Position,
        /// When that was.
        at: Timestamp,
    },
    /// The key was used with another digest.
    Conflict {
        /// The entry that was appended under the key.
        id: MessageId,
    },
    /// `unless_delivered` held: nothing was written.
    Delivered,
    /// The author decided by another version of the conversation than Redis knows, or Redis knows
    /// none: nothing was written. Whoever looks again, and tells it by [`super::Store::keep_version`],
    /// may try again.
    Outdated,
}

/// Who makes the copies of an entry that was appended to a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copying {
    /// It is not copied, or somebody else copies what came before and goes on with it.
    NotMine,
    /// The caller, from this entry on: then [`super::Store::copied`] tells what comes next.
    Mine,
    /// Nobody, although something before it is not copied: whoever did it stopped. It begins with
    /// [`super::Store::take_over_copies`].
    Abandoned,
}

/// An answer of the server function: what became of it, and the id in `persist` if it is in a log.
pub(super) struct Outcome {
    pub(super) appended: Appended,
    pub(super) persist_id: Option<String>,
}

/// Arguments per entry.
pub(super) const STRIDE: usize = 11;

/// Writes the arguments of one entry as `append.lua` reads them.
pub(super) fn push_args(
    args: &mut Vec<Value>,
    partition: Partition,
    append: &Append,
    id: MessageId,
) {
    let place = |position: Option<Position>| match position {
        Some(position) => Value::from(position.to_string()),
        None => Value::from_static_str(""),
    };
    args.push(keys::tag(partition).into());
    args.push(append.topic.to_string().into());
    args.push(Value::from_static_str(append.kind.as_str()));
    args.push(append.key.0.as_str().into());
    args.push(append.digest.to_string().into());
    args.push(id.to_string().into());
    args.push(place(append.remove));
    args.push(place(append.unless_delivered));
    args.push(match &append.author {
        Some(author) => author.to_string().into(),
        None => Value::from_static_str(""),
    });
    args.push(match &append.persisted {
        Some(persisted) => Value::Bytes(persisted.clone()),
        None => Value::from_static_str(""),
    });
    args.push(Value::Bytes(append.body.clone()));
}

/// As `append.lua` reads it: `=` or `+`, the version, the copier if there is one.
impl std::fmt::Display for Author {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sign, version, copier) = match self {
            Self::By { version, copier } => ('=', version, copier),
            Self::Change { version, copier } => ('+', version, copier),
        };
        write!(f, "{sign}{version}")?;
        copier.iter().try_for_each(|copier| write!(f, " {copier}"))
    }
}

/// Reads the answer for one entry.
pub(super) fn read_outcome(answer: &Value) -> Result<Outcome, Failure> {
    let text = reply::text(answer).map_err(defect)?;
    let (what, rest) = text.split_once(' ').unwrap_or((text, ""));
    if what == "E" {
        return Err(Failure::of_reply(rest.trim_start_matches('-')));
    }
    let mut words = rest.split(' ');
    let mut next = || words.next().unwrap_or("");
    let outcome = match what {
        "N" | "D" => {
            let id = reply::parse_text(next()).map_err(defect)?;
            let position = reply::position(next(), next()).map_err(defect)?;
            let at = Timestamp(reply::parse_text(next()).map_err(defect)?);
            let persist_id = next().to_owned();
            let appended = if what == "N" {
                let listeners = reply::parse_text(next()).map_err(defect)?;
                let copying = match next() {
                    "mine" => Copying::Mine,
                    "abandoned" => Copying::Abandoned,
                    _ => Copying::NotMine,
                };
                Appended::New {
                    id,
                    position,
                    at,
                    persist_id: persist_id.clone(),
                    listeners,
                    copying,
                }
            } else {
                Appended::Duplicate { id, position, at }
            };
            Outcome {
                appended,
                persist_id: Some(persist_id),
            }
        }
        "C" => Outcome {
            appended: Appended::Conflict {
                id: reply::parse_text(next()).map_err(defect)?,
            },
            persist_id: None,
        },
        "S" => Outcome {
            appended: Appended::Delivered,
            persist_id: None,
        },
        "O" => Outcome {
            appended: Appended::Outdated,
            persist_id: None,
        },
        _ => return Err(defect(format!("append answered {text:.40}"))),
    };
    Ok(outcome)
}

fn defect(error: impl std::fmt::Display) -> Failure {
    Failure {
        trouble: super::error::Trouble::Defect,
        text: error.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_an_entry_keeps_its_meaning() {
        let answer = Value::from("E OOM command not allowed when used memory > 'maxmemory'.");
        let failure = read_outcome(&answer).err().unwrap();
        assert_eq!(failure.trouble, super::super::error::Trouble::OutOfMemory);
        assert!(read_outcome(&Value::from("X")).is_err());
    }
}
