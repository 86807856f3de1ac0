//! Shards that something has to be done about, once however often it is asked for.

use std::{collections::BTreeSet, time::Duration};

use parking_lot::Mutex;
use shared::lifecycle::Lifecycle;
use tokio::sync::Notify;

/// How long a shard waits when it could not be dealt with.
const RETRY: Duration = Duration::from_millis(500);

/// The shards that wait.
#[derive(Debug, Default)]
pub(super) struct Shards {
    waiting: Mutex<BTreeSet<usize>>,
    news: Notify,
}

impl Shards {
    pub(super) fn push(&self, shard: usize) {
        self.waiting.lock().insert(shard);
        self.news.notify_one();
    }

    /// The next shard; none once the process stops.
    pub(super) async fn next(&self, lifecycle: &Lifecycle) -> Option<usize> {
        while !lifecycle.is_stopping() {
            let next = self.waiting.lock().pop_first();
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
