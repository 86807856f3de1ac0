//! Whether clients do something, as far as it changes: gathered, and told to Redis.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use shared::{
    domain::{SessionId, UserId},
    redis::Activity,
};
use tokio::sync::Notify;

use crate::fanout::{Fanout, Outbox};

/// Most changes per call.
const BATCH: usize = 256;
/// What changes at once shares calls.
const GATHER: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(1);

/// What Redis does not know yet: at most one change per open socket.
#[derive(Debug, Default)]
pub(super) struct Activities {
    changes: Mutex<HashMap<SessionId, (UserId, bool)>>,
    news: Notify,
}

impl Activities {
    fn push(&self, user: UserId, session: SessionId, is_idle: bool) {
        self.changes.lock().insert(session, (user, is_idle));
        self.news.notify_one();
    }

    fn take(&self) -> Vec<Activity> {
        let mut changes = self.changes.lock();
        let sessions: Vec<SessionId> = changes.keys().take(BATCH).copied().collect();
        let taken = sessions.into_iter().filter_map(|session| {
            let (user, is_idle) = changes.remove(&session)?;
            Some(Activity {
                user,
                session,
                is_idle,
            })
        });
        taken.collect()
    }

    /// Unless something newer is known meanwhile.
    fn put_back(&self, taken: Vec<Activity>) {
        let mut changes = self.changes.lock();
        for it in taken {
            let change = (it.user, it.is_idle);
            changes.entry(it.session).or_insert(change);
        }
    }
}

impl Fanout {
    /// A client did nothing for long, or does something again.
    pub(in crate::fanout) fn note_activity(&self, outbox: &Outbox, is_idle: bool) {
        outbox.note_idle(is_idle);
        if let Some(member) = outbox.member() {
            let activities = &self.presences.activities;
            activities.push(member.user, member.session, is_idle);
        }
    }

    /// The task that tells.
    pub(in crate::fanout) async fn tell_activities(self: Arc<Self>) {
        let activities = &self.presences.activities;
        loop {
            tokio::select! {
                () = activities.news.notified() => tokio::time::sleep(GATHER).await,
                () = self.lifecycle.stopping() => return,
            }
            loop {
                let taken = activities.take();
                if taken.is_empty() {
                    break;
                }
                if let Err(error) = self.store.note_activity(&taken).await {
                    tracing::debug!(%error, "redis cannot be told yet who does something");
                    activities.put_back(taken);
                    activities.news.notify_one();
                    tokio::time::sleep(RETRY).await;
                    break;
                }
            }
        }
    }
}
