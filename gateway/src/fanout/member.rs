//! Who an attached socket belongs to, and its way back to the fan-out.

use std::{
    collections::HashSet,
    sync::{Arc, Weak, atomic::AtomicU64},
};

use shared::{
    domain::{ConversationId, Device, MessageId, SessionId, Topic, UserId},
    redis::ConversationReader,
};

use super::{Fanout, outbox::Outbox, readers::ReadUpto, receiver::Received, track::Confirmed};
use crate::dialect::Feed;

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
    /// Where it sits among those that follow broadcasts; a [`Seat`]. Only touched under the lock of
    /// the log of broadcasts.
    pub(super) seat: AtomicU64,
    /// Broadcasts that its user has completed, and that it has not had.
    #[expect(
        clippy::box_collection,
        reason = "a set takes 48 bytes, and idle sockets have none"
    )]
    pub(super) completed: parking_lot::Mutex<Option<Box<HashSet<MessageId>>>>,
}

/// A place in an audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    /// The number of the audience.
    pub(super) audience: u32,
    /// Which of its sockets.
    pub(super) place: u32,
}

impl Seat {
    /// Nowhere.
    pub(super) const NONE: u64 = u64::MAX;

    pub(super) fn pack(self) -> u64 {
        (u64::from(self.audience) << 32) | u64::from(self.place)
    }

    pub(super) fn unpack(packed: u64) -> Option<Self> {
        (packed != Self::NONE).then_some(Self {
            audience: (packed >> 32) as u32,
            place: packed as u32,
        })
    }
}

impl Member {
    pub(super) fn topic(&self) -> Topic {
        Topic::User(self.user)
    }

    /// The device as one that reads a conversation; `joined`: the version by which the user did.
    pub(super) fn reads(&self, conversation: ConversationId, joined: u64) -> ConversationReader {
        ConversationReader {
            conversation,
            user: self.user,
            device: self.device.clone(),
            joined,
        }
    }

    pub(super) fn confirmed(&self, feed: Feed, confirmed: Confirmed) {
        let Some(fanout) = self.fanout.upgrade() else {
            return;
        };
        let Confirmed {
            upto,
            skipped,
            commands,
            joined,
        } = confirmed;
        let (acker, receiver) = (&fanout.acker, &fanout.receiver);
        match feed {
            Feed::User => acker.confirm(self.user, &self.device, None, upto, skipped),
            Feed::Queue(queue) => {
                acker.confirm(self.user, &self.device, Some(queue), upto, skipped);
            }
            Feed::Broadcast => {
                let received = Received { upto, commands };
                receiver.add((self.user, self.device.clone()), received);
            }
            Feed::Conversation(conversation) => {
                let reader = self.reads(conversation, joined);
                fanout.readers.add(reader, ReadUpto(upto));
            }
        }
    }

    pub(super) fn catch_up(&self, outbox: &Arc<Outbox>, feeds: Vec<Feed>) {
        for feed in feeds {
            if let Some(fanout) = self.fanout.upgrade() {
                fanout.spawn_catch_up(outbox.clone(), feed, None);
            }
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
