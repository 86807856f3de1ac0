//! Who an attached socket belongs to, and its way back to the fan-out.

use std::sync::{Arc, Weak};

use shared::domain::{Device, Position, SessionId, Topic, UserId};

use super::{Fanout, outbox::Outbox};

/// What a revocation looks for in a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRef {
    /// The token's `jti`; empty if it has none.
    pub id: Arc<str>,
    /// The token's `iat`, Unix seconds.
    pub issued_at: i64,
}

/// An attached socket's identity. Set once; a refreshed token swaps only [`TokenRef`].
pub(super) struct Member {
    pub(super) fanout: Weak<Fanout>,
    pub(super) user: UserId,
    pub(super) session: SessionId,
    pub(super) device: Device,
    pub(super) token: parking_lot::Mutex<TokenRef>,
}

impl Member {
    pub(super) fn topic(&self) -> Topic {
        Topic::User(self.user)
    }

    pub(super) fn confirmed(&self, position: Position) {
        if let Some(fanout) = self.fanout.upgrade() {
            fanout.acker().confirm(self.user, &self.device, position);
        }
    }

    pub(super) fn catch_up(&self, outbox: &Arc<Outbox>) {
        if let Some(fanout) = self.fanout.upgrade() {
            fanout.spawn_catch_up(outbox.clone(), None);
        }
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("user", &self.user)
            .field("session", &self.session)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}
