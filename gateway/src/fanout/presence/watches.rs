//! Who watches whom on this node, what is known of those who are watched, and what each watcher was
//! told last. No watcher is told of the same user twice within [`PAUSE`]: of what changes meanwhile
//! they are told the outcome, if it looks any different.
//!
//! A table in parts, each with a lock that is held for one user at a time: however many sockets begin
//! to watch, others wait for one of them.

use std::{
    collections::{BTreeSet, HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use shared::domain::{Presence, SessionId, Transition, UserId};
use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Instant,
};

use super::{SharedPresence, link::is_forgotten};
use crate::fanout::{metrics, outbox::Outbox, parts::Parts, topic::Effects};

/// How long a watcher is not told again of the same user.
pub(super) const PAUSE: Duration = Duration::from_millis(250);
/// How long a user whom nobody watches any more is still heard of: who watches may be back soon.
const LINGER: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Default)]
pub(super) struct Watches {
    parts: Parts<Part>,
    /// Somebody has to be told later.
    pub(super) scheduled: Notify,
}

#[derive(Default)]
struct Part {
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
#[derive(Debug)]
enum Link {
    /// No.
    Down,
    /// Somebody changes that; all who wait are notified when it is done.
    Busy(Arc<Notify>),
    /// Yes, and it was asked since what is there.
    Up,
}

struct Watcher {
    outbox: Arc<Outbox>,
    told: Told,
    at: Instant,
}

/// What a watcher was told last.
enum Told {
    /// Nothing, and it is to be told nothing: its client does not know yet that it watches.
    Nothing,
    /// Nothing, but it is to be told as soon as the user is heard of.
    Awaiting,
    This(Arc<SharedPresence>),
}

/// What has to happen so that users are heard of.
#[derive(Debug)]
pub(super) enum Linking {
    /// Nothing: they are.
    Done,
    /// Others see to it: wait, then look again.
    Wait(OwnedNotified),
    /// The caller has to see to these, and tells by [`Watches::linked`] or [`Watches::unlinked`].
    Link(Vec<UserId>),
}

/// Whether a socket is shown those of whom it was told something already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Everybody: its client asked.
    All,
    /// Only the others.
    New,
}

impl Watches {
    fn part(&self, user: UserId) -> MutexGuard<'_, Part> {
        self.parts.of(user).lock()
    }

    /// A socket watches a user. False if it has ended, or does not wish to any more.
    pub(super) fn join(&self, user: UserId, outbox: &Arc<Outbox>) -> bool {
        let Some(session) = outbox.member().map(|member| member.session) else {
            return false;
        };
        let mut part = self.part(user);
        if !outbox.begin_watching(user) {
            return false;
        }
        let watched = part.users.entry(user).or_insert_with(|| Watched {
            link: Link::Down,
            known: Presence::unknown(user),
            asked: 0,
            first: None,
            watchers: HashMap::new(),
            due: None,
        });
        watched.watchers.entry(session).or_insert_with(|| Watcher {
            outbox: outbox.clone(),
            told: Told::Nothing,
            at: Instant::now(),
        });
        true
    }

    /// It does no more. False if it did not. The socket and this table change together, as in
    /// [`Self::join`]: whoever is here without knowing it would stay for ever.
    pub(super) fn leave(&self, user: UserId, outbox: &Outbox) -> bool {
        let mut part = self.part(user);
        let did_watch = outbox.stop_watching(user);
        let (Some(member), Some(watched)) = (outbox.member(), part.users.get_mut(&user)) else {
            return did_watch;
        };
        watched.watchers.remove(&member.session);
        if watched.watchers.is_empty() {
            watched.watchers = HashMap::new();
            match watched.link {
                Link::Down => part.forget(user),
                Link::Up => part.idle.push_back((Instant::now() + LINGER, user)),
                // Whoever is busy with it looks afterwards.
                Link::Busy(_) => {}
            }
        }
        did_watch
    }

    /// What has to be done so that these are heard of, as far as anybody watches them. Who is, or is
    /// not watched, is taken from them.
    pub(super) fn claim(&self, users: &mut Vec<UserId>) -> Linking {
        let (mut mine, mut others) = (Vec::new(), None);
        let linking = Arc::new(Notify::new());
        users.retain(|user| {
            let mut part = self.part(*user);
            let Some(watched) = part.users.get_mut(user) else {
                return false;
            };
            match &watched.link {
                Link::Up => return false,
                // Made under the lock, so it cannot miss the notification.
                Link::Busy(done) => {
                    others.get_or_insert_with(|| done.clone().notified_owned());
                }
                Link::Down => {
                    watched.link = Link::Busy(linking.clone());
                    watched.asked = watched.known.version;
                    mine.push(*user);
                }
            }
            true
        });
        match others {
            _ if !mine.is_empty() => Linking::Link(mine),
            Some(done) => Linking::Wait(done),
            None => Linking::Done,
        }
    }

    /// Users are heard of; this is how they appeared when they were asked for. What was heard since
    /// is newer.
    pub(super) fn linked(&self, presences: Vec<Presence>, effects: &mut Effects) {
        let (mut waiting, mut is_sooner) = (Waiting::default(), false);
        for presence in presences {
            let (now, user) = (Instant::now(), presence.user);
            let mut part = self.part(user);
            let Some(watched) = part.users.get_mut(&user) else {
                continue;
            };
            waiting.add(std::mem::replace(&mut watched.link, Link::Up));
            let is_idle = watched.watchers.is_empty();
            if watched.takes_answer(watched.asked, &presence) {
                watched.know(presence);
            }
            is_sooner |= part.tell(user, now, effects);
            if is_idle {
                part.idle.push_back((now + LINGER, user));
            }
        }
        waiting.notify();
        if is_sooner {
            self.scheduled.notify_one();
        }
    }

    /// Users are not heard of (any more).
    pub(super) fn unlinked(&self, users: &[UserId]) {
        let mut waiting = Waiting::default();
        for user in users {
            let mut part = self.part(*user);
            if let Some(watched) = part.users.get_mut(user) {
                waiting.add(std::mem::replace(&mut watched.link, Link::Down));
                if watched.watchers.is_empty() {
                    part.forget(*user);
                }
            }
        }
        waiting.notify();
    }

    /// Whether somebody watches a user.
    pub(super) fn is_watched(&self, user: UserId) -> bool {
        let part = self.part(user);
        let watched = part.users.get(&user);
        watched.is_some_and(|it| !it.watchers.is_empty())
    }

    /// How a user appears, if they are heard of.
    pub(super) fn heard_of(&self, user: UserId) -> Option<Presence> {
        let part = self.part(user);
        let watched = part.users.get(&user);
        watched
            .filter(|it| matches!(it.link, Link::Up))
            .map(|it| it.known.clone())
    }

    /// Users whom nobody has watched for a while: the caller sees to it that they are not heard of,
    /// and then tells by [`Self::unlinked`].
    pub(super) fn take_idle(&self, now: Instant) -> Vec<UserId> {
        let busy = Arc::new(Notify::new());
        let take = |part: &Mutex<Part>| {
            let mut part = part.lock();
            let count = part.idle.iter().take_while(|(due, _)| *due <= now).count();
            let mut due: Vec<UserId> = part.idle.drain(..count).map(|(_, user)| user).collect();
            due.retain(|user| {
                let Some(watched) = part.users.get_mut(user) else {
                    return false;
                };
                let is_unused = watched.watchers.is_empty() && matches!(watched.link, Link::Up);
                if is_unused {
                    watched.link = Link::Busy(busy.clone());
                }
                is_unused
            });
            due
        };
        self.parts.all().iter().flat_map(take).collect()
    }

    /// Somebody appears otherwise.
    pub(super) fn hear(&self, presence: Presence, effects: &mut Effects) {
        let mut part = self.part(presence.user);
        if let Some(watched) = part.users.get_mut(&presence.user)
            && presence.version > watched.known.version
        {
            self.learn(part, presence, effects);
        }
    }

    /// Users who are heard of, or are about to be, and by which version they are known.
    pub(super) fn known(&self) -> Vec<(UserId, u64)> {
        let known = |part: &Mutex<Part>| {
            let part = part.lock();
            let heard = part.users.iter();
            // Who is being asked for, too: what was missed may be newer than that answer.
            let heard = heard.filter(|(_, it)| !matches!(it.link, Link::Down));
            let known = heard.map(|(user, it)| (*user, it.known.version));
            known.collect::<Vec<_>>()
        };
        self.parts.all().iter().flat_map(known).collect()
    }

    /// They were asked for again when this was known.
    pub(super) fn answered(&self, asked: u64, mut presence: Presence, effects: &mut Effects) {
        let part = self.part(presence.user);
        let watched = part.users.get(&presence.user);
        if let Some(watched) = watched.filter(|it| it.takes_answer(asked, &presence)) {
            if is_forgotten(&presence) {
                presence.last_seen_at = watched.known.last_seen_at;
            }
            self.learn(part, presence, effects);
        }
    }

    fn learn(&self, mut part: MutexGuard<'_, Part>, presence: Presence, effects: &mut Effects) {
        let user = presence.user;
        if let Some(watched) = part.users.get_mut(&user) {
            watched.know(presence);
        }
        let is_sooner = part.tell(user, Instant::now(), effects);
        drop(part);
        if is_sooner {
            self.scheduled.notify_one();
        }
    }

    /// Tells a socket how these users appear now, as far as it watches them; of whom nothing is heard
    /// yet, once that is so.
    pub(super) fn show(
        &self,
        session: SessionId,
        users: &[UserId],
        shown: Shown,
        effects: &mut Effects,
    ) {
        for user in users {
            let mut part = self.part(*user);
            let Some(watched) = part.users.get_mut(user) else {
                continue;
            };
            let Some(watcher) = watched.watchers.get_mut(&session) else {
                continue;
            };
            let is_told = matches!(watcher.told, Told::This(_));
            if is_told && shown == Shown::New {
                continue;
            }
            if !matches!(watched.link, Link::Up) {
                watcher.told = Told::Awaiting;
                continue;
            }
            let first = watched
                .first
                .get_or_insert_with(|| SharedPresence::first(watched.known.clone()));
            watcher.tell(first.clone(), Instant::now(), effects);
        }
    }

    /// Tells those who had to wait, of so many users. Answers when the next are due.
    pub(super) fn tell_due(
        &self,
        now: Instant,
        mut most: usize,
        effects: &mut Effects,
    ) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for part in self.parts.all() {
            loop {
                let mut part = part.lock();
                let Some((due, user)) = part.due.first().copied() else {
                    break;
                };
                if due > now || most == 0 {
                    next = Some(next.map_or(due, |next| next.min(due)));
                    break;
                }
                most -= 1;
                part.due.pop_first();
                if let Some(watched) = part.users.get_mut(&user) {
                    watched.due = None;
                    part.tell(user, now, effects);
                }
            }
        }
        next
    }

    /// How many users are watched.
    pub(super) fn len(&self) -> usize {
        self.parts
            .all()
            .iter()
            .map(|part| part.lock().users.len())
            .sum()
    }
}

/// Who waits for links that were changed; few tasks change many.
#[derive(Default)]
struct Waiting(Vec<Arc<Notify>>);

impl Waiting {
    fn add(&mut self, before: Link) {
        if let Link::Busy(done) = before
            && !self.0.iter().any(|it| Arc::ptr_eq(it, &done))
        {
            self.0.push(done);
        }
    }

    fn notify(self) {
        self.0.iter().for_each(|it| it.notify_waiters());
    }
}

impl Part {
    /// Tells the watchers of a user what is news to them. True if some have to be told later, sooner
    /// than was known.
    fn tell(&mut self, user: UserId, now: Instant, effects: &mut Effects) -> bool {
        let Entry::Occupied(mut watched) = self.users.entry(user) else {
            return false;
        };
        let watched = watched.get_mut();
        let Some(next) = watched.tell(now, effects) else {
            return false;
        };
        let is_sooner = watched.due.is_none_or(|due| next < due);
        if is_sooner {
            if let Some(due) = watched.due.replace(next) {
                self.due.remove(&(due, user));
            }
            self.due.insert((next, user));
        }
        is_sooner
    }

    fn forget(&mut self, user: UserId) {
        if let Some(due) = self.users.remove(&user).and_then(|it| it.due) {
            self.due.remove(&(due, user));
        }
    }
}

impl Watched {
    fn know(&mut self, presence: Presence) {
        metrics::PRESENCE_HEARD.increment(1);
        self.known = presence;
        self.first = None;
    }

    /// Whether an answer counts that was asked for when version `asked` was known: if that still is,
    /// also one by which Redis has forgotten something.
    fn takes_answer(&self, asked: u64, answer: &Presence) -> bool {
        self.known.version == asked || answer.version > self.known.version
    }

    /// Tells every watcher to whom it is news and who may be told. Answers when the first of the
    /// others may.
    fn tell(&mut self, now: Instant, effects: &mut Effects) -> Option<Instant> {
        let (known, first, mut next) = (&self.known, &mut self.first, None::<Instant>);
        let is_heard = matches!(self.link, Link::Up);
        let mut made: HashMap<Transition, Arc<SharedPresence>> = HashMap::new();
        for watcher in self.watchers.values_mut() {
            let told = match &watcher.told {
                Told::This(it) => it.presence(),
                Told::Awaiting if is_heard => {
                    let first = first.get_or_insert_with(|| SharedPresence::first(known.clone()));
                    watcher.tell(first.clone(), now, effects);
                    continue;
                }
                Told::Nothing | Told::Awaiting => continue,
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
        self.told = Told::This(news);
        self.at = now;
    }
}
