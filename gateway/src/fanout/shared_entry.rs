//! An entry and the frames made of it, shared by every socket of the node.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use shared::domain::{Entry, Position};

use crate::dialect::{self, DialectId, Event};

/// An entry whose frame is encoded at most once per dialect and node.
#[derive(Debug)]
pub struct SharedEntry {
    entry: Entry,
    frames: [OnceLock<Bytes>; DialectId::COUNT],
}

impl SharedEntry {
    /// Nothing is encoded until a socket of the dialect wants it.
    pub fn new(entry: Entry) -> Arc<Self> {
        Arc::new(Self {
            entry,
            frames: [const { OnceLock::new() }; DialectId::COUNT],
        })
    }

    /// The place of the entry in its topic.
    pub fn position(&self) -> Position {
        self.entry.position
    }

    /// What was appended.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The complete WebSocket frame of the entry in a dialect.
    pub fn frame(&self, dialect: DialectId) -> &Bytes {
        self.frames[dialect.index()]
            .get_or_init(|| dialect::encode(dialect, &Event::Entry(&self.entry)))
    }
}
