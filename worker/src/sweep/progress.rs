//! How far a step has come: in a counter, and in the log when it takes long.

use std::time::{Duration, Instant};

use shared::metrics::Label as _;

use crate::metrics::{SWEPT, Step};

/// Between two lines about the same step.
const SAY_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Progress {
    step: Step,
    done: u64,
    began: Instant,
    said: Instant,
}

impl Progress {
    pub(super) fn new(step: Step) -> Self {
        let began = Instant::now();
        Self {
            step,
            done: 0,
            began,
            said: began,
        }
    }

    pub(super) fn add(&mut self, count: u64) {
        self.done += count;
        SWEPT.of(self.step).increment(count);
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            self.say("sweeping");
        }
    }

    /// Answers how many there were.
    pub(super) fn finish(self) -> u64 {
        if self.done > 0 {
            self.say("swept");
        }
        self.done
    }

    fn say(&self, message: &str) {
        let step = Step::VALUES[self.step.index()];
        let seconds = self.began.elapsed().as_secs_f64();
        tracing::info!(step, done = self.done, seconds, "{message}");
    }
}
