//! Topics without sockets stay followed for a moment: a client that reconnects finds its
//! topic ready, and Redis is spared a subscription each way.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use shared::domain::Topic;
use tokio::time::Instant;

use super::Fanout;

const LINGER: Duration = Duration::from_secs(5);
/// Most topics that linger; beyond, the oldest go at once.
const MAX_LINGERING: usize = 20_000;
/// How often the end of it is looked for.
const TICK: Duration = Duration::from_secs(1);
/// Most unsubscriptions in flight.
const IN_FLIGHT: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Linger {
    topics: Mutex<VecDeque<(Instant, Topic)>>,
}

impl Linger {
    /// The last socket of a topic is gone.
    pub(super) fn push(&self, topic: Topic) {
        self.topics
            .lock()
            .push_back((Instant::now() + LINGER, topic));
    }

    fn take_due(&self) -> Vec<Topic> {
        let mut topics = self.topics.lock();
        let now = Instant::now();
        let timely = topics.partition_point(|(due, _)| *due <= now);
        let count = timely.max(topics.len().saturating_sub(MAX_LINGERING));
        topics.drain(..count).map(|(_, topic)| topic).collect()
    }
}

impl Fanout {
    /// If nobody needs a topic any more, it is given up in a moment.
    pub(super) fn linger_if_unused(&self, topic: Topic) {
        if self.hub.is_unused(topic) {
            self.linger.push(topic);
        }
    }

    /// The task that unsubscribes.
    pub(super) async fn unsubscribe_idle(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.lifecycle.stopping() => return,
            }
            let due = self.linger.take_due();
            stream::iter(due)
                .for_each_concurrent(IN_FLIGHT, async |topic| {
                    if !self.hub.begin_unsubscribe(topic) {
                        return;
                    }
                    if let Err(error) = self.bells.unsubscribe(topic).await {
                        // The bell may go on ringing for a topic nobody has here: ignored.
                        tracing::debug!(%error, "an idle topic cannot be unsubscribed");
                    }
                    self.hub.unsubscribed(topic);
                })
                .await;
        }
    }
}
