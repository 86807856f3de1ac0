//! Users whose last session ended here: whoever is not back in time is gone. What this node cannot
//! settle, a worker does.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use shared::{
    domain::{Partition, Topic, UserId},
    redis::MOST_SETTLED,
};
use tokio::{sync::Notify, time::Instant};

use crate::fanout::{Fanout, metrics};

/// Departures that are due within this time share a call.
const GATHER: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(1);
/// Most that wait; a worker settles the others.
const MAX_WAITING: usize = 200_000;

/// In the order in which they are due: the time to come back is the same for all.
#[derive(Debug, Default)]
pub(super) struct Departures {
    waiting: Mutex<VecDeque<(Instant, Partition)>>,
    news: Notify,
}

impl Departures {
    fn push(&self, due: Instant, partition: Partition) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < MAX_WAITING {
            waiting.push_back((due, partition));
        }
        drop(waiting);
        self.news.notify_one();
    }

    fn next_due(&self) -> Option<Instant> {
        self.waiting.lock().front().map(|(due, _)| *due)
    }

    fn take_due(&self, now: Instant) -> BTreeSet<Partition> {
        let mut waiting = self.waiting.lock();
        let count = waiting.iter().take_while(|(due, _)| *due <= now).count();
        waiting.drain(..count).map(|(_, it)| it).collect()
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
                () = departures.news.notified(), if due.is_none() => continue,
                () = self.lifecycle.stopping() => return,
            }
            let partitions: Vec<_> = departures.take_due(Instant::now()).into_iter().collect();
            if !partitions.is_empty() {
                self.settle(&partitions).await;
            }
        }
    }

    async fn settle(&self, partitions: &[Partition]) {
        match self.store.settle_presences(partitions).await {
            Ok(gone) => {
                metrics::PRESENCE_GONE.increment(gone.len() as u64);
                if gone.len() >= MOST_SETTLED {
                    self.settle_again(partitions, Duration::ZERO);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "who is gone cannot be settled yet");
                self.settle_again(partitions, RETRY);
            }
        }
    }

    fn settle_again(&self, partitions: &[Partition], pause: Duration) {
        let due = Instant::now() + pause;
        for partition in partitions {
            self.presences.departures.push(due, *partition);
        }
    }
}
