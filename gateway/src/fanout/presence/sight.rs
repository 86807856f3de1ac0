//! Who may see whom: asked when somebody begins to watch, whenever something changes in the watcher's
//! conversations, and slowly in any case, as large conversations are not told of in users' logs.

use std::{collections::HashSet, sync::Arc};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use shared::domain::{Refusal, Topic, UserId};
use tokio::time::Instant;

use super::looks::{FIRST_RETRY, LAST_RETRY};
use crate::fanout::{Fanout, Outbox, parts::PARTS};

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
        self.presences.looks.ask(user, Instant::now());
    }

    /// The task that looks at who may still see whom, where something changed.
    pub(in crate::fanout) async fn keep_sight(self: Arc<Self>) {
        let looks = &self.presences.looks;
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < AT_ONCE
                && let Some(user) = looks.take(Instant::now())
            {
                let fanout = &self;
                running.push(async move { (user, fanout.look_at(user).await) });
            }
            let due = looks.next_due().filter(|_| running.len() < AT_ONCE);
            tokio::select! {
                Some((user, looked)) = running.next() => {
                    if let Err(refusal) = &looked {
                        tracing::debug!(%user, %refusal, "what may be seen is looked at again");
                    }
                    looks.done(user, looked.is_ok(), Instant::now());
                }
                () = looks.news.notified() => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                () = self.lifecycle.stopping() => return,
            }
        }
    }

    /// Takes from a user's sockets whom the user may not see any more, and brings those that watch
    /// all contacts the new ones. Fails if that is to be looked at again.
    async fn look_at(self: &Arc<Self>, user: UserId) -> Result<(), Refusal> {
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
            return Ok(());
        };
        let seen: HashSet<UserId> = watching.iter().flat_map(|(_, it)| it).copied().collect();
        let pairs: Vec<_> = seen.into_iter().map(|other| (user, other)).collect();
        let may = sight.permitted(&pairs).await?;
        for (outbox, watched) in &watching {
            for other in watched {
                if !may.contains(&(user, *other)) {
                    self.lose_sight(outbox, *other);
                }
            }
        }
        watching.retain(|(outbox, _)| outbox.wants_contacts());
        if watching.is_empty() {
            return Ok(());
        }
        let contacts = sight.contacts(user).await?;
        for (outbox, _) in watching {
            self.watch_more(&outbox, &contacts);
        }
        Ok(())
    }

    /// The task that looks at everybody's rights, part by part over the interval. It takes nothing away
    /// itself: who has lost something is looked at as if that had been heard of.
    pub(in crate::fanout) async fn sweep_sight(self: Arc<Self>) {
        let pause = self.settings.presence.sight_interval / PARTS as u32;
        for part in (0..PARTS).cycle() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.lifecycle.stopping() => return,
            }
            let sockets = self.hub.members_of_part(part);
            tokio::select! {
                () = self.look_for_losses(&sockets) => {}
                () = self.lifecycle.stopping() => return,
            }
        }
    }

    /// Many pairs in one question, of these sockets, of which those of a user stand together.
    async fn look_for_losses(&self, sockets: &[Arc<Outbox>]) {
        let user_of = |outbox: &Arc<Outbox>| outbox.member().map(|member| member.user);
        let mut pairs = Vec::new();
        for of_user in sockets.chunk_by(|one, other| user_of(one) == user_of(other)) {
            let Some(user) = user_of(&of_user[0]) else {
                continue;
            };
            let watched: HashSet<UserId> = of_user.iter().flat_map(|it| it.watched()).collect();
            pairs.extend(watched.into_iter().map(|other| (user, other)));
            while pairs.len() >= CHUNK {
                let rest = pairs.split_off(CHUNK);
                self.look_for_loss(&pairs).await;
                pairs = rest;
            }
        }
        if !pairs.is_empty() {
            self.look_for_loss(&pairs).await;
        }
    }

    /// Asks until there is an answer, or for long enough: the others are looked at, too, and these again
    /// in the next round.
    async fn look_for_loss(&self, pairs: &[(UserId, UserId)]) {
        let Some(sight) = self.presences.sight.get() else {
            return;
        };
        let mut retry = FIRST_RETRY;
        let may = loop {
            match sight.permitted(pairs).await {
                Ok(may) => break may,
                Err(refusal) if retry > LAST_RETRY => {
                    let pairs = pairs.len();
                    return tracing::warn!(%refusal, pairs, "rights are looked at later");
                }
                Err(refusal) => tracing::debug!(%refusal, "rights cannot be looked at now"),
            }
            tokio::time::sleep(retry).await;
            retry *= 2;
        };
        for (user, _) in pairs.iter().filter(|pair| !may.contains(pair)) {
            self.look_at_sight_of(*user);
        }
    }
}
