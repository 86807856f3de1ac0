//! A presence that goes to many sockets.

use std::sync::Arc;

use bytes::Bytes;
use shared::domain::{Presence, Transition};

use crate::{
    dialect::{DialectId, Told},
    fanout::frames::Frames,
};

/// A presence that is encoded at most once per dialect and node.
#[derive(Debug)]
pub(in crate::fanout) struct SharedPresence {
    presence: Presence,
    transition: Transition,
    /// It is the answer to a wish, not news.
    is_first: bool,
    frames: Frames,
}

impl SharedPresence {
    /// News.
    pub(super) fn of(presence: Presence, transition: Transition) -> Arc<Self> {
        Arc::new(Self {
            presence,
            transition,
            is_first: false,
            frames: Frames::default(),
        })
    }

    /// What a socket is told that begins to watch.
    pub(super) fn first(presence: Presence) -> Arc<Self> {
        Arc::new(Self {
            presence,
            transition: Transition::Update,
            is_first: true,
            frames: Frames::default(),
        })
    }

    pub(in crate::fanout) fn presence(&self) -> &Presence {
        &self.presence
    }

    pub(in crate::fanout) fn is_first(&self) -> bool {
        self.is_first
    }

    pub(in crate::fanout) fn frame(&self, dialect: DialectId) -> &Bytes {
        self.frames
            .of(dialect, || Told::Presence(&self.presence, self.transition))
    }
}
