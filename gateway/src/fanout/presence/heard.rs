//! What was heard of users, on its way to those who watch them. Whoever hears the bells brings all that
//! sockets are told, and has no time to look through watchers: it leaves presences here.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use shared::domain::{Presence, UserId};
use tokio::sync::Notify;

use crate::fanout::{Fanout, topic::Effects};

/// Users at a time: other tasks of the thread come in between.
pub(super) const SLICE: usize = 64;

/// Of each user only the newest: so no more than the users whose channels are subscribed to.
#[derive(Debug, Default)]
pub(super) struct Heard {
    newest: Mutex<HashMap<UserId, Presence>>,
    news: Notify,
}

impl Heard {
    fn push(&self, presences: Vec<Presence>) {
        let mut newest = self.newest.lock();
        for presence in presences {
            let is_older = |it: &Presence| it.version > presence.version;
            if !newest.get(&presence.user).is_some_and(is_older) {
                newest.insert(presence.user, presence);
            }
        }
        drop(newest);
        self.news.notify_one();
    }

    fn take(&self) -> Vec<Presence> {
        std::mem::take(&mut *self.newest.lock())
            .into_values()
            .collect()
    }
}

impl Fanout {
    /// Users appear otherwise.
    pub(in crate::fanout) fn hear_presences(&self, presences: Vec<Presence>) {
        self.presences.heard.push(presences);
    }

    /// The task that tells watchers what was heard.
    pub(in crate::fanout) async fn pass_on_presences(self: Arc<Self>) {
        let heard = &self.presences.heard;
        loop {
            tokio::select! {
                () = heard.news.notified() => {}
                () = self.lifecycle.stopping() => return,
            }
            let mut presences = heard.take().into_iter().peekable();
            while presences.peek().is_some() {
                let mut effects = Effects::default();
                for presence in presences.by_ref().take(SLICE) {
                    self.presences.watches.hear(presence, &mut effects);
                }
                self.apply(effects);
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn of_each_user_the_newest_waits() {
        let heard = Heard::default();
        let of = |user, version| Presence {
            version,
            ..Presence::unknown(UserId(Uuid::from_u128(user)))
        };
        heard.push(vec![of(1, 2), of(2, 9), of(1, 3)]);
        heard.push(vec![of(1, 1)]);
        let mut taken = heard.take();
        taken.sort_by_key(|it| it.user);
        assert_eq!(taken, [of(1, 3), of(2, 9)]);
        assert_eq!(heard.take(), []);
    }
}
