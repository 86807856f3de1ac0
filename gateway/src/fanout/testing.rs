//! For tests: sockets and entries without Redis, of sessions also without a topic and a hub.

use std::sync::{Weak, atomic::AtomicU64};

use parking_lot::Mutex;
use shared::domain::{Device, Entry, Position, SessionId, UserId};

use super::{
    Fanout, SharedEntry, TokenRef,
    line::Written,
    member::{Member, Seat},
    outbox::{Offered, Outbox, Then},
};
use crate::dialect::Feed;

/// Whose socket it is, where nobody asks for more than that.
pub(super) fn member_of(user: UserId, session: SessionId) -> Member {
    Member {
        fanout: Weak::<Fanout>::new(),
        user,
        session,
        device: Device::default(),
        token: Mutex::new(TokenRef {
            id: "t".into(),
            issued_at: 0,
        }),
        seat: AtomicU64::new(Seat::NONE),
        completed: Mutex::default(),
    }
}

impl Outbox {
    /// From now on entries after `at` are taken.
    pub(crate) fn go_live(&self, at: Position) {
        for feed in [Feed::User, Feed::Broadcast] {
            self.begin(feed, at);
            self.go_live_at(feed, at);
        }
    }

    /// Brings an entry. False if there is no room for it.
    pub(crate) fn hear(&self, entry: Entry) -> bool {
        let before = Position {
            offset: entry.position.offset - 1,
            ..entry.position
        };
        match self.offer_live(&SharedEntry::new(entry), before) {
            Offered::Taken(then) => {
                match then {
                    Then::Wake => self.wake(),
                    Then::Write => self.write(&mut Written::default()),
                    Then::Nothing => {}
                }
                true
            }
            Offered::FellBehind | Offered::NotLive => false,
        }
    }
}
