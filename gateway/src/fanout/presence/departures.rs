//! Users whose last session ended here: whoever is not back in time is gone. What this node cannot
//! settle, a worker does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use shared::domain::{Partition, Topic, UserId};
use tokio::{sync::Notify, time::Instant};

use crate::fanout::{Fanout, metrics};

/// Departures that are due within this time share a call.
const GATHER: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(1);
/// Most that wait; a worker settles the others.
const MAX_WAITING: usize = 200_000;

/// In the order in which they are due.
#[derive(Debug, Default)]
pub(super) struct Departures {
    waiting: Mutex<BTreeSet<(Instant, Partition)>>,
    news: Notify,
}

impl Departures {
    fn push(&self, due: Instant, partition: Partition) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < MAX_WAITING {
            waiting.insert((due, partition));
        }
        let is_next = waiting.first() == Some(&(due, partition));
        drop(waiting);
        if is_next {
            self.news.notify_one();
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.waiting.lock().first().map(|(due, _)| *due)
    }

    fn take_due(&self, now: Instant) -> BTreeSet<Partition> {
        let mut waiting = self.waiting.lock();
        let mut due = BTreeSet::new();
        while let Some((_, partition)) = waiting.first().copied().filter(|(due, _)| *due <= now) {
            waiting.pop_first();
            due.insert(partition);
        }
        due
    }

    fn len(&self) -> usize {
        self.waiting.lock().len()
    }
}

impl Fanout {
    /// A user's last session ended.
    pub(in crate::fanout) fn departed(&self, user: UserId) {
        let partition = Topic::User(user).partition(self.store.partitions());
        let due = Instant::now() + self.settings.presence.grace;
        self.presences.departures.push(due, partition);
    }

    /// How many users left here and may still come back.
    pub(in crate::fanout) fn departures(&self) -> usize {
        self.presences.departures.len()
    }

    /// The task that settles.
    pub(in crate::fanout) async fn settle_departures(self: Arc<Self>) {
        let departures = &self.presences.departures;
        loop {
            let due = departures.next_due();
            tokio::select! {
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now) + GATHER), if due.is_some() => {}
                () = departures.news.notified() => continue,
                () = self.lifecycle.stopping() => return,
            }
            let partitions: Vec<_> = departures.take_due(Instant::now()).into_iter().collect();
            if !partitions.is_empty() {
                self.settle(&partitions).await;
            }
        }
    }

    async fn settle(&self, partitions: &[Partition]) {
        let settled = self.store.settle_presences(partitions).await;
        metrics::PRESENCE_GONE.increment(settled.gone.len() as u64);
        self.settle_again(&settled.more, Duration::ZERO);
        if let Some(error) = settled.error {
            let failed = settled.failed.len();
            tracing::debug!(%error, partitions = failed, "who is gone cannot be settled yet");
            self.settle_again(&settled.failed, RETRY);
        }
    }

    fn settle_again(&self, partitions: &[Partition], pause: Duration) {
        let due = Instant::now() + pause;
        for partition in partitions {
            self.presences.departures.push(due, *partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_due_first_is_taken_first() {
        let (departures, now) = (Departures::default(), Instant::now());
        let later = now + RETRY * 5;
        departures.push(later, Partition(1));
        departures.push(later, Partition(1));
        // What could not be settled comes before those who have all their time to come back.
        departures.push(now + RETRY, Partition(2));
        assert_eq!(departures.next_due(), Some(now + RETRY));
        assert_eq!(departures.take_due(now), BTreeSet::new());
        assert_eq!(departures.take_due(now + RETRY), [Partition(2)].into());
        assert_eq!((departures.next_due(), departures.len()), (Some(later), 1));
        assert_eq!(departures.take_due(later), [Partition(1)].into());
    }
}
