//! One node's share of one bucket: the tokens it was lent, and what it does when they run out.
//! Pure: no store, no task, and the time comes in.
//!
//! **Never too many.** What is lent counts as used in Redis from the moment it is lent. There it
//! comes back with time, used or not; so what is not used here lapses by as much as Redis has
//! got back: of a lease that makes the bucket full at `D`, no more tokens are good at `t` than
//! fit between `t` and `D`. For the same reason a node puts tokens back only if nobody has taken
//! since. So whatever nodes hold and Redis has left together is never more than what one bucket would
//! have left, at any moment.
//!
//! A token for somebody who waits for it is used the moment Redis gives it, and does not lapse.

use std::{collections::VecDeque, time::Duration};

use shared::redis::Tokens;
use tokio::{sync::oneshot, time::Instant};

use super::rate::{Gcra, Rate};

/// Who asks again within this time is busy: gets twice as many, and ahead of time.
const BUSY: Duration = Duration::from_secs(1);
/// Least time between two questions once the bucket had less than was asked for.
const PAUSE: Duration = Duration::from_millis(50);
/// An unused lease of this age is put back.
const GIVE_AFTER: Duration = Duration::from_secs(3);
/// Someone who was not busy gets this part of a whole lease.
const FIRST_PART: u32 = 8;

/// Tokens lent to this node.
#[derive(Debug)]
struct Lease {
    left: u32,
    /// When the bucket would be full, as Redis names it.
    full_at: u64,
    /// The same here, and rather too early than too late.
    lapses: Instant,
    since: Instant,
}

impl Lease {
    /// How many are still good.
    fn good(&self, rate: Rate, now: Instant) -> u32 {
        let micros = self.lapses.saturating_duration_since(now).as_micros();
        let fit = micros / rate.spacing.as_micros().max(1);
        u32::try_from(fit).unwrap_or(u32::MAX).min(self.left)
    }
}

/// What somebody who waits is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There was a token.
    Taken,
    /// There is none for so long.
    Refused(Duration),
    /// Redis did not tell: count alone.
    Alone,
}

/// What becomes of somebody who wants a token. `ask`: put a question for so many to Redis.
#[derive(Debug)]
pub(super) enum Step {
    /// There was one here.
    Taken { ask: Option<u32> },
    /// There is none for so long.
    Refused(Duration),
    /// That is up to Redis.
    Wait {
        verdict: oneshot::Receiver<Verdict>,
        ask: Option<u32>,
    },
}

/// A node's share of a bucket.
#[derive(Debug)]
pub(super) struct Share {
    /// What this node has let pass: the bucket if no other node had let anything pass.
    alone: Gcra,
    /// Oldest first. Of two, somebody else took in between.
    leases: Vec<Lease>,
    waiting: VecDeque<oneshot::Sender<Verdict>>,
    /// How many tokens Redis is asked for now.
    asking: Option<u32>,
    /// How many it was asked for last, and when.
    last: Option<(u32, Instant)>,
    /// Redis has none before.
    none_until: Instant,
}

impl Share {
    /// Of a bucket that this node has not touched.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            alone: Gcra::full(now),
            leases: Vec::new(),
            waiting: VecDeque::new(),
            asking: None,
            last: None,
            none_until: now,
        }
    }

    /// Somebody wants a token.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> Step {
        self.drop_lapsed(rate, now);
        if let Some(lease) = self.leases.first_mut() {
            lease.left -= 1;
            self.alone.take(rate, now);
            let ask = self.is_running_out(now).then(|| self.ask(rate, now));
            return Step::Taken { ask };
        }
        // Nobody has more than one who is alone.
        let wait = self.alone.wait(rate, now);
        if !wait.is_zero() {
            return Step::Refused(wait);
        }
        if self.asking.is_none() && now < self.none_until {
            return Step::Refused(self.none_until - now);
        }
        let (told, verdict) = oneshot::channel();
        self.waiting.push_back(told);
        let ask = self.asking.is_none().then(|| self.ask(rate, now));
        Step::Wait { verdict, ask }
    }

    /// Somebody wants a token that Redis cannot be asked for: this node counts by itself.
    pub(super) fn take_alone(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let wait = self.alone.wait(rate, now);
        if wait.is_zero() {
            self.alone.take(rate, now);
            return Ok(());
        }
        Err(wait)
    }

    /// Redis answered a question that was put to it at `asked`; nothing, if it did not in time. Answers
    /// for how many to ask at once again.
    pub(super) fn answered(
        &mut self,
        rate: Rate,
        asked: Instant,
        now: Instant,
        tokens: Option<&Tokens>,
    ) -> Option<u32> {
        let wanted = self.asking.take().unwrap_or_default();
        let Some(tokens) = tokens else {
            self.tell_all(Verdict::Alone);
            return None;
        };
        let left = self.hand_out(rate, now, tokens.count);
        self.keep(left, asked, tokens);
        if tokens.count < wanted {
            let wait = tokens.next_in.max(PAUSE);
            self.none_until = now + wait;
            self.tell_all(Verdict::Refused(wait));
        }
        self.waiting.retain(|told| !told.is_closed());
        (!self.waiting.is_empty()).then(|| self.ask(rate, now))
    }

    /// Takes out what has not been used for long, to be put back: how many, and the bucket as
    /// it was after they were taken.
    pub(super) fn give(&mut self, rate: Rate, now: Instant) -> Option<(u32, u64)> {
        self.drop_lapsed(rate, now);
        let last = self.leases.last()?;
        if self.asking.is_some() || now.saturating_duration_since(last.since) < GIVE_AFTER {
            return None;
        }
        // Whatever is older, somebody took after it.
        let last = self.leases.drain(..).next_back()?;
        Some((last.left, last.full_at))
    }

    /// True if nothing would be different without it.
    pub(super) fn is_at_rest(&self, now: Instant) -> bool {
        self.asking.is_none()
            && self.waiting.is_empty()
            && self.leases.is_empty()
            && self.alone.is_full(now)
            && self.none_until <= now
    }

    fn drop_lapsed(&mut self, rate: Rate, now: Instant) {
        self.leases.retain_mut(|lease| {
            lease.left = lease.good(rate, now);
            lease.left > 0
        });
    }

    /// True if half of what was asked for is used, and the other half will soon be.
    fn is_running_out(&self, now: Instant) -> bool {
        let left: u32 = self.leases.iter().map(|lease| lease.left).sum();
        self.asking.is_none()
            && now >= self.none_until
            && self
                .last
                .is_some_and(|(count, at)| left <= count / 2 && now - at < BUSY)
    }

    /// Begins to ask Redis; for how many.
    fn ask(&mut self, rate: Rate, now: Instant) -> u32 {
        let (most, waiting) = (rate.lease(), self.waiting.len() as u32);
        let count = match self.last {
            Some((count, at)) if now.saturating_duration_since(at) < BUSY => count * 2,
            _ => most / FIRST_PART,
        };
        let count = count.max(waiting).clamp(1, most);
        self.last = Some((count, now));
        self.asking = Some(count);
        count
    }

    /// Gives tokens to those who wait; how many are left.
    fn hand_out(&mut self, rate: Rate, now: Instant, mut count: u32) -> u32 {
        while count > 0
            && let Some(told) = self.waiting.pop_front()
        {
            if told.send(Verdict::Taken).is_ok() {
                self.alone.take(rate, now);
                count -= 1;
            }
        }
        count
    }

    fn tell_all(&mut self, verdict: Verdict) {
        for told in self.waiting.drain(..) {
            // Whoever does not wait any more need not know.
            let _ = told.send(verdict);
        }
    }

    /// Remembers what is left of tokens that Redis gave.
    fn keep(&mut self, left: u32, asked: Instant, tokens: &Tokens) {
        if tokens.count == 0 {
            return;
        }
        let lease = Lease {
            left,
            full_at: tokens.full_at,
            lapses: asked + tokens.full_in,
            since: asked,
        };
        match self.leases.last_mut() {
            // Nobody took in between: together they are one.
            Some(last) if last.full_at == tokens.full_before => {
                last.left += left;
                *last = Lease {
                    left: last.left,
                    ..lease
                };
            }
            _ if left > 0 => self.leases.push(lease),
            _ => {}
        }
    }
}
