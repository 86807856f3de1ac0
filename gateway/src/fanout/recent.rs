//! The hot end of a topic, kept for sockets that catch up.

use std::{collections::VecDeque, sync::Arc};

use shared::domain::{MessageId, Position, Timestamp};

use super::shared_entry::SharedEntry;

/// Most entries kept of a user's topic.
const OF_USER: usize = if cfg!(test) { 4 } else { 256 };
/// Most entries kept of broadcasts: who comes back finds what it missed without asking Redis.
const OF_BROADCASTS: usize = if cfg!(test) { 8 } else { 4096 };
/// Most bytes of bodies, for each entry that may be kept.
const BYTES_EACH: usize = 1024;

/// All entries of a topic behind a position, up to where the topic stands.
#[derive(Debug)]
pub(super) struct Recent {
    from: Position,
    bytes: usize,
    most: usize,
    entries: VecDeque<Arc<SharedEntry>>,
}

impl Recent {
    /// Of a user's topic, from here on.
    pub(super) fn of_user(from: Position) -> Self {
        Self::new(from, OF_USER)
    }

    /// Of broadcasts, from here on.
    pub(super) fn of_broadcasts(from: Position) -> Self {
        Self::new(from, OF_BROADCASTS)
    }

    fn new(from: Position, most: usize) -> Self {
        Self {
            from,
            bytes: 0,
            most,
            entries: VecDeque::new(),
        }
    }

    /// Adds the next entry; the oldest go.
    pub(super) fn push(&mut self, entry: Arc<SharedEntry>) {
        self.bytes += entry.entry().body.len();
        self.entries.push_back(entry);
        while self.entries.len() > self.most || self.bytes > self.most * BYTES_EACH {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= oldest.entry().body.len();
            self.from = oldest.position();
        }
    }

    /// A command that ended is not given to anybody any more.
    pub(super) fn remove(&mut self, command: MessageId) {
        let found = self
            .entries
            .iter()
            .position(|entry| entry.entry().id == command);
        if let Some(entry) = found.and_then(|index| self.entries.remove(index)) {
            self.bytes -= entry.entry().body.len();
        }
    }

    /// Everything behind a position, if it reaches back so far.
    pub(super) fn after(&self, at: Position) -> Option<impl Iterator<Item = &Arc<SharedEntry>>> {
        (self.from <= at).then(|| {
            let begin = self.entries.partition_point(|entry| entry.position() <= at);
            self.entries.range(begin..)
        })
    }

    /// The position before the first entry that came at `at` or later. `None` if that may be
    /// further back than is known here.
    pub(super) fn before(&self, at: Timestamp) -> Option<Position> {
        let is_older = |entry: &Arc<SharedEntry>| entry.entry().at < at;
        let older = self.entries.iter().rev().find(|entry| is_older(entry));
        match older {
            Some(entry) => Some(entry.position()),
            None if self.from == Position::START => Some(self.from),
            None => None,
        }
    }

    /// How many entries a node keeps of broadcasts.
    pub(super) fn broadcasts() -> u64 {
        OF_BROADCASTS as u64
    }
}
