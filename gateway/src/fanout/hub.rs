//! The topics that somebody on this node follows, and their sockets. Synchronous: every
//! method locks one shard of the map for a moment; whatever waits happens elsewhere.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
};

use parking_lot::Mutex;
use shared::{
    domain::{Entry, Position, SessionId, Topic},
    redis::BellEvent,
};
use tokio::sync::futures::OwnedNotified;

use super::{
    outbox::{CloseReason, Outbox},
    shared_entry::SharedEntry,
    topic::{Advance, Effects, Follow, TopicState},
};

/// Locks of the map. A power of two, well above the number of threads.
const SHARDS: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Hub {
    hasher: RandomState,
    shards: Vec<Mutex<HashMap<Topic, TopicState>>>,
}

/// How a socket gets its topic followed.
pub(super) enum Step {
    /// Bells ring.
    Followed,
    /// Somebody changes that: wait, then look again.
    Wait(OwnedNotified),
    /// It is on the caller to subscribe and to tell by [`Hub::followed`].
    Subscribe,
}

impl Hub {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    fn shard(&self, topic: Topic) -> &Mutex<HashMap<Topic, TopicState>> {
        &self.shards[self.hasher.hash_one(topic) as usize % SHARDS]
    }

    fn with<T>(&self, topic: Topic, act: impl FnOnce(&mut TopicState) -> T) -> Option<T> {
        self.shard(topic).lock().get_mut(&topic).map(act)
    }

    /// Applies what the subscriber heard, in order.
    pub(super) fn hear(&self, events: impl IntoIterator<Item = BellEvent>, effects: &mut Effects) {
        for event in events {
            match event {
                BellEvent::Entry(entry) => {
                    let topic = entry.topic;
                    self.with(topic, |state| state.hear(entry, effects));
                }
                BellEvent::Displaced { topic, session } => {
                    self.close(topic, session, CloseReason::Displaced);
                }
                BellEvent::Gap { shard } => effects.gaps.push(shard),
                // For publishers that wait for Postgres; the store itself hears it.
                BellEvent::Stored { .. } => {}
            }
        }
    }

    /// Adds a socket to its topic.
    pub(super) fn join(&self, topic: Topic, outbox: Arc<Outbox>) {
        let mut shard = self.shard(topic).lock();
        shard
            .entry(topic)
            .or_insert_with(TopicState::new)
            .join(outbox);
    }

    /// Keeps a topic without sockets.
    pub(super) fn pin(&self, topic: Topic) {
        let mut shard = self.shard(topic).lock();
        shard.entry(topic).or_insert_with(TopicState::new);
    }

    /// Removes a socket. True if the topic has no other and is still subscribed to.
    pub(super) fn leave(&self, topic: Topic, outbox: &Arc<Outbox>) -> bool {
        let mut shard = self.shard(topic).lock();
        let Some(state) = shard.get_mut(&topic) else {
            return false;
        };
        if !state.leave(outbox) || !state.members().is_empty() {
            return false;
        }
        match state.follow {
            Follow::Yes => true,
            Follow::No => {
                shard.remove(&topic);
                false
            }
            // Whoever changes it looks at the members afterwards.
            Follow::Changing(_) => false,
        }
    }

    /// What is to be done so that bells ring for a topic that was joined.
    pub(super) fn follow(&self, topic: Topic) -> Step {
        let step = self.with(topic, |state| match &state.follow {
            Follow::Yes => Step::Followed,
            // Made under the lock, so it cannot miss the notification.
            Follow::Changing(done) => Step::Wait(done.clone().notified_owned()),
            Follow::No => {
                state.follow = Follow::Changing(Arc::default());
                Step::Subscribe
            }
        });
        // The topic is there: the caller has joined it.
        step.unwrap_or(Step::Followed)
    }

    /// The subscription, or the attempt, is through. True if nobody needs it any more.
    pub(super) fn followed(&self, topic: Topic, subscribed: bool) -> bool {
        let follow = if subscribed { Follow::Yes } else { Follow::No };
        self.changed(topic, follow)
    }

    /// Begins to unsubscribe. False if the topic is needed (again).
    pub(super) fn begin_unsubscribe(&self, topic: Topic) -> bool {
        self.with(topic, |state| {
            let unused = state.members().is_empty() && matches!(state.follow, Follow::Yes);
            if unused {
                state.follow = Follow::Changing(Arc::default());
            }
            unused
        })
        .unwrap_or(false)
    }

    /// The subscription is gone. Who came in between subscribes anew.
    pub(super) fn unsubscribed(&self, topic: Topic) {
        self.changed(topic, Follow::No);
    }

    fn changed(&self, topic: Topic, follow: Follow) -> bool {
        let mut shard = self.shard(topic).lock();
        let Some(state) = shard.get_mut(&topic) else {
            return false;
        };
        let before = std::mem::replace(&mut state.follow, follow);
        let unused = state.members().is_empty() && topic != Topic::Revocations;
        let unsubscribed = matches!(state.follow, Follow::No);
        if unsubscribed {
            if unused {
                shard.remove(&topic);
            } else {
                // Without bells the position proves nothing; the next session tells it again.
                state.forget_position();
            }
        }
        drop(shard);
        if let Follow::Changing(done) = before {
            done.notify_waiters();
        }
        unused && !unsubscribed
    }

    /// A session learnt where the log ends.
    pub(super) fn learn_head(&self, topic: Topic, head: Position, effects: &mut Effects) {
        if self.with(topic, |state| state.learn_head(head)) == Some(true) {
            effects.repair.push(topic);
        }
    }

    /// See [`TopicState::advance`].
    pub(super) fn advance(&self, topic: Topic, outbox: &Arc<Outbox>) -> Advance {
        self.with(topic, |state| state.advance(outbox))
            .unwrap_or(Advance::Done)
    }

    /// Gives a socket that catches up what was read up to `at`, then what memory holds.
    /// Answers where to read on.
    pub(super) fn feed(
        &self,
        topic: Topic,
        outbox: &Arc<Outbox>,
        entries: Vec<Entry>,
        at: Position,
    ) -> Advance {
        let mut read = entries.into_iter().map(SharedEntry::new);
        if read.all(|entry| outbox.offer_read(&entry)) {
            outbox.passed(at);
        }
        let advance = self.advance(topic, outbox);
        outbox.wake_if_queued();
        advance
    }

    /// See [`TopicState::repair_from`].
    pub(super) fn repair_from(&self, topic: Topic) -> Option<(Position, Position)> {
        self.with(topic, |state| state.repair_from()).flatten()
    }

    /// See [`TopicState::repaired`]. A topic that is gone needs no repair.
    pub(super) fn repaired(
        &self,
        topic: Topic,
        entries: Vec<Entry>,
        end: Option<Position>,
        target: Position,
        effects: &mut Effects,
    ) -> bool {
        self.with(topic, |state| state.repaired(entries, end, target, effects))
            .unwrap_or(true)
    }

    /// See [`TopicState::compare`].
    pub(super) fn compare(&self, topic: Topic, head: Position, effects: &mut Effects) {
        if self.with(topic, |state| state.compare(head)) == Some(true) {
            effects.repair.push(topic);
        }
    }

    /// Asks the socket of a session to close, if it is here.
    pub(super) fn close(&self, topic: Topic, session: SessionId, reason: CloseReason) {
        let found = self.with(topic, |state| state.member(session).cloned());
        if let Some(outbox) = found.flatten() {
            outbox.request_close(reason);
        }
    }

    /// The sockets of a topic.
    pub(super) fn members(&self, topic: Topic) -> Vec<Arc<Outbox>> {
        self.with(topic, |state| state.members().to_vec())
            .unwrap_or_default()
    }

    /// All sockets.
    pub(super) fn all_members(&self) -> Vec<Arc<Outbox>> {
        let members = |shard: &Mutex<HashMap<Topic, TopicState>>| {
            let shard = shard.lock();
            let of_topic = |state: &TopicState| state.members().to_vec();
            shard.values().flat_map(of_topic).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(members).collect()
    }

    /// All topics whose position is known.
    pub(super) fn topics(&self) -> Vec<Topic> {
        let known = |shard: &Mutex<HashMap<Topic, TopicState>>| {
            let shard = shard.lock();
            let known = shard.iter().filter(|(_, state)| state.position().is_some());
            known.map(|(topic, _)| *topic).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(known).collect()
    }

    /// How many topics are followed and how many sockets follow them.
    pub(super) fn counts(&self) -> (usize, usize) {
        self.shards.iter().fold((0, 0), |(topics, sockets), shard| {
            let shard = shard.lock();
            let here: usize = shard.values().map(|state| state.members().len()).sum();
            (topics + shard.len(), sockets + here)
        })
    }
}
