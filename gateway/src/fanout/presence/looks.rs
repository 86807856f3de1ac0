//! Users whose sockets may have lost, or won, the right to see somebody: each is looked at once by
//! one at a time, and again if something changed meanwhile or if nobody could tell.

use std::{
    collections::{BTreeSet, HashMap},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use shared::domain::UserId;
use tokio::{sync::Notify, time::Instant};

/// What changes for many users at once is looked at together.
pub(super) const GATHER: Duration = Duration::from_millis(100);
/// Pause before somebody is looked at again of whom nothing could be told, and the longest one.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(200);
pub(super) const LAST_RETRY: Duration = Duration::from_secs(10);

/// See the module. No more than the users who have sockets here: whoever has none is done with.
#[derive(Debug, Default)]
pub(super) struct Looks {
    state: Mutex<State>,
    pub(super) news: Notify,
    asked: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    due: BTreeSet<(Instant, UserId)>,
    users: HashMap<UserId, Look>,
}

/// Somebody who waits, or is being looked at.
#[derive(Debug, Default)]
struct Look {
    /// Absent while somebody looks, unless they are to look again.
    due: Option<Instant>,
    is_under_way: bool,
    failures: u32,
}

impl Looks {
    /// Something changed for a user.
    pub(super) fn ask(&self, user: UserId, now: Instant) {
        // Before anybody can look: see `count`.
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.state.lock().schedule(user, now + GATHER);
        self.news.notify_one();
    }

    /// How often something changed for anybody: what was asked before it rose may be outdated.
    pub(super) fn count(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// When the next is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.state.lock().due.first().map(|(due, _)| *due)
    }

    /// Somebody who is to be looked at; the caller tells by [`Self::done`] what came of it.
    pub(super) fn take(&self, now: Instant) -> Option<UserId> {
        let mut state = self.state.lock();
        let (_, user) = state.due.first().copied().filter(|(due, _)| *due <= now)?;
        state.due.pop_first();
        let look = state.users.entry(user).or_default();
        (look.due, look.is_under_way) = (None, true);
        Some(user)
    }

    /// Somebody was looked at, or it could not be told what they may see.
    pub(super) fn done(&self, user: UserId, is_known: bool, now: Instant) {
        let mut state = self.state.lock();
        let Some(look) = state.users.get_mut(&user) else {
            return;
        };
        look.is_under_way = false;
        if is_known {
            look.failures = 0;
        } else {
            let pause = FIRST_RETRY.saturating_mul(1 << look.failures.min(16));
            look.failures += 1;
            // One that was asked for meanwhile fares no better before.
            if let Some(due) = look.due.take() {
                state.due.remove(&(due, user));
            }
            return state.schedule(user, now + pause.min(LAST_RETRY));
        }
        match look.due {
            Some(due) => {
                state.due.insert((due, user));
            }
            None => {
                state.users.remove(&user);
            }
        }
    }
}

impl State {
    fn schedule(&mut self, user: UserId, at: Instant) {
        let look = self.users.entry(user).or_default();
        if look.due.is_some_and(|due| due <= at) {
            return;
        }
        let before = look.due.replace(at);
        if look.is_under_way {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, user));
        }
        self.due.insert((at, user));
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ANNA: UserId = UserId(Uuid::from_u128(1));
    const BEN: UserId = UserId(Uuid::from_u128(2));

    #[test]
    fn somebody_is_looked_at_once_however_often_that_is_asked_for() {
        let (looks, now) = (Looks::default(), Instant::now());
        looks.ask(ANNA, now);
        looks.ask(ANNA, now + GATHER / 2);
        assert_eq!(looks.next_due(), Some(now + GATHER));
        assert_eq!(looks.take(now), None, "what comes with it is awaited");
        assert_eq!(looks.take(now + GATHER), Some(ANNA));
        assert_eq!((looks.take(now + GATHER), looks.next_due()), (None, None));
        looks.done(ANNA, true, now + GATHER);
        assert_eq!(looks.next_due(), None);
        assert!(looks.state.lock().users.is_empty());
    }

    #[test]
    fn what_changes_meanwhile_is_looked_at_afterwards_and_not_beside() {
        let (looks, now) = (Looks::default(), Instant::now());
        looks.ask(ANNA, now);
        let later = now + GATHER;
        assert_eq!(looks.take(later), Some(ANNA));
        looks.ask(ANNA, later);
        assert_eq!(looks.take(later + GATHER), None, "she is being looked at");
        looks.done(ANNA, true, later + GATHER);
        assert_eq!(looks.take(later + GATHER), Some(ANNA));
    }

    #[test]
    fn whom_nobody_could_tell_of_comes_again_ever_later_and_holds_up_nobody() {
        let (looks, mut now) = (Looks::default(), Instant::now());
        looks.ask(ANNA, now);
        now += GATHER;
        let mut pauses = Vec::new();
        for _ in 0..40 {
            assert_eq!(looks.take(now), Some(ANNA));
            // Nor does a change bring her back before.
            looks.ask(ANNA, now);
            looks.done(ANNA, false, now);
            let due = looks.next_due().unwrap();
            pauses.push(due - now);
            looks.ask(BEN, now);
            if due > now + GATHER {
                assert_eq!(looks.take(due), Some(BEN));
                looks.done(BEN, true, due);
            }
            now = due;
        }
        assert_eq!(pauses[..3], [200, 400, 800].map(Duration::from_millis));
        assert_eq!(pauses.last(), Some(&LAST_RETRY));
        // What is known once begins anew.
        looks.take(now);
        looks.done(ANNA, true, now);
        assert!(!looks.state.lock().users.contains_key(&ANNA));
    }
}
