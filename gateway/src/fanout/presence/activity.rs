//! Whether clients do something, as far as it changes: gathered, and told to Redis.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use shared::{domain::SessionId, redis::Activity};
use tokio::sync::Notify;

use crate::fanout::{Fanout, Outbox};

/// Most changes per call.
const BATCH: usize = 256;
/// What changes at once shares calls.
const GATHER: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(1);

/// The sockets of which Redis does not know yet whether their clients do something, by shard.
#[derive(Debug, Default)]
pub(super) struct Activities {
    changes: Mutex<HashMap<usize, HashMap<SessionId, Arc<Outbox>>>>,
    news: Notify,
}

impl Activities {
    fn push(&self, shard: usize, session: SessionId, outbox: Arc<Outbox>) {
        let mut changes = self.changes.lock();
        changes.entry(shard).or_default().insert(session, outbox);
        self.news.notify_one();
    }

    /// The shards that have to be told something.
    fn shards(&self) -> Vec<usize> {
        self.changes.lock().keys().copied().collect()
    }

    /// Some of a shard's that did not end meanwhile; none if there are no others.
    fn take(&self, shard: usize) -> Vec<Arc<Outbox>> {
        let mut all = self.changes.lock();
        while let Some(changes) = all.get_mut(&shard) {
            let sessions: Vec<SessionId> = changes.keys().take(BATCH).copied().collect();
            let taken = sessions.iter().filter_map(|it| changes.remove(it));
            let open: Vec<_> = taken.filter(|outbox| !outbox.is_ended()).collect();
            if changes.is_empty() {
                all.remove(&shard);
            }
            if !open.is_empty() {
                return open;
            }
        }
        Vec::new()
    }
}

impl Fanout {
    /// A client did nothing for long, or does something again.
    pub(in crate::fanout) fn note_activity(&self, outbox: &Arc<Outbox>, is_idle: bool) {
        outbox.note_idle(is_idle);
        self.tell_later(outbox);
    }

    fn tell_later(&self, outbox: &Arc<Outbox>) {
        if let Some(member) = outbox.member() {
            let shard = self.store.shard_of(member.topic());
            let activities = &self.presences.activities;
            activities.push(shard, member.session, outbox.clone());
        }
    }

    /// The task that tells each shard by itself: one that is away keeps no other waiting.
    pub(in crate::fanout) async fn tell_activities(self: Arc<Self>) {
        let activities = &self.presences.activities;
        let (mut told, mut telling) = (HashSet::new(), FuturesUnordered::new());
        loop {
            for shard in activities.shards() {
                if told.insert(shard) {
                    telling.push(self.tell_shard(shard));
                }
            }
            tokio::select! {
                () = activities.news.notified() => {}
                Some(shard) = telling.next() => {
                    told.remove(&shard);
                }
                () = self.lifecycle.stopping() => return,
            }
        }
    }

    /// Tells a shard all there is, and what could not be told a while later. Answers which.
    async fn tell_shard(&self, shard: usize) -> usize {
        tokio::time::sleep(GATHER).await;
        let mut untold = Vec::new();
        loop {
            let taken = self.presences.activities.take(shard);
            if taken.is_empty() {
                break;
            }
            untold.extend(self.tell_of(taken).await);
        }
        if !untold.is_empty() {
            tokio::time::sleep(RETRY).await;
            for outbox in &untold {
                self.tell_later(outbox);
            }
        }
        shard
    }

    /// Tells what is so now. Answers those of whom that could not be told.
    async fn tell_of(&self, outboxes: Vec<Arc<Outbox>>) -> Vec<Arc<Outbox>> {
        let told: Vec<(Activity, Arc<Outbox>)> = outboxes
            .into_iter()
            .filter_map(|outbox| {
                let member = outbox.member()?;
                let activity = Activity {
                    user: member.user,
                    session: member.session,
                    is_idle: outbox.is_idle(),
                };
                Some((activity, outbox))
            })
            .collect();
        let activities: Vec<Activity> = told.iter().map(|(activity, _)| *activity).collect();
        let answers = self.store.note_activity(&activities).await;
        if let Some(error) = answers.iter().find_map(|it| it.as_ref().err()) {
            tracing::debug!(%error, "redis cannot be told yet who does something");
        }
        let failed = told.into_iter().zip(answers).filter(|(_, it)| it.is_err());
        failed.map(|((_, outbox), _)| outbox).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        dialect::DialectId,
        fanout::{OutboxLimits, backlog::Stage},
    };

    const SHARD: usize = 3;

    #[test]
    fn of_each_socket_that_is_still_there_something_is_told_once() {
        let activities = Activities::default();
        let count = BATCH as u128 * 2 + 1;
        let outboxes: Vec<Arc<Outbox>> = (0..count)
            .map(|_| Outbox::new(OutboxLimits::default(), DialectId::Json))
            .collect();
        for _ in 0..2 {
            for (number, outbox) in outboxes.iter().enumerate() {
                let session = SessionId(Uuid::from_u128(number as u128));
                activities.push(SHARD, session, outbox.clone());
            }
        }
        // More of them than are taken at once.
        for outbox in &outboxes[1..] {
            outbox.enter(Stage::Ended);
        }
        let taken = activities.take(SHARD);
        assert_eq!(taken.len(), 1);
        assert!(Arc::ptr_eq(&taken[0], &outboxes[0]));
        assert!(activities.take(SHARD).is_empty());
        assert!(activities.shards().is_empty());
    }
}
