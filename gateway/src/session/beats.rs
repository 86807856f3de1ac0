//! Signs of life of a dialect's own, beside the pings of the transport.

use std::time::Duration;

use tokio::time::Instant;

use crate::dialect::Rhythm;

/// When the next sign is due, and when the client gave its last.
#[derive(Debug)]
pub(super) struct Beats {
    rhythm: Rhythm,
    sent: Instant,
    heard: Instant,
}

impl Beats {
    /// `None` where nothing of the kind was agreed on.
    pub(super) fn agreed(rhythm: Rhythm, now: Instant) -> Option<Box<Self>> {
        (rhythm != Rhythm::default()).then(|| {
            Box::new(Self {
                rhythm,
                sent: now,
                heard: now,
            })
        })
    }

    /// The client sent a message.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Whether a sign is due now; if so it counts as given.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|at| at <= now);
        if is_due {
            self.sent = now;
        }
        is_due
    }

    /// Whether the client was silent for more than so many of the times it agreed to.
    pub(super) fn is_missed(&self, times: u32, now: Instant) -> bool {
        self.given_up(times).is_some_and(|at| at <= now)
    }

    /// When there is something to do.
    pub(super) fn next_moment(&self, times: u32) -> Option<Instant> {
        self.due().into_iter().chain(self.given_up(times)).min()
    }

    /// A tenth early, for the way to the client takes time, too.
    fn due(&self) -> Option<Instant> {
        let every = |every: Duration| self.sent + every - every / 10;
        self.rhythm.send.map(every)
    }

    fn given_up(&self, times: u32) -> Option<Instant> {
        self.rhythm.expect.map(|every| self.heard + every * times)
    }
}
