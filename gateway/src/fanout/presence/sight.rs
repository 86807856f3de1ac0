//! Who may see whom: asked when somebody begins to watch, whenever something changes in the watcher's
//! conversations, and slowly in any case, as large conversations are not told of in users' logs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream};
use parking_lot::Mutex;
use shared::domain::{Refusal, Topic, UserId};
use tokio::sync::Notify;

use crate::fanout::{Fanout, Outbox};

/// What changes for many users at once is looked at together.
const GATHER: Duration = Duration::from_millis(100);
/// Users looked at side by side.
const AT_ONCE: usize = 8;
/// Pairs in one question.
const CHUNK: usize = 256;

/// Knows who may see how whom appears. The application does.
pub trait Sight: Send + Sync {
    /// Those of these pairs whose first user may see how the second appears.
    fn permitted<'a>(
        &'a self,
        pairs: &'a [(UserId, UserId)],
    ) -> BoxFuture<'a, Result<HashSet<(UserId, UserId)>, Refusal>>;

    /// The others with whom a user shares conversations, as far as the user may see how they appear;
    /// at most a thousand.
    fn contacts(&self, user: UserId) -> BoxFuture<'_, Result<Vec<UserId>, Refusal>>;
}

/// Users in whose conversations something changed.
#[derive(Debug, Default)]
pub(super) struct Looks {
    users: Mutex<HashSet<UserId>>,
    news: Notify,
}

impl Fanout {
    /// Who is asked; only the first counts. Until then nobody may see anybody.
    pub fn ask_for_sight(&self, sight: Arc<dyn Sight>) {
        let _ = self.presences.sight.set(sight);
    }

    /// Those of these pairs whose first user may see how the second appears; `unavailable` if that
    /// cannot be told now.
    pub async fn who_may_be_seen(
        &self,
        pairs: &[(UserId, UserId)],
    ) -> Result<HashSet<(UserId, UserId)>, Refusal> {
        match self.presences.sight.get() {
            Some(sight) => sight.permitted(pairs).await,
            None => Ok(HashSet::new()),
        }
    }

    /// Something changed in conversations of this user.
    pub(in crate::fanout) fn look_at_sight_of(&self, user: UserId) {
        let looks = &self.presences.looks;
        let is_new = looks.users.lock().insert(user);
        if is_new {
            looks.news.notify_one();
        }
    }

    /// The task that looks at who may still see whom.
    pub(in crate::fanout) async fn keep_sight(self: Arc<Self>) {
        let mut tick = tokio::time::interval(self.settings.presence.sight_interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tick.tick().await;
        loop {
            tokio::select! {
                () = self.presences.looks.news.notified() => {
                    tokio::time::sleep(GATHER).await;
                    let users = std::mem::take(&mut *self.presences.looks.users.lock());
                    stream::iter(users)
                        .for_each_concurrent(AT_ONCE, async |user| self.look_at(user).await)
                        .await;
                }
                _ = tick.tick() => self.look_at_all().await,
                () = self.lifecycle.stopping() => return,
            }
        }
    }

    /// Takes from a user's sockets whom the user may not see any more, and brings those that watch
    /// all contacts the new ones.
    async fn look_at(self: &Arc<Self>, user: UserId) {
        let mut watching: Vec<(Arc<Outbox>, Vec<UserId>)> = self
            .hub
            .members(Topic::User(user))
            .into_iter()
            .map(|outbox| {
                let watched = outbox.watched();
                (outbox, watched)
            })
            .collect();
        watching.retain(|(outbox, watched)| !watched.is_empty() || outbox.wants_contacts());
        let Some(sight) = self.presences.sight.get().filter(|_| !watching.is_empty()) else {
            return;
        };
        let seen: HashSet<UserId> = watching.iter().flat_map(|(_, it)| it).copied().collect();
        let pairs: Vec<_> = seen.into_iter().map(|other| (user, other)).collect();
        let may = match sight.permitted(&pairs).await {
            Ok(may) => may,
            // It is looked at again.
            Err(refusal) => return tracing::debug!(%user, %refusal, "rights cannot be looked at"),
        };
        let wants_contacts = watching.iter().any(|(outbox, _)| outbox.wants_contacts());
        let contacts = if wants_contacts {
            sight.contacts(user).await.unwrap_or_default()
        } else {
            Vec::new()
        };
        for (outbox, watched) in watching {
            for other in watched {
                if !may.contains(&(user, other)) {
                    self.lose_sight(&outbox, other);
                }
            }
            if outbox.wants_contacts() {
                self.watch_more(&outbox, &contacts).await;
            }
        }
    }

    /// The same for everybody, but for new contacts: many pairs in one question.
    async fn look_at_all(self: &Arc<Self>) {
        let Some(sight) = self.presences.sight.get() else {
            return;
        };
        let mut by_user: HashMap<UserId, Vec<Arc<Outbox>>> = HashMap::new();
        let mut pairs = HashSet::new();
        for outbox in self.hub.all_members() {
            let Some(user) = outbox.member().map(|it| it.user) else {
                continue;
            };
            let watched = outbox.watched();
            if !watched.is_empty() {
                pairs.extend(watched.into_iter().map(|other| (user, other)));
                by_user.entry(user).or_default().push(outbox);
            }
        }
        let pairs: Vec<_> = pairs.into_iter().collect();
        for chunk in pairs.chunks(CHUNK) {
            if self.lifecycle.is_stopping() {
                return;
            }
            let Ok(may) = sight.permitted(chunk).await else {
                continue;
            };
            for (user, other) in chunk.iter().filter(|pair| !may.contains(pair)) {
                for outbox in by_user.get(user).into_iter().flatten() {
                    self.lose_sight(outbox, *other);
                }
            }
        }
    }
}
