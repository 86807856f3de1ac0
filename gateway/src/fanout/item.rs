//! What stands in a socket's queue.

use std::sync::Arc;

use bytes::Bytes;
use shared::domain::{CallEvent, ConversationId, Signal};

use super::{frames::Frames, presence::SharedPresence, shared_entry::SharedEntry};
use crate::dialect::{DialectId, Told};

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
    what: Happening,
    frames: Frames,
}

/// What happens just now.
#[derive(Debug)]
pub(super) enum Happening {
    /// In a conversation.
    Typing(ConversationId, Signal),
    /// In a call.
    Call(CallEvent),
}

impl SharedSignal {
    pub(super) fn new(what: Happening) -> Arc<Self> {
        Arc::new(Self {
            what,
            frames: Frames::default(),
        })
    }

    pub(super) fn what(&self) -> &Happening {
        &self.what
    }

    pub(super) fn frame(&self, dialect: DialectId) -> &Bytes {
        self.frames.of(dialect, || match &self.what {
            Happening::Typing(conversation, signal) => Told::Signal(*conversation, signal),
            Happening::Call(event) => Told::Call(event),
        })
    }
}
