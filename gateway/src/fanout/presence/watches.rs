//! Who watches whom on this node, what is known of those who are watched, and what each watcher was
//! told last. No watcher is told of the same user twice within [`PAUSE`]: of what changes meanwhile
//! they are told the outcome, if it looks any different.

use std::{
    collections::{BTreeSet, HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use shared::domain::{Presence, SessionId, Transition, UserId};
use tokio::{sync::Notify, time::Instant};

use super::SharedPresence;
use crate::fanout::{metrics, outbox::Outbox, topic::Effects};

/// How long a watcher is not told again of the same user.
pub(super) const PAUSE: Duration = Duration::from_millis(250);
/// How long a user whom nobody watches any more is still heard of: who watches may be back soon.
const LINGER: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Default)]
pub(super) struct Watches {
    state: Mutex<State>,
    /// Somebody's channel was subscribed, or could not be.
    pub(super) changed: Notify,
    /// Somebody has to be told later.
    pub(super) scheduled: Notify,
}

#[derive(Default)]
struct State {
    users: HashMap<UserId, Watched>,
    /// Whose watchers have to be told when.
    due: BTreeSet<(Instant, UserId)>,
    /// Users whom nobody watches, and until when they are heard of.
    idle: VecDeque<(Instant, UserId)>,
}

/// A user who is watched.
struct Watched {
    link: Link,
    known: Presence,
    /// The version that was known when it was asked for the present one.
    asked: u64,
    /// What watchers are told first, while that is what is known.
    first: Option<Arc<SharedPresence>>,
    watchers: HashMap<SessionId, Watcher>,
    due: Option<Instant>,
}

/// Whether the user's channel is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// No.
    Down,
    /// Somebody changes that.
    Busy,
    /// Yes, and it was asked since what is there.
    Up,
}

struct Watcher {
    outbox: Arc<Outbox>,
    /// Nothing before it was shown what is there.
    told: Option<Arc<SharedPresence>>,
    at: Instant,
}

/// What has to happen so that users are heard of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Linking {
    /// Nothing: they are.
    Done,
    /// Others see to it.
    Wait,
    /// The caller has to see to these.
    Link(Vec<UserId>),
}

impl Watches {
    /// A socket watches a user. False if it has ended, or does not wish to any more.
    pub(super) fn join(&self, user: UserId, outbox: &Arc<Outbox>) -> bool {
        let Some(session) = outbox.member().map(|member| member.session) else {
            return false;
        };
        let mut state = self.state.lock();
        if !outbox.begin_watching(user) {
            return false;
        }
        let watched = state.users.entry(user).or_insert_with(|| Watched {
            link: Link::Down,
            known: Presence::unknown(user),
            asked: 0,
            first: None,
            watchers: HashMap::new(),
            due: None,
        });
        watched.watchers.entry(session).or_insert_with(|| Watcher {
            outbox: outbox.clone(),
            told: None,
            at: Instant::now(),
        });
        true
    }

    /// It does no more. False if it did not. The socket and this table change together, as in
    /// [`Self::join`]: whoever is here without knowing it would stay for ever.
    pub(super) fn leave(&self, user: UserId, outbox: &Outbox) -> bool {
        let mut state = self.state.lock();
        let did_watch = outbox.stop_watching(user);
        let (Some(member), Some(watched)) = (outbox.member(), state.users.get_mut(&user)) else {
            return did_watch;
        };
        watched.watchers.remove(&member.session);
        if watched.watchers.is_empty() {
            watched.watchers = HashMap::new();
            match watched.link {
                Link::Down => state.forget(user),
                Link::Up => state.idle.push_back((Instant::now() + LINGER, user)),
                // Whoever is busy with it looks afterwards.
                Link::Busy => {}
            }
        }
        did_watch
    }

    /// What has to be done so that these are heard of, as far as anybody watches them.
    pub(super) fn claim(&self, users: &[UserId]) -> Linking {
        let mut state = self.state.lock();
        let (mut mine, mut others) = (Vec::new(), false);
        for user in users {
            let Some(watched) = state.users.get_mut(user) else {
                continue;
            };
            match watched.link {
                Link::Up => {}
                Link::Busy => others = true,
                Link::Down => {
                    watched.link = Link::Busy;
                    watched.asked = watched.known.version;
                    mine.push(*user);
                }
            }
        }
        match (mine.is_empty(), others) {
            (true, false) => Linking::Done,
            (true, true) => Linking::Wait,
            (false, _) => Linking::Link(mine),
        }
    }

    /// Users are heard of; this is how they appeared when they were asked for. What was heard since
    /// is newer.
    pub(super) fn linked(&self, presences: Vec<Presence>, effects: &mut Effects) {
        let mut state = self.state.lock();
        let now = Instant::now();
        for presence in presences {
            let user = presence.user;
            let Some(watched) = state.users.get_mut(&user) else {
                continue;
            };
            watched.link = Link::Up;
            let (is_idle, counts) = (
                watched.watchers.is_empty(),
                watched.takes_answer(watched.asked, &presence),
            );
            if is_idle {
                state.idle.push_back((now + LINGER, user));
            }
            if counts {
                state.learn(presence, now, effects);
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Users are not heard of (any more).
    pub(super) fn unlinked(&self, users: &[UserId]) {
        let mut state = self.state.lock();
        for user in users {
            if let Some(watched) = state.users.get_mut(user) {
                watched.link = Link::Down;
                if watched.watchers.is_empty() {
                    state.forget(*user);
                }
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Users whom nobody has watched for a while: the caller sees to it that they are not heard of,
    /// and then tells by [`Self::unlinked`].
    pub(super) fn take_idle(&self, now: Instant) -> Vec<UserId> {
        let mut state = self.state.lock();
        let count = state.idle.iter().take_while(|(due, _)| *due <= now).count();
        let due: Vec<UserId> = state.idle.drain(..count).map(|(_, user)| user).collect();
        let is_unused = |user: &UserId| {
            let Some(watched) = state.users.get_mut(user) else {
                return false;
            };
            let is_unused = watched.watchers.is_empty() && watched.link == Link::Up;
            if is_unused {
                watched.link = Link::Busy;
            }
            is_unused
        };
        due.into_iter().filter(is_unused).collect()
    }

    /// Somebody appears otherwise.
    pub(super) fn hear(&self, presence: Presence, effects: &mut Effects) {
        let mut state = self.state.lock();
        let is_new = state
            .users
            .get(&presence.user)
            .is_some_and(|watched| presence.version > watched.known.version);
        if is_new {
            state.learn(presence, Instant::now(), effects);
            drop(state);
            self.scheduled.notify_one();
        }
    }

    /// Users who are heard of, and by which version they are known.
    pub(super) fn known(&self) -> Vec<(UserId, u64)> {
        let state = self.state.lock();
        let heard = state.users.iter().filter(|(_, it)| it.link == Link::Up);
        heard.map(|(user, it)| (*user, it.known.version)).collect()
    }

    /// They were asked for again when this was known.
    pub(super) fn answered(&self, asked: u64, presence: Presence, effects: &mut Effects) {
        let mut state = self.state.lock();
        let watched = state.users.get(&presence.user);
        if watched.is_some_and(|it| it.takes_answer(asked, &presence)) {
            state.learn(presence, Instant::now(), effects);
            drop(state);
            self.scheduled.notify_one();
        }
    }

    /// Tells a socket how these users appear now, as far as it watches them and they are heard of.
    pub(super) fn show(&self, session: SessionId, users: &[UserId], effects: &mut Effects) {
        let mut state = self.state.lock();
        let now = Instant::now();
        for user in users {
            let Some(watched) = state.users.get_mut(user).filter(|it| it.link == Link::Up) else {
                continue;
            };
            let Some(watcher) = watched.watchers.get_mut(&session) else {
                continue;
            };
            let first = watched
                .first
                .get_or_insert_with(|| SharedPresence::first(watched.known.clone()));
            watcher.tell(first.clone(), now, effects);
        }
    }

    /// Tells those who had to wait. Answers when the next are due.
    pub(super) fn tell_due(&self, now: Instant, effects: &mut Effects) -> Option<Instant> {
        let mut state = self.state.lock();
        while let Some((due, user)) = state.due.first().copied() {
            if due > now {
                return Some(due);
            }
            state.due.pop_first();
            if let Some(watched) = state.users.get_mut(&user) {
                watched.due = None;
                let next = watched.tell(now, effects);
                state.schedule(user, next);
            }
        }
        None
    }

    /// How many users are watched.
    pub(super) fn len(&self) -> usize {
        self.state.lock().users.len()
    }
}

impl State {
    fn learn(&mut self, presence: Presence, now: Instant, effects: &mut Effects) {
        let user = presence.user;
        let Some(watched) = self.users.get_mut(&user) else {
            return;
        };
        metrics::PRESENCE_HEARD.increment(1);
        watched.known = presence;
        watched.first = None;
        let next = watched.tell(now, effects);
        self.schedule(user, next);
    }

    fn schedule(&mut self, user: UserId, next: Option<Instant>) {
        let (Some(next), Entry::Occupied(mut watched)) = (next, self.users.entry(user)) else {
            return;
        };
        let watched = watched.get_mut();
        if watched.due.is_none_or(|due| next < due) {
            if let Some(due) = watched.due.replace(next) {
                self.due.remove(&(due, user));
            }
            self.due.insert((next, user));
        }
    }

    fn forget(&mut self, user: UserId) {
        if let Some(due) = self.users.remove(&user).and_then(|it| it.due) {
            self.due.remove(&(due, user));
        }
    }
}

impl Watched {
    /// Whether an answer counts that was asked for when version `asked` was known: if that still is,
    /// also one by which Redis has forgotten something.
    fn takes_answer(&self, asked: u64, answer: &Presence) -> bool {
        self.known.version == asked || answer.version > self.known.version
    }

    /// Tells every watcher to whom it is news and who may be told. Answers when the first of the
    /// others may.
    fn tell(&mut self, now: Instant, effects: &mut Effects) -> Option<Instant> {
        let (known, mut next) = (&self.known, None::<Instant>);
        let mut made: HashMap<Transition, Arc<SharedPresence>> = HashMap::new();
        for watcher in self.watchers.values_mut() {
            let Some(told) = watcher.told.as_ref().map(|it| it.presence()) else {
                continue;
            };
            if told.looks_like(known) {
                continue;
            }
            let free = watcher.at + PAUSE;
            if now < free {
                metrics::PRESENCE_COALESCED.increment(1);
                next = Some(next.map_or(free, |next| next.min(free)));
                continue;
            }
            let transition = Transition::between(told, known);
            let news = made
                .entry(transition)
                .or_insert_with(|| SharedPresence::of(known.clone(), transition));
            watcher.tell(news.clone(), now, effects);
        }
        next
    }
}

impl Watcher {
    fn tell(&mut self, news: Arc<SharedPresence>, now: Instant, effects: &mut Effects) {
        metrics::PRESENCE_TOLD.increment(1);
        effects.follow(&self.outbox, self.outbox.offer_presence(&news));
        self.told = Some(news);
        self.at = now;
    }
}
