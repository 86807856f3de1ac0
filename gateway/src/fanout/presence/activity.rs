//! Whether clients do something, as far as it changes: gathered, and told to Redis.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use shared::{domain::SessionId, redis::Activity};
use tokio::{sync::Notify, time::Instant};

use crate::fanout::{Fanout, Outbox};

/// Most changes per call.
const BATCH: usize = 256;
/// What changes at once shares calls.
const GATHER: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(1);

/// The sockets of which Redis does not know yet whether their clients do something.
#[derive(Debug, Default)]
pub(super) struct Activities {
    changes: Mutex<HashMap<SessionId, Arc<Outbox>>>,
    news: Notify,
}

impl Activities {
    fn push(&self, session: SessionId, outbox: Arc<Outbox>) {
        self.changes.lock().insert(session, outbox);
        self.news.notify_one();
    }

    /// Some of those that did not end meanwhile; none if there are no others.
    fn take(&self) -> Vec<Arc<Outbox>> {
        let mut changes = self.changes.lock();
        while !changes.is_empty() {
            let sessions: Vec<SessionId> = changes.keys().take(BATCH).copied().collect();
            let taken = sessions.iter().filter_map(|it| changes.remove(it));
            let open: Vec<_> = taken.filter(|outbox| !outbox.is_ended()).collect();
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
        if let Some(member) = outbox.member() {
            let activities = &self.presences.activities;
            activities.push(member.session, outbox.clone());
        }
    }

    /// The task that tells. What a shard that is away could not be told waits; the others go on.
    pub(in crate::fanout) async fn tell_activities(self: Arc<Self>) {
        let activities = &self.presences.activities;
        let mut untold: HashMap<SessionId, Arc<Outbox>> = HashMap::new();
        let mut retry: Option<Instant> = None;
        loop {
            tokio::select! {
                () = activities.news.notified() => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                    retry = None;
                    activities.changes.lock().extend(untold.drain());
                }
                () = self.lifecycle.stopping() => return,
            }
            loop {
                let taken = activities.take();
                if taken.is_empty() {
                    break;
                }
                untold.extend(self.tell_of(taken).await);
            }
            if !untold.is_empty() {
                retry.get_or_insert_with(|| Instant::now() + RETRY);
            }
        }
    }

    /// Tells what is so now. Answers those of whom that could not be told.
    async fn tell_of(&self, outboxes: Vec<Arc<Outbox>>) -> Vec<(SessionId, Arc<Outbox>)> {
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
        failed
            .map(|((activity, outbox), _)| (activity.session, outbox))
            .collect()
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
                activities.push(session, outbox.clone());
            }
        }
        // More of them than are taken at once.
        for outbox in &outboxes[1..] {
            outbox.enter(Stage::Ended);
        }
        let taken = activities.take();
        assert_eq!(taken.len(), 1);
        assert!(Arc::ptr_eq(&taken[0], &outboxes[0]));
        assert!(activities.take().is_empty());
        assert!(activities.changes.lock().len() < outboxes.len());
    }
}
