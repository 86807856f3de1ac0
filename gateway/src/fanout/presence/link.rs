//! Hearing of the users who are watched: first their channel, then a question, so that nothing is
//! missed between the two.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use shared::{
    domain::{Presence, PresenceStatus, Topic, UserId},
    redis::StoreError,
};
use tokio::{sync::futures::OwnedNotified, time::Instant};

use super::{heard::SLICE, watches::Linking};
use crate::fanout::{Fanout, topic::Effects};

/// Users in one question.
const CHUNK: usize = 256;
/// Subscriptions on their way at a time, and unsubscriptions.
const SUBSCRIPTIONS: usize = 256;
/// So many chunks of users are given up side by side.
const AT_ONCE: usize = 8;
/// Pause before somebody is tried again who could not be heard of.
const RETRY: Duration = Duration::from_millis(200);
/// How often it is looked whom nobody watches any more.
const TICK: Duration = Duration::from_secs(1);

impl Fanout {
    /// How each of these users appears, in their order; nobody is asked whether that may be seen. Of
    /// whom Redis cannot be asked now, that is as it was heard last, if they are watched here.
    pub async fn presences_of(&self, users: &[UserId]) -> Vec<Result<Presence, StoreError>> {
        let found = self.ask_for(users).await.into_iter().zip(users);
        let or_heard = |(found, user): (Result<Presence, StoreError>, &UserId)| {
            found.or_else(|error| self.presences.watches.heard_of(*user).ok_or(error))
        };
        found.map(or_heard).collect()
    }

    /// Asks Redis, and Postgres when those were last seen whom it has forgotten.
    async fn ask_for(&self, users: &[UserId]) -> Vec<Result<Presence, StoreError>> {
        let mut found = Vec::with_capacity(users.len());
        for chunk in users.chunks(CHUNK) {
            found.extend(self.store.presences(chunk).await);
        }
        let forgotten: Vec<UserId> = found
            .iter()
            .flatten()
            .filter(|it| is_forgotten(it))
            .map(|it| it.user)
            .collect();
        if forgotten.is_empty() {
            return found;
        }
        match self.postgres.last_seen(&forgotten).await {
            Ok(seen) => {
                for it in found.iter_mut().flatten().filter(|it| is_forgotten(it)) {
                    it.last_seen_at = seen.get(&it.user).copied();
                }
            }
            Err(error) => tracing::debug!(%error, "when users were last seen cannot be told now"),
        }
        found
    }

    /// Returns once these users are heard of, as far as anybody watches them. May take for ever; a
    /// caller that is dropped leaves it to tasks that go on.
    pub(super) async fn linked(self: &Arc<Self>, mut users: Vec<UserId>) {
        while let Some(done) = self.link_all(&mut users) {
            done.await;
        }
    }

    /// Sees to it that these users are heard of, as far as anybody watches them; those of a shard by
    /// themselves, as one that is away concerns nobody else. Answers what to wait for, if that is so
    /// for some of them later.
    pub(super) fn link_all(self: &Arc<Self>, users: &mut Vec<UserId>) -> Option<OwnedNotified> {
        loop {
            match self.presences.watches.claim(users) {
                Linking::Done => return None,
                Linking::Wait(done) => return Some(done),
                Linking::Link(mut mine) => {
                    for users in self.questions(&mut mine, |user| *user) {
                        let (fanout, users) = (self.clone(), users.to_vec());
                        self.lifecycle
                            .spawn("watch users", async move { fanout.link(users).await });
                    }
                }
            }
        }
    }

    /// These in pieces that are asked for by one question each, and concern one shard.
    fn questions<'a, T>(&self, all: &'a mut [T], user: impl Fn(&T) -> UserId) -> Vec<&'a [T]> {
        let shard_of = |it: &T| self.store.shard_of(Topic::User(user(it)));
        all.sort_by_cached_key(shard_of);
        let by_shard = all.chunk_by(|one, other| shard_of(one) == shard_of(other));
        by_shard.flat_map(|shard| shard.chunks(CHUNK)).collect()
    }

    /// Tries until they are heard of or nobody watches them any more.
    async fn link(self: Arc<Self>, mut users: Vec<UserId>) {
        loop {
            self.link_once(&mut users).await;
            if users.is_empty() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.lifecycle.stopping() => return,
            }
            let is_watched = |user: &UserId| self.presences.watches.is_watched(*user);
            let (watched, others) = users.into_iter().partition(is_watched);
            users = watched;
            self.unlink(&others).await;
        }
    }

    /// Leaves those of them that are not heard of.
    async fn link_once(self: &Arc<Self>, users: &mut Vec<UserId>) {
        let subscribed: Vec<_> = stream::iter(users.clone())
            .map(async |user| (user, self.bells.subscribe(Topic::Presence(user)).await))
            .buffer_unordered(SUBSCRIPTIONS)
            .collect()
            .await;
        let heard = subscribed.into_iter().filter(|(_, it)| it.is_ok());
        let heard: Vec<UserId> = heard.map(|(user, _)| user).collect();
        let asked = self.ask_for(&heard).await;
        if let Some(error) = asked.iter().find_map(|it| it.as_ref().err()) {
            tracing::debug!(%error, "users cannot be watched yet");
        }
        let presences: Vec<Presence> = asked.into_iter().flatten().collect();
        let found: HashSet<UserId> = presences.iter().map(|it| it.user).collect();
        users.retain(|user| !found.contains(user));
        let mut effects = Effects::default();
        self.presences.watches.linked(presences, &mut effects);
        self.apply(effects);
    }

    /// Gives up users whom nobody watches. Who is watched again meanwhile is heard of anew.
    async fn unlink(self: &Arc<Self>, users: &[UserId]) {
        stream::iter(users.to_vec())
            .for_each_concurrent(SUBSCRIPTIONS, async |user| {
                // The bell may go on ringing for somebody nobody watches here: ignored.
                let _ = self.bells.unsubscribe(Topic::Presence(user)).await;
            })
            .await;
        self.presences.watches.unlinked(users);
        self.link_all(&mut users.to_vec());
    }

    /// Bells of a shard may have been missed.
    pub(in crate::fanout) fn missed_presences(&self, shard: usize) {
        self.presences.gaps.push(shard);
    }

    /// The task that then asks for the users of the shard. Logs are not kept waiting for it.
    pub(in crate::fanout) async fn ask_missed_presences(self: Arc<Self>) {
        let gaps = &self.presences.gaps;
        while let Some(shard) = gaps.next(&self.lifecycle).await {
            let mut known = self.presences.watches.known();
            known.retain(|(user, _)| self.store.shard_of(Topic::User(*user)) == shard);
            let asked = stream::iter(known.chunks(CHUNK).map(Ok))
                .try_for_each(|chunk| self.ask_again(chunk))
                .await;
            if let Err(error) = asked {
                tracing::debug!(%error, shard, "users cannot be asked for yet");
                gaps.put_back(shard, &self.lifecycle).await;
            }
        }
    }

    /// Of whom there is no answer it stays as it is known. Postgres is not asked: when somebody was last
    /// seen whom Redis has forgotten is known from the first time.
    async fn ask_again(self: &Arc<Self>, known: &[(UserId, u64)]) -> Result<(), StoreError> {
        let users: Vec<UserId> = known.iter().map(|(user, _)| *user).collect();
        let (mut effects, mut failed) = (Effects::default(), Ok(()));
        for ((_, asked), answer) in known.iter().zip(self.store.presences(&users).await) {
            match answer {
                Ok(presence) => self
                    .presences
                    .watches
                    .answered(*asked, presence, &mut effects),
                Err(error) => failed = Err(error),
            }
        }
        self.apply(effects);
        failed
    }

    /// The task that asks for everybody again, spread over the interval.
    pub(in crate::fanout) async fn ask_presences_slowly(self: Arc<Self>) {
        loop {
            let mut known = self.presences.watches.known();
            let chunks = self.questions(&mut known, |(user, _)| *user);
            let pause = self.settings.presence.ask_interval / (chunks.len() as u32 + 1);
            for chunk in chunks.into_iter().map(Some).chain([None]) {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.lifecycle.stopping() => return,
                }
                if let Some(chunk) = chunk
                    && let Err(error) = self.ask_again(chunk).await
                {
                    tracing::debug!(%error, "users cannot be asked for now");
                }
            }
        }
    }

    /// The task that tells watchers who had to wait.
    pub(in crate::fanout) async fn tell_presences(self: Arc<Self>) {
        let watches = &self.presences.watches;
        let mut due = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                () = watches.scheduled.notified() => {}
                () = self.lifecycle.stopping() => return,
            }
            let mut effects = Effects::default();
            due = watches.tell_due(Instant::now(), SLICE, &mut effects);
            self.apply(effects);
            tokio::task::yield_now().await;
        }
    }

    /// The task that gives up users whom nobody watches any more.
    pub(in crate::fanout) async fn unwatch_idle(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.lifecycle.stopping() => return,
            }
            let mut idle = self.presences.watches.take_idle(Instant::now());
            // Side by side: a shard that does not answer keeps hardly anybody of another in between.
            stream::iter(self.questions(&mut idle, |user| *user))
                .for_each_concurrent(AT_ONCE, |users| self.unlink(users))
                .await;
        }
    }
}

/// Redis knows nothing of somebody who left so long ago.
pub(super) fn is_forgotten(presence: &Presence) -> bool {
    presence.status == PresenceStatus::Offline && presence.last_seen_at.is_none()
}
