//! The topics that somebody on this node follows, and their sockets. Synchronous: every
//! method locks one part of the map for a moment; whatever waits happens elsewhere. The log of
//! broadcasts has a lock of its own, which may be taken while a part is locked, never the
//! other way round.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use shared::{
    domain::{
        ConversationId, Entry, Position, Preferences, Queue, SessionId, Timestamp, Topic, UserId,
    },
    redis::BellEvent,
};
use tokio::sync::futures::OwnedNotified;

use super::{
    completed::Missed,
    item::{Happening, SharedSignal},
    outbox::{CloseReason, Outbox},
    parts::{PARTS, Parts},
    place::Ended,
    reveal::Revealing,
    shared_entry::SharedEntry,
    topic::{Advance, Effects, Follow, TopicState, revokes},
};
use crate::dialect::{AckMode, Feed};

/// A part of the topics. Boxed, for the room that a map keeps free would be of the same size.
type Topics = HashMap<Topic, Box<TopicState>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Hub {
    topics: Parts<Topics>,
    broadcasts: Mutex<TopicState>,
    revealing: Revealing,
}

/// How a socket left a topic.
#[derive(Debug)]
pub(super) struct Left {
    /// The topic has no other socket and is still subscribed to.
    pub(super) is_unused: bool,
    /// The topic's position, if it is known.
    pub(super) position: Option<Position>,
    /// How the socket ended, in each of its feeds.
    pub(super) ended: Vec<Ended>,
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
            topics: Parts::default(),
            broadcasts: Mutex::new(TopicState::of_broadcasts()),
            revealing: Revealing::default(),
        }
    }

    pub(super) fn revealing(&self) -> &Revealing {
        &self.revealing
    }

    fn with<T>(&self, topic: Topic, act: impl FnOnce(&mut TopicState) -> T) -> Option<T> {
        if topic == Topic::Broadcast {
            return Some(act(&mut self.broadcasts.lock()));
        }
        let mut part = self.topics.of(topic).lock();
        part.get_mut(&topic).map(|state| act(state))
    }

    /// Applies what the subscriber heard, in order.
    pub(super) fn hear(&self, events: impl IntoIterator<Item = BellEvent>, effects: &mut Effects) {
        for event in events {
            match event {
                BellEvent::Entry(entry) => {
                    let topic = entry.topic;
                    self.with(topic, |state| state.hear(entry, &self.revealing, effects));
                    self.reseat_who_chose(effects);
                }
                BellEvent::Displaced { topic, session } => {
                    self.close(topic, session, CloseReason::Displaced);
                }
                BellEvent::Presence(presence) => effects.presences.push(presence),
                BellEvent::Gap { shard } => effects.gaps.push(shard),
                BellEvent::Signal { topic, signal } => {
                    let Topic::Conversation(conversation) = topic else {
                        continue;
                    };
                    let signal = SharedSignal::new(Happening::Typing(conversation, signal));
                    self.with(topic, |state| state.signal(&signal, effects));
                }
                BellEvent::Call { topic, event } => {
                    if let Topic::User(user) = topic {
                        effects.calls.push((user, event.clone()));
                    }
                    let signal = SharedSignal::new(Happening::Call(event));
                    self.with(topic, |state| state.signal(&signal, effects));
                }
                // For publishers that wait for Postgres; the store itself hears it.
                BellEvent::Stored { .. } => {}
            }
        }
    }

    /// Adds a socket to its user's topic.
    pub(super) fn join(&self, topic: Topic, outbox: Arc<Outbox>) {
        let mut part = self.topics.of(topic).lock();
        part.entry(topic)
            .or_insert_with(|| TopicState::of(topic).into())
            .join(outbox);
    }

    /// A socket that has joined its user's topic begins to follow a queue; see
    /// [`TopicState::follow_queue`].
    pub(super) fn follow_queue(
        &self,
        user: UserId,
        outbox: &Arc<Outbox>,
        queue: Queue,
        acks: AckMode,
    ) -> Option<Position> {
        let follow = |state: &mut TopicState| state.follow_queue(outbox, queue, acks);
        self.with(Topic::User(user), follow).flatten()
    }

    /// A socket follows a queue no more.
    pub(super) fn leave_queue(&self, user: UserId, outbox: &Outbox, queue: Queue) -> Option<Ended> {
        let leave = |state: &mut TopicState| state.leave_queue(outbox, queue);
        self.with(Topic::User(user), leave).flatten()
    }

    /// A socket begins to listen to a conversation, or wants something else of it. True if it is
    /// news, and somebody has to see to it that it hears something.
    pub(super) fn listen(&self, conversation: ConversationId, outbox: &Arc<Outbox>) -> bool {
        let topic = Topic::Conversation(conversation);
        let mut part = self.topics.of(topic).lock();
        let is_new = part
            .entry(topic)
            .or_insert_with(|| TopicState::of(topic).into())
            .listen(outbox, conversation);
        drop(part);
        self.forget_if_unused(topic);
        is_new
    }

    /// Whether a topic is followed for nobody.
    pub(super) fn is_unused(&self, topic: Topic) -> bool {
        let is_unused =
            |state: &mut TopicState| state.is_unused() && matches!(state.follow, Follow::Yes);
        self.with(topic, is_unused).unwrap_or(false)
    }

    /// Adds a socket that has joined its user's topic to those that follow broadcasts.
    pub(super) fn join_broadcasts(&self, user: UserId, outbox: &Arc<Outbox>) {
        // Under the lock of the user's topic, so that no choice of theirs comes in between.
        self.with(Topic::User(user), |state| {
            let preferences = state.preferences().cloned().unwrap_or_default();
            self.broadcasts.lock().admit_socket(outbox, &preferences);
        });
    }

    /// Moves the sockets of users who chose anew to where they belong, before anything else is heard.
    fn reseat_who_chose(&self, effects: &mut Effects) {
        for topic in effects.chose.drain(..) {
            self.with(topic, |state| {
                let Some(preferences) = state.preferences() else {
                    return;
                };
                for outbox in state.members() {
                    self.broadcasts.lock().reseat(outbox, preferences);
                }
            });
        }
    }

    /// What a user has chosen, if the node follows their topic.
    pub(super) fn preferences(&self, user: UserId) -> Option<Arc<Preferences>> {
        self.with(Topic::User(user), |state| {
            state.position().and_then(|_| state.preferences().cloned())
        })
        .flatten()
    }

    /// Keeps a topic without sockets. That of broadcasts is always kept.
    pub(super) fn pin(&self, topic: Topic) {
        let mut part = self.topics.of(topic).lock();
        part.entry(topic)
            .or_insert_with(|| TopicState::of(topic).into());
    }

    /// Removes a socket, if it is here.
    pub(super) fn leave(&self, topic: Topic, outbox: &Arc<Outbox>) -> Option<Left> {
        let left = self.with(topic, |state| {
            let ended = state.leave(outbox, Feed::of(topic))?;
            let is_unused = state.is_unused();
            Some(Left {
                is_unused: is_unused && matches!(state.follow, Follow::Yes),
                position: state.position(),
                ended,
            })
        });
        self.forget_if_unused(topic);
        left.flatten()
    }

    /// Forgets a topic that nobody needs and no bell rings for. Where that is being changed,
    /// whoever changes it looks at the sockets afterwards.
    fn forget_if_unused(&self, topic: Topic) {
        if topic.is_for_every_node() {
            return;
        }
        let mut part = self.topics.of(topic).lock();
        let is_over = |state: &TopicState| state.is_unused() && matches!(state.follow, Follow::No);
        if part.get(&topic).is_some_and(|it| is_over(it)) {
            part.remove(&topic);
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
            let unused = state.is_unused() && matches!(state.follow, Follow::Yes);
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
        let unsubscribed = matches!(follow, Follow::No);
        let changed = self.with(topic, |state| {
            let before = std::mem::replace(&mut state.follow, follow);
            if unsubscribed {
                // Without bells the position proves nothing; the next session tells it again.
                state.forget_position();
            }
            (before, state.is_unused())
        });
        let Some((before, is_unused)) = changed else {
            return false;
        };
        self.forget_if_unused(topic);
        if let Follow::Changing(done) = before {
            done.notify_waiters();
        }
        is_unused && !unsubscribed && !topic.is_for_every_node()
    }

    /// A session learnt where the log ends, and what its user has chosen.
    pub(super) fn learn_head(
        &self,
        topic: Topic,
        head: Position,
        preferences: Option<Arc<Preferences>>,
        effects: &mut Effects,
    ) {
        if self.with(topic, |state| state.learn_head(head, preferences)) == Some(true) {
            effects.repair.push(topic);
        }
    }

    /// Where a user begins who registered at `at`, if the node keeps broadcasts from so far back.
    pub(super) fn last_broadcast_before(&self, at: Timestamp) -> Option<Position> {
        self.broadcasts.lock().before(at)
    }

    /// See [`TopicState::missed`].
    pub(super) fn missed_broadcasts(&self, after: Position, most: usize) -> Vec<Missed> {
        self.broadcasts.lock().missed(after, most)
    }

    /// See [`TopicState::preload`].
    pub(super) fn preload(
        &self,
        from: Position,
        entries: Vec<Entry>,
        end: Position,
        effects: &mut Effects,
    ) {
        if self.broadcasts.lock().preload(from, entries, end) {
            effects.repair.push(Topic::Broadcast);
        }
    }

    /// See [`TopicState::advance`].
    pub(super) fn advance(&self, topic: Topic, outbox: &Arc<Outbox>, feed: Feed) -> Advance {
        self.with(topic, |state| state.advance(outbox, feed))
            .unwrap_or(Advance::Done)
    }

    /// Gives a socket that catches up what was read up to `at`, then what memory holds.
    /// Answers where to read on.
    pub(super) fn feed(
        &self,
        topic: Topic,
        outbox: &Arc<Outbox>,
        feed: Feed,
        entries: Vec<Entry>,
        at: Position,
    ) -> Advance {
        let shared = |entry| self.revealing.share(entry);
        let entries: Vec<_> = entries.into_iter().map(shared).collect();
        // Asked one by one under the lock, so that a choice counts at once; encoded outside of it.
        let take = |entry: &Arc<SharedEntry>| {
            let handing = self.with(topic, |state| state.handing(outbox, feed, entry));
            if !handing.is_some_and(|handing| handing.give(outbox, feed, entry)) {
                return false;
            }
            let is_lost = revokes(entry, outbox);
            if is_lost {
                self.with(topic, |state| state.lose_if_revoked(outbox, feed));
            }
            !is_lost
        };
        if entries.iter().all(take) {
            outbox.passed(feed, at);
        }
        let advance = self.advance(topic, outbox, feed);
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
        let whole = self.with(topic, |state| {
            state.repaired(entries, end, target, &self.revealing, effects)
        });
        self.reseat_who_chose(effects);
        whole.unwrap_or(true)
    }

    /// See [`TopicState::compare`].
    pub(super) fn compare(&self, topic: Topic, head: Position, effects: &mut Effects) {
        if self.with(topic, |state| state.compare(head)) == Some(true) {
            effects.repair.push(topic);
        }
    }

    /// The socket of a session of a user's topic, if it is here.
    pub(super) fn member(&self, topic: Topic, session: SessionId) -> Option<Arc<Outbox>> {
        let found = self.with(topic, |state| state.member(session).cloned());
        found.flatten()
    }

    /// Asks the socket of a session to close, if it is here.
    pub(super) fn close(&self, topic: Topic, session: SessionId, reason: CloseReason) {
        if let Some(outbox) = self.member(topic, session) {
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
        (0..PARTS)
            .flat_map(|part| self.members_of_part(part))
            .collect()
    }

    /// The sockets of some users, for whoever walks through all and need not have them at once; those of a
    /// user stand together.
    pub(super) fn members_of_part(&self, part: usize) -> Vec<Arc<Outbox>> {
        let part = self.topics.all()[part].lock();
        let members = part.values().flat_map(|state| state.members());
        members.cloned().collect()
    }

    /// The sockets of a session, wherever it is; walks through all of them.
    pub(super) fn find(&self, session: SessionId) -> Option<Arc<Outbox>> {
        self.topics.all().iter().find_map(|part| {
            let part = part.lock();
            part.values()
                .find_map(|state| state.member(session).cloned())
        })
    }

    /// All topics whose position is known.
    pub(super) fn topics(&self) -> Vec<Topic> {
        let known = |part: &Mutex<Topics>| {
            let part = part.lock();
            let known = part.iter().filter(|(_, state)| state.position().is_some());
            known.map(|(topic, _)| *topic).collect::<Vec<_>>()
        };
        let broadcasts = self.broadcasts.lock().position().map(|_| Topic::Broadcast);
        let all = self.topics.all().iter().flat_map(known);
        all.chain(broadcasts).collect()
    }

    /// How many topics are followed and how many sockets follow them.
    pub(super) fn counts(&self) -> (usize, usize) {
        self.topics
            .all()
            .iter()
            .fold((0, 0), |(topics, sockets), part| {
                let part = part.lock();
                let here: usize = part.values().map(|state| state.members().len()).sum();
                (topics + part.len(), sockets + here)
            })
    }
}
