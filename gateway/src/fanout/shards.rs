//! Shards that something has to be done about, once however often it is asked for.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use shared::lifecycle::Lifecycle;
use tokio::sync::Notify;

/// How long a shard waits when it could not be dealt with.
const RETRY: Duration = Duration::from_millis(500);

/// The shards that wait.
#[derive(Debug, Default)]
pub(super) struct Shards {
    /// Each once, in the order in which they came: one that is put back again and again holds up no
    /// other.
    waiting: Mutex<VecDeque<usize>>,
    news: Notify,
}

impl Shards {
    pub(super) fn push(&self, shard: usize) {
        let mut waiting = self.waiting.lock();
        if !waiting.contains(&shard) {
            waiting.push_back(shard);
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// The next shard; none once the process stops.
    pub(super) async fn next(&self, lifecycle: &Lifecycle) -> Option<usize> {
        while !lifecycle.is_stopping() {
            let next = self.waiting.lock().pop_front();
            if next.is_some() {
                return next;
            }
            tokio::select! {
                () = self.news.notified() => {}
                () = lifecycle.stopping() => {}
            }
        }
        None
    }

    /// It could not be dealt with: waits for a moment, then it is among the next.
    pub(super) async fn put_back(&self, shard: usize, lifecycle: &Lifecycle) {
        self.push(shard);
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = lifecycle.stopping() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_is_put_back_holds_up_no_other() {
        let (shards, lifecycle) = (Shards::default(), Lifecycle::default());
        for shard in [2, 0, 1, 0] {
            shards.push(shard);
        }
        let mut order = Vec::new();
        for _ in 0..4 {
            let next = shards.next(&lifecycle).await.unwrap();
            order.push(next);
            if next == 0 {
                shards.put_back(next, &lifecycle).await;
            }
        }
        assert_eq!(order, [2, 0, 1, 0]);
    }
}
