//! What stands in a socket's queue.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use shared::domain::{ConversationId, Signal};

use super::{presence::SharedPresence, shared_entry::SharedEntry};
use crate::dialect::{self, DialectId, Told};

/// Something that is shared by every socket it goes to.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// Of a log: a socket that has no room for it reads it later.
    Entry(Arc<SharedEntry>),
    /// Of no log: a socket that has no room for it never hears of it.
    Signal(Arc<SharedSignal>),
    /// How somebody appears: what a socket has no room for waits beside the queue.
    Presence(Arc<SharedPresence>),
}

impl Item {
    /// What all sockets of a dialect share of it.
    pub(super) fn frame(&self, dialect: DialectId) -> &Bytes {
        match self {
            Self::Entry(entry) => entry.frame(dialect),
            Self::Signal(signal) => signal.frame(dialect),
            Self::Presence(presence) => presence.frame(dialect),
        }
    }
}

/// A signal that is encoded at most once per dialect and node.
#[derive(Debug)]
pub(super) struct SharedSignal {
    conversation: ConversationId,
    signal: Signal,
    frames: [OnceLock<Bytes>; DialectId::COUNT],
}

impl SharedSignal {
    pub(super) fn new(conversation: ConversationId, signal: Signal) -> Arc<Self> {
        Arc::new(Self {
            conversation,
            signal,
            frames: [const { OnceLock::new() }; DialectId::COUNT],
        })
    }

    pub(super) fn conversation(&self) -> ConversationId {
        self.conversation
    }

    pub(super) fn signal(&self) -> &Signal {
        &self.signal
    }

    fn frame(&self, dialect: DialectId) -> &Bytes {
        self.frames[dialect.index()].get_or_init(|| {
            dialect::shared(dialect, &Told::Signal(self.conversation, &self.signal))
        })
    }
}
