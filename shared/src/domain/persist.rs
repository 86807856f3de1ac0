//! What Redis tells Postgres.

use bytes::Bytes;

use super::{Entry, Position, Timestamp, UserId};

/// One record of a persist stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistRecord {
    /// Its stream id, `<ms>-<seq>`.
    pub id: String,
    /// What it tells.
    pub what: Persist,
}

impl PersistRecord {
    /// When it happened, by Redis' clock. Not what its id says: those jump ahead at a new epoch.
    pub fn at(&self) -> Option<Timestamp> {
        match &self.what {
            Persist::Entry(entry) => Some(entry.at),
            Persist::Delivered { at, .. } => Some(*at),
            Persist::Unreadable { .. } => None,
        }
    }
}

/// What a persist record tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persist {
    /// An entry was appended.
    Entry(Entry),
    /// Some device confirmed the user's log in `(from, to]` for the first time.
    Delivered {
        /// Whose log.
        user: UserId,
        /// The furthest of all devices before.
        from: Position,
        /// The furthest now.
        to: Position,
        /// When, by Redis' clock.
        at: Timestamp,
    },
    /// Not understood: goes to quarantine as it is.
    Unreadable {
        /// What stands in the stream.
        fields: Vec<(String, Bytes)>,
        /// What is wrong with it.
        reason: String,
    },
}
