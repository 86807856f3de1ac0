//! Which entries the peer is known to have received.
//!
//! RFC 6455 obliges a peer to answer a ping with the same bytes, in order; so a pong proves
//! that everything written before its ping arrived. Every ping carries a mark that counts
//! up; this remembers what stood before which mark. At most one ping is awaited at a time.

use std::time::Duration;

use tokio::time::Instant;

use crate::fanout::Reach;

/// Least time between two pings that only confirm.
const PACE: Duration = Duration::from_secs(1);
#[derive(Debug)]
pub(super) struct Confirmations {
    mark: u64,
    /// The newest mark that was answered.
    answered: u64,
    /// The ping that is awaited, and the last entries written before it. Boxed: idle sockets await
    /// none.
    awaited: Option<Box<(u64, Reach)>>,
    /// The last entries that were handed to the socket.
    handed: Reach,
    /// The last entries that a ping was written after.
    asked: Reach,
    next_at: Instant,
    /// So many unconfirmed entries are confirmed without waiting.
    urgent: u32,
}

impl Confirmations {
    /// Nothing after `start` was handed out yet. `window` is how many entries may be
    /// unconfirmed; half of it is confirmed without waiting, or the window would set the pace.
    pub(super) fn new(start: Reach, window: u32, now: Instant) -> Self {
        Self {
            mark: 0,
            answered: 0,
            awaited: None,
            handed: start.clone(),
            asked: start,
            next_at: now,
            urgent: (window / 2).max(1),
        }
    }

    /// Entries up to `reach` are on their way.
    pub(super) fn handed(&mut self, reach: &Reach) {
        self.handed.extend(reach);
    }

    /// When a ping should follow the entries. `unconfirmed` is how many there are.
    pub(super) fn due_at(&self, unconfirmed: u32, now: Instant) -> Option<Instant> {
        if self.awaited.is_some() || !self.handed.is_beyond(&self.asked) {
            return None;
        }
        Some(if unconfirmed >= self.urgent {
            now
        } else {
            self.next_at
        })
    }

    /// For how many unconfirmed entries it is seen to that they are asked for in time: by the
    /// ping that is awaited, or by the moment that [`Confirmations::due_at`] told.
    pub(super) fn covered(&self) -> u32 {
        if self.awaited.is_some() {
            u32::MAX
        } else if self.handed.is_beyond(&self.asked) {
            self.urgent
        } else {
            0
        }
    }

    /// The mark of a ping that is queued now, behind everything handed out so far.
    pub(super) fn ping(&mut self, now: Instant) -> u64 {
        self.mark += 1;
        if self.awaited.is_none() && self.handed.is_beyond(&self.asked) {
            self.awaited = Some(Box::new((self.mark, self.handed.clone())));
            self.asked = self.handed.clone();
            self.next_at = now + PACE;
        }
        self.mark
    }

    /// The mark of a ping behind which nothing more is written, if anything is unconfirmed. Its
    /// pong confirms all of that, also what an earlier ping asks about.
    pub(super) fn last_ping(&mut self) -> Option<u64> {
        if self.awaited.is_none() && !self.handed.is_beyond(&self.asked) {
            return None;
        }
        self.mark += 1;
        self.awaited = Some(Box::new((self.mark, self.handed.clone())));
        self.asked = self.handed.clone();
        Some(self.mark)
    }

    /// Whether a pong answers a ping of ours that was not answered yet.
    pub(super) fn asked_for(&self, pong: &[u8]) -> bool {
        mark_of(pong).is_some_and(|mark| self.answered < mark && mark <= self.mark)
    }

    /// The peer answered a ping. Gives what it confirms. A later mark answers earlier ones,
    /// too: a peer may answer only the newest ping.
    pub(super) fn pong(&mut self, payload: &[u8]) -> Option<Reach> {
        let mark = mark_of(payload)?;
        if mark <= self.mark {
            self.answered = self.answered.max(mark);
        }
        let awaited = self.awaited.as_ref()?.0;
        if mark < awaited || mark > self.mark {
            return None;
        }
        self.awaited.take().map(|it| it.1)
    }
}

fn mark_of(pong: &[u8]) -> Option<u64> {
    pong.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use shared::domain::{Position, Queue};

    use super::*;

    fn at(offset: u64) -> Reach {
        Reach {
            user: Position { epoch: 1, offset },
            ..Reach::default()
        }
    }

    #[test]
    fn a_pong_confirms_what_stood_before_its_ping() {
        let now = Instant::now();
        let mut confirmations = Confirmations::new(at(3), 256, now);
        assert_eq!(confirmations.due_at(0, now), None);
        confirmations.handed(&at(5));
        assert_eq!(confirmations.due_at(2, now), Some(now));
        let mark = confirmations.ping(now);
        confirmations.handed(&at(9));
        assert_eq!(confirmations.due_at(6, now), None, "one ping at a time");
        assert_eq!(confirmations.pong(&mark.to_be_bytes()), Some(at(5)));
        assert_eq!(confirmations.due_at(4, now), Some(now + PACE));
        assert_eq!(confirmations.due_at(128, now), Some(now));
    }

    #[test]
    fn a_pong_confirms_queues_that_are_taken_by_themselves() {
        let now = Instant::now();
        let of = |offset| {
            let position = Position { epoch: 1, offset };
            Reach::default().with_queue(Queue::Messages, position)
        };
        let mut confirmations = Confirmations::new(Reach::default(), 256, now);
        confirmations.handed(&of(3));
        // An older one takes nothing back, and what is in no queue adds nothing.
        confirmations.handed(&of(2));
        confirmations.handed(&Reach::default());
        assert_eq!(confirmations.due_at(1, now), Some(now));
        let mark = confirmations.ping(now);
        assert_eq!(confirmations.due_at(1, now), None);
        assert_eq!(confirmations.pong(&mark.to_be_bytes()), Some(of(3)));
        confirmations.handed(&of(3));
        assert_eq!(confirmations.due_at(1, now), None, "nothing new");
    }

    #[test]
    fn a_heartbeat_confirms_too_and_its_pong_answers_for_earlier_ones() {
        let now = Instant::now();
        let mut confirmations = Confirmations::new(at(0), 256, now);
        let idle = confirmations.ping(now);
        assert_eq!(
            confirmations.pong(&idle.to_be_bytes()),
            None,
            "nothing to confirm"
        );
        confirmations.handed(&at(1));
        confirmations.ping(now);
        confirmations.handed(&at(2));
        let later = confirmations.ping(now);
        assert_eq!(confirmations.pong(&later.to_be_bytes()), Some(at(1)));
    }

    #[test]
    fn stale_forged_and_foreign_pongs_confirm_nothing() {
        let now = Instant::now();
        let mut confirmations = Confirmations::new(at(0), 256, now);
        let before = confirmations.ping(now);
        confirmations.handed(&at(1));
        let mark = confirmations.ping(now);
        assert_eq!(confirmations.pong(&before.to_be_bytes()), None);
        assert_eq!(confirmations.pong(&(mark + 1).to_be_bytes()), None);
        assert_eq!(confirmations.pong(b""), None);
        assert_eq!(confirmations.pong(b"hello, world"), None);
        assert_eq!(confirmations.pong(&mark.to_be_bytes()), Some(at(1)));
        assert_eq!(confirmations.pong(&mark.to_be_bytes()), None, "once");
    }

    #[test]
    fn the_last_ping_confirms_everything() {
        let now = Instant::now();
        let mut confirmations = Confirmations::new(at(0), 256, now);
        assert_eq!(confirmations.last_ping(), None, "nothing to confirm");
        confirmations.handed(&at(1));
        confirmations.ping(now);
        confirmations.handed(&at(2));
        let last = confirmations.last_ping().unwrap();
        assert_eq!(confirmations.pong(&last.to_be_bytes()), Some(at(2)));
    }

    #[test]
    fn each_ping_asks_for_one_pong() {
        let now = Instant::now();
        let mut confirmations = Confirmations::new(at(0), 256, now);
        let marks: Vec<_> = (0..3)
            .map(|_| confirmations.ping(now).to_be_bytes())
            .collect();
        assert!(!confirmations.asked_for(&[]));
        assert!(!confirmations.asked_for(&4_u64.to_be_bytes()));
        for mark in [&marks[0], &marks[2]] {
            assert!(confirmations.asked_for(mark));
            confirmations.pong(mark);
            assert!(!confirmations.asked_for(mark));
        }
        assert!(
            !confirmations.asked_for(&marks[1]),
            "answered by a later one"
        );
    }
}
