//! What Redis tells Postgres.

use bytes::Bytes;

use super::{Entry, MessageId, Position, Timestamp, UserId};

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
            Persist::Delivered { at, .. }
            | Persist::Received { at, .. }
            | Persist::Seen { at, .. } => Some(*at),
            Persist::Unreadable { .. } => None,
        }
    }
}

/// Broadcasts that a user has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who.
    pub user: UserId,
    /// Commands that a device of the user confirmed.
    pub commands: Vec<MessageId>,
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
        /// Entries in between that the user's preferences kept from the device.
        skipped: Vec<Position>,
        /// When, by Redis' clock.
        at: Timestamp,
    },
    /// Devices of some users of the partition confirmed broadcasts.
    Received {
        /// Who and what.
        receipts: Vec<Receipt>,
        /// When, by Redis' clock.
        at: Timestamp,
    },
    /// Some users of the partition went.
    Seen {
        /// Who, and when they were last seen.
        users: Vec<(UserId, Timestamp)>,
        /// When that was found out, by Redis' clock.
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
