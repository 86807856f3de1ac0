//! Re-reads topics of which something is missing: after a gap, or when Redis' head is beyond
//! what was heard. Paced, so that a lost connection with a hundred thousand topics is no
//! stampede.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use shared::domain::Topic;
use tokio::{sync::Notify, time::Instant};

use super::{Fanout, metrics, reader::Walk, topic::Effects};

/// Most re-reads at a time.
const AT_A_TIME: usize = 64;
/// Entries per read.
const CHUNK: u32 = 256;
/// How long a topic waits when it could not be read.
const RETRY: Duration = Duration::from_millis(500);

/// Topics that wait for a re-read. One is in here again only if it was given up and taken up
/// meanwhile; two re-reads do not disturb each other, as a topic takes only what is news to it.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    waiting: Mutex<VecDeque<Topic>>,
    news: Notify,
}

impl Repairs {
    pub(super) fn push(&self, topic: Topic) {
        self.waiting.lock().push_back(topic);
        self.news.notify_one();
    }

    fn pop(&self) -> Option<Topic> {
        self.waiting.lock().pop_front()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }
}

impl Fanout {
    /// The task that re-reads.
    pub(super) async fn repair_topics(self: Arc<Self>) {
        let mut running = FuturesUnordered::new();
        // The same pause for all, so they stay in order.
        let mut retries: VecDeque<(Instant, Topic)> = VecDeque::new();
        loop {
            while running.len() < AT_A_TIME
                && let Some(topic) = self.repairs.pop()
            {
                running.push(self.repair(topic));
            }
            let next_retry = retries.front().map(|(due, _)| *due);
            tokio::select! {
                Some(failed) = running.next() => if let Some(topic) = failed {
                    retries.push_back((Instant::now() + RETRY, topic));
                },
                () = self.repairs.news.notified(), if running.len() < AT_A_TIME => {}
                () = tokio::time::sleep_until(next_retry.unwrap_or_else(Instant::now)), if next_retry.is_some() => {
                    if let Some((_, topic)) = retries.pop_front() {
                        self.repairs.push(topic);
                    }
                }
                () = self.lifecycle.stopping() => return,
            }
        }
    }

    /// Reads a topic until nothing is missing. Answers the topic if that has to be tried again.
    async fn repair(self: &Arc<Self>, topic: Topic) -> Option<Topic> {
        metrics::REPAIRS.increment(1);
        let mut walk: Option<Walk> = None;
        while let Some((after, target)) = self.hub.repair_from(topic) {
            // While in Postgres, a walk knows more than the position.
            let mut at = walk
                .filter(|walk| walk.at() >= after)
                .unwrap_or(Walk::from(after));
            let chunk = match self.reader.next(topic, &mut at, CHUNK).await {
                Ok(chunk) => chunk,
                Err(error) => {
                    tracing::debug!(%error, %topic, "a topic cannot be re-read yet");
                    return Some(topic);
                }
            };
            walk = Some(at);
            let mut effects = Effects::default();
            let whole = self
                .hub
                .repaired(topic, chunk.entries, chunk.end, target, &mut effects);
            self.apply(effects);
            if whole {
                break;
            }
        }
        None
    }
}
