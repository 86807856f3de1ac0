//! Partitions that cannot be served for now, because a shard of Redis they need is away.

use std::{collections::BTreeSet, time::Instant};

use shared::domain::Partition;

use super::backoff::Backoff;

/// Set aside so that the others flow, and tried again all at once: a try may take as long as a
/// call to a dead shard, so there should be few of them.
#[derive(Debug, Default)]
pub struct Aside {
    partitions: BTreeSet<Partition>,
    until: Option<Instant>,
    backoff: Backoff,
}

impl Aside {
    /// These failed.
    pub fn add(&mut self, failed: impl IntoIterator<Item = Partition>, now: Instant) {
        self.partitions.extend(failed);
        if self.until.is_none() && !self.partitions.is_empty() {
            self.until = Some(now + self.backoff.failed(&mut rand::rng()));
        }
    }

    /// True while it is not to be tried.
    pub fn has(&self, partition: Partition) -> bool {
        self.partitions.contains(&partition)
    }

    /// Begins a round: lets all be tried again if it is time.
    pub fn release(&mut self, now: Instant) {
        match self.until {
            Some(until) if now >= until => {
                self.partitions.clear();
                self.until = None;
            }
            Some(_) => {}
            // A round has passed in which nothing failed.
            None => self.backoff.worked(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_are_tried_at_once_and_less_often_while_they_fail() {
        let mut aside = Aside::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..10 {
            aside.add([Partition(1)], now);
            let wait = aside.until.unwrap() - now;
            aside.add([Partition(2)], now + wait / 2);
            assert_eq!(
                aside.until,
                Some(now + wait),
                "one more does not put it off"
            );
            aside.release(now + wait / 2);
            assert!(aside.has(Partition(1)) && aside.has(Partition(2)));
            now += wait;
            aside.release(now);
            assert!(!aside.has(Partition(1)) && !aside.has(Partition(2)));
            waits.push(wait);
        }
        assert!(waits[9] > waits[0] * 10);
        // A round without a failure.
        aside.release(now);
        aside.add([Partition(1)], now);
        assert!(aside.until.unwrap() - now <= Duration::from_millis(100));
    }
}
