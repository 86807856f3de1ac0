//! An entry and the frames made of it, shared by every socket of the node.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Deserialize;
use shared::domain::{Category, Entry, Kind, MessageId, Position, Preferences, Topic};
use uuid::Uuid;

use super::metrics;
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

    /// The tags that preferences look at, read once. `None` if the entry cannot be read or does not
    /// belong where it stands: then it reaches nobody.
    pub fn tags(&self) -> Option<&[Category]> {
        let read = || {
            let Entry {
                topic,
                position,
                kind,
                ..
            } = self.entry;
            understand(&self.entry)
                .inspect_err(|reason| {
                    metrics::UNREADABLE.increment(1);
                    tracing::error!(%topic, %position, %kind, reason, "an entry reaches nobody");
                })
                .ok()
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

fn understand(entry: &Entry) -> Result<Box<[Category]>, String> {
    let unreadable = |error: serde_json::Error| error.to_string();
    if !entry.body.starts_with(b"{") {
        return Err("the body is no object".to_owned());
    }
    match (entry.topic, entry.kind) {
        (Topic::User(_) | Topic::Broadcast, Kind::CommandNew | Kind::CommandStatus) => {
            serde_json::from_slice::<Tagged>(&entry.body)
                .map(|tagged| tagged.categories.into())
                .map_err(unreadable)
        }
        (Topic::User(_), Kind::Preferences) => serde_json::from_slice::<Preferences>(&entry.body)
            .map(|_| Box::default())
            .map_err(unreadable),
        _ => Err("this kind does not belong here".to_owned()),
    }
}
