//! For tests of sessions: entries without a topic, a hub or Redis.

use shared::domain::{Entry, Position};

use super::{
    SharedEntry,
    line::Written,
    outbox::{Offered, Outbox, Then},
};
use crate::dialect::Feed;

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
