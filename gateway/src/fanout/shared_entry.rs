//! An entry and the frames made of it, shared by every socket of the node.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Deserialize;
use shared::domain::{Category, Entry, Kind, MessageId, Position};
use uuid::Uuid;

use crate::dialect::{self, DialectId, Event, Feed};

/// An entry whose frame is encoded at most once per dialect and node.
#[derive(Debug)]
pub struct SharedEntry {
    entry: Entry,
    /// `None` if they cannot be read.
    tags: OnceLock<Option<Box<[Category]>>>,
    frames: [OnceLock<Bytes>; DialectId::COUNT],
}

/// What of a body says whom an entry reaches.
#[derive(Deserialize)]
struct Tagged {
    #[serde(default)]
    categories: Vec<Category>,
}

impl SharedEntry {
    /// Nothing is encoded until a socket of the dialect wants it.
    pub fn new(entry: Entry) -> Arc<Self> {
        Arc::new(Self {
            entry,
            tags: OnceLock::new(),
            frames: [const { OnceLock::new() }; DialectId::COUNT],
        })
    }

    /// The place of the entry in its topic.
    pub fn position(&self) -> Position {
        self.entry.position
    }

    /// The log it stands in, for a socket.
    pub fn feed(&self) -> Feed {
        Feed::of(self.entry.topic)
    }

    /// What was appended.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The tags that preferences look at, read once. `None` if the body cannot be read: then nobody can
    /// tell whom the entry may reach.
    pub fn tags(&self) -> Option<&[Category]> {
        let read = || {
            serde_json::from_slice::<Tagged>(&self.entry.body)
                .inspect_err(|error| {
                    let Entry { topic, position, .. } = self.entry;
                    tracing::error!(%error, %topic, %position, "an entry cannot be read and reaches nobody");
                })
                .ok()
                .map(|tagged| tagged.categories.into())
        };
        self.tags.get_or_init(read).as_deref()
    }

    /// What the record is told once a device has it: the command, or nothing (the nil id).
    pub(super) fn receipt(&self) -> MessageId {
        match self.entry.kind {
            Kind::CommandNew => self.entry.id,
            _ => MessageId(Uuid::nil()),
        }
    }

    /// The complete WebSocket frame of the entry in a dialect.
    pub fn frame(&self, dialect: DialectId) -> &Bytes {
        self.frames[dialect.index()]
            .get_or_init(|| dialect::encode(dialect, &Event::Entry(&self.entry)))
    }
}
