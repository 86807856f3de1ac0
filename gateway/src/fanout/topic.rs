//! One topic on this node: what was heard of it and who gets it. Pure: no locks of its own,
//! no I/O. The rules that keep a log's order and completeness are here, and only here.

use std::sync::Arc;

use shared::domain::{
    CallEvent, CommandState, CommandStatus, ConversationId, Entry, Kind, Position, Preferences,
    Presence, Queue, SessionId, Timestamp, Topic, UserId,
};
use tokio::sync::Notify;

use super::{
    audiences::Audiences,
    completed::Missed,
    item::{Happening, SharedSignal},
    listeners::Listeners,
    outbox::{Offered, Outbox, Then},
    place::{Ended, Mode},
    recent::Recent,
    reveal::Revealing,
    shared_entry::{Revoked, SharedEntry},
};
use crate::dialect::{AckMode, Feed};

/// Whether bells ring for the topic.
#[derive(Debug, Clone)]
pub(super) enum Follow {
    /// They do not, and nobody sees to it.
    No,
    /// Being changed; all are notified when that is done.
    Changing(Arc<Notify>),
    /// Redis has confirmed the subscription.
    Yes,
}

/// What has to happen after entries were applied, outside of the topic's lock.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Sockets whose session has to see to something new, each once.
    pub(super) wake: Vec<Arc<Outbox>>,
    /// Sockets that something new can be written to, each once.
    pub(super) write: Vec<Arc<Outbox>>,
    /// Topics that have to be re-read, each once.
    pub(super) repair: Vec<Topic>,
    /// Users who chose anew.
    pub(super) chose: Vec<Topic>,
    /// Users who may hear a conversation from now on, or have to be looked at again.
    pub(super) admitted: Vec<(UserId, ConversationId)>,
    /// How users appear from now on.
    pub(super) presences: Vec<Presence>,
    /// Users in whose conversations others came or went.
    pub(super) met: Vec<UserId>,
    /// Topics that lost their last socket.
    pub(super) unused: Vec<Topic>,
    /// Revocations that came into force.
    pub(super) revocations: Vec<Entry>,
    /// What users on this node were told of their calls.
    pub(super) calls: Vec<(UserId, CallEvent)>,
    /// Changes of what administrators manage.
    pub(super) directory: Vec<Entry>,
    /// Shards of which something may have been missed.
    pub(super) gaps: Vec<usize>,
}

impl Effects {
    /// Something was queued for a socket.
    pub(super) fn follow(&mut self, outbox: &Arc<Outbox>, then: Then) {
        match then {
            Then::Wake => self.wake.push(outbox.clone()),
            Then::Write => self.write.push(outbox.clone()),
            Then::Nothing => {}
        }
    }
}

/// A topic that somebody on this node follows.
#[derive(Debug)]
pub(super) struct TopicState {
    pub(super) follow: Follow,
    /// Everything up to here was given to live sockets. `None` until the first session told
    /// where the log ends.
    position: Option<Position>,
    /// The highest position anybody has told of. Beyond `position` only while dirty or before
    /// there is a position.
    heard: Position,
    /// Something is missing behind `position`: a re-read is queued or under way.
    dirty: bool,
    /// What the topic's user chose; unknown before the first session.
    preferences: Option<Arc<Preferences>>,
    /// Where in the log they were chosen, or learnt to be in force.
    chosen_at: Position,
    sockets: Sockets,
    /// How many feeds of sockets are not live.
    not_live: u32,
    /// Except of broadcasts, only while some socket is not live.
    recent: Option<Box<Recent>>,
}

/// Who gets the entries.
#[derive(Debug)]
enum Sockets {
    /// The sockets of one user, or none.
    Own(Vec<Arc<Outbox>>),
    /// Those that want to hear a conversation.
    Listening(Listeners),
    /// All sockets of the node.
    All(Box<Audiences>),
}

/// What becomes of an entry that was read for a socket.
enum Verdict {
    /// The socket gets it.
    Give,
    /// It is kept from its user.
    Keep,
    /// It is nothing to the socket.
    Pass,
}

/// How a catch-up goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Advance {
    /// The socket is live, has no room, or is gone: nothing left to do.
    Done,
    /// What comes next has to be read from the log.
    Read {
        /// Where to begin.
        after: Position,
        /// Where the topic stands: if the log ends before, Redis lost what was between.
        target: Position,
    },
}

impl TopicState {
    fn new() -> Self {
        Self {
            follow: Follow::No,
            position: None,
            heard: Position::START,
            dirty: false,
            preferences: None,
            chosen_at: Position::START,
            sockets: Sockets::Own(Vec::new()),
            not_live: 0,
            recent: None,
        }
    }

    /// As a topic is whose sockets come one by one.
    pub(super) fn of(topic: Topic) -> Self {
        match topic {
            Topic::Conversation(_) => Self {
                sockets: Sockets::Listening(Listeners::default()),
                ..Self::new()
            },
            _ => Self::new(),
        }
    }

    /// That of broadcasts.
    pub(super) fn of_broadcasts() -> Self {
        Self {
            sockets: Sockets::All(Box::default()),
            ..Self::new()
        }
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.position
    }

    /// What the topic's user chose; unknown before the first session.
    pub(super) fn preferences(&self) -> Option<&Arc<Preferences>> {
        self.preferences.as_ref()
    }

    /// The sockets of a user's topic.
    pub(super) fn members(&self) -> &[Arc<Outbox>] {
        match &self.sockets {
            Sockets::Own(members) => members,
            Sockets::Listening(_) | Sockets::All(_) => &[],
        }
    }

    /// Whether nobody here wants entries.
    pub(super) fn is_unused(&self) -> bool {
        match &self.sockets {
            Sockets::Own(members) => members.is_empty(),
            Sockets::Listening(listeners) => listeners.is_empty(),
            Sockets::All(_) => false,
        }
    }

    /// Adds a socket to its user's topic; nobody brings it entries yet.
    pub(super) fn join(&mut self, outbox: Arc<Outbox>) {
        if let Sockets::Own(members) = &mut self.sockets {
            self.not_live += outbox.feeds_of_user().len() as u32;
            members.push(outbox);
        }
    }

    /// A socket of the topic's user begins to follow a queue; nobody brings it entries yet. Answers
    /// where its device stands there, if it is news.
    pub(super) fn follow_queue(
        &mut self,
        outbox: &Arc<Outbox>,
        queue: Queue,
        acks: AckMode,
    ) -> Option<Position> {
        let is_here = |member: &Arc<Outbox>| Arc::ptr_eq(member, outbox);
        if !self.members().iter().any(is_here) {
            return None;
        }
        let cursor = outbox.follow_queue(queue, acks)?;
        self.not_live += 1;
        Some(cursor)
    }

    /// A socket follows a queue no more. Answers how it ended.
    pub(super) fn leave_queue(&mut self, outbox: &Outbox, queue: Queue) -> Option<Ended> {
        let ended = outbox.leave_queue(queue)?;
        if ended.mode != Mode::Live {
            self.one_less_behind();
        }
        Some(ended)
    }

    /// A socket begins to listen to the conversation, or wants something else of it; nobody brings
    /// it entries yet. True if it is news.
    pub(super) fn listen(&mut self, outbox: &Arc<Outbox>, conversation: ConversationId) -> bool {
        let Sockets::Listening(listeners) = &mut self.sockets else {
            return false;
        };
        let is_new = listeners.seat(outbox, conversation);
        self.not_live += u32::from(is_new);
        is_new
    }

    /// A socket that has lost the right to hear the conversation hears nothing more of it, and its
    /// session is told.
    fn lose(&mut self, outbox: &Arc<Outbox>, conversation: ConversationId) {
        if self
            .leave(outbox, Feed::Conversation(conversation))
            .is_some()
        {
            outbox.lose(conversation);
        }
    }

    /// A signal was heard.
    pub(super) fn signal(&self, signal: &Arc<SharedSignal>, effects: &mut Effects) {
        let mut offer = |outbox: &Arc<Outbox>| effects.follow(outbox, outbox.offer_signal(signal));
        match (&self.sockets, signal.what()) {
            (Sockets::Listening(listeners), Happening::Typing(_, typing)) => {
                listeners.who_watch_typing(typing.session).for_each(offer);
            }
            (Sockets::Own(members), Happening::Call(event)) => {
                let is_told = |outbox: &&Arc<Outbox>| {
                    let member = outbox.member();
                    member.is_some_and(|it| event.audience.includes(it.session))
                };
                members.iter().filter(is_told).for_each(&mut offer);
            }
            _ => {}
        }
    }

    /// Adds a socket to those that follow broadcasts; nobody brings it any yet.
    pub(super) fn admit_socket(&mut self, outbox: &Arc<Outbox>, preferences: &Arc<Preferences>) {
        if let Sockets::All(audiences) = &mut self.sockets
            && !outbox.is_ended()
        {
            audiences.seat(outbox, preferences);
            self.not_live += 1;
        }
    }

    /// The user of a socket that follows broadcasts chose anew.
    pub(super) fn reseat(&mut self, outbox: &Arc<Outbox>, preferences: &Arc<Preferences>) {
        if let Sockets::All(audiences) = &mut self.sockets
            && Audiences::has(outbox)
        {
            audiences.seat(outbox, preferences);
        }
    }

    /// Removes a socket. Answers how it ended, if it was here: once for each feed it had.
    pub(super) fn leave(&mut self, outbox: &Arc<Outbox>, feed: Feed) -> Option<Vec<Ended>> {
        let feeds = match (&mut self.sockets, feed) {
            (Sockets::Own(members), _) => {
                let index = members
                    .iter()
                    .position(|member| Arc::ptr_eq(member, outbox))?;
                members.swap_remove(index);
                if members.is_empty() {
                    *members = Vec::new();
                }
                outbox.feeds_of_user()
            }
            (Sockets::Listening(listeners), Feed::Conversation(conversation)) => {
                listeners.leave(outbox, conversation).then_some(())?;
                vec![feed]
            }
            (Sockets::Listening(_), _) => return None,
            (Sockets::All(audiences), _) => {
                audiences.leave(outbox).then_some(())?;
                vec![Feed::Broadcast]
            }
        };
        let ended: Vec<Ended> = feeds.into_iter().filter_map(|it| outbox.end(it)).collect();
        for it in &ended {
            if it.mode != Mode::Live {
                self.one_less_behind();
            }
        }
        Some(ended)
    }

    fn one_less_behind(&mut self) {
        self.not_live -= 1;
        if self.not_live == 0 && !self.is_of_all() {
            self.recent = None;
        }
    }

    fn is_of_all(&self) -> bool {
        matches!(self.sockets, Sockets::All(_))
    }

    /// The socket of a session.
    pub(super) fn member(&self, session: SessionId) -> Option<&Arc<Outbox>> {
        let is_it = |outbox: &&Arc<Outbox>| outbox.member().is_some_and(|m| m.session == session);
        self.members().iter().find(is_it)
    }

    /// A session learnt where the log ends, and what its user had chosen by then. True if entries
    /// behind that were heard already, so that the topic has to be re-read.
    pub(super) fn learn_head(
        &mut self,
        head: Position,
        preferences: Option<Arc<Preferences>>,
    ) -> bool {
        if self.position.is_some() {
            return false;
        }
        self.position = Some(head);
        if head >= self.chosen_at {
            self.preferences = preferences;
            self.chosen_at = head;
        }
        self.heard > head && self.become_dirty()
    }

    /// What the log holds behind `from`, up to its end: kept for sockets that catch up. True if
    /// the topic has to be re-read.
    pub(super) fn preload(&mut self, from: Position, entries: Vec<Entry>, end: Position) -> bool {
        let mut recent = Box::new(Recent::of_broadcasts(from));
        for entry in entries {
            recent.push(SharedEntry::new(entry));
        }
        self.recent = Some(recent);
        self.learn_head(end, None)
    }

    /// Bells may have been missed and nobody can tell which.
    pub(super) fn forget_position(&mut self) {
        self.position = None;
        self.heard = Position::START;
        self.dirty = false;
        self.recent = None;
    }

    /// A bell rang.
    pub(super) fn hear(&mut self, entry: Entry, revealing: &Revealing, effects: &mut Effects) {
        let (topic, at) = (entry.topic, entry.position);
        if matches!((topic, entry.kind), (Topic::User(_), Kind::Preferences)) {
            // Also where something before it is missing: that is read later, but the choice counts now.
            self.choose(&entry, effects);
        }
        match self.position {
            Some(position) if at <= position => {}
            Some(position) if !self.dirty && position.is_followed_by(at) => {
                self.deliver(entry, revealing, effects);
                self.heard = self.heard.max(at);
            }
            Some(_) => {
                self.heard = self.heard.max(at);
                if self.become_dirty() {
                    effects.repair.push(topic);
                }
            }
            None => self.heard = self.heard.max(at),
        }
    }

    /// The log's head as Redis tells it. True if something was missed, so that the topic has
    /// to be re-read.
    pub(super) fn compare(&mut self, head: Position) -> bool {
        let Some(position) = self.position else {
            return false;
        };
        if head <= position {
            // Behind us only if Redis lost a tail; what comes next has a higher epoch.
            return false;
        }
        self.heard = self.heard.max(head);
        self.become_dirty()
    }

    fn become_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, true)
    }

    /// Where a re-read begins, and what it has to reach.
    pub(super) fn repair_from(&self) -> Option<(Position, Position)> {
        self.position
            .filter(|_| self.dirty)
            .map(|position| (position, self.heard))
    }

    /// Entries a re-read found. `end` is where the log ended, if that was reached; `target`
    /// what had been heard before the read. True if nothing is missing any more.
    pub(super) fn repaired(
        &mut self,
        entries: Vec<Entry>,
        end: Option<Position>,
        target: Position,
        revealing: &Revealing,
        effects: &mut Effects,
    ) -> bool {
        if !self.dirty {
            // The topic was given up and taken up again meanwhile.
            return true;
        }
        for entry in entries {
            // What is for nodes has no position of its own in Postgres, and is idempotent.
            let is_news = self
                .position
                .is_none_or(|position| entry.position > position);
            if is_news || matches!(entry.topic, Topic::Revocations | Topic::Directory) {
                self.deliver(entry, revealing, effects);
            }
        }
        if let Some(end) = end {
            self.position = self.position.max(Some(end));
        }
        let reached = self.position.is_some_and(|position| position >= self.heard);
        // A log that ends before what was heard has lost it: the log is the truth. Only what
        // was heard after the read began may still be found by another.
        let lost = end.is_some() && self.heard == target;
        if reached || lost {
            self.dirty = false;
            self.heard = self.position.unwrap_or_default();
        }
        !self.dirty
    }

    /// Commands that a socket at `after` has missed, as far as memory reaches; see [`Recent::missed`].
    pub(super) fn missed(&self, after: Position, most: usize) -> Vec<Missed> {
        match &self.recent {
            Some(recent) if self.position > Some(after) => recent.missed(after, most),
            _ => Vec::new(),
        }
    }

    /// Where a socket begins that may have what came at `at` or later; see [`Recent::before`].
    pub(super) fn before(&self, at: Timestamp) -> Option<Position> {
        self.recent.as_ref()?.before(at)
    }

    /// Gives the next entry to everybody who is live and whom it reaches.
    fn deliver(&mut self, entry: Entry, revealing: &Revealing, effects: &mut Effects) {
        let before = self.position.unwrap_or_default();
        self.position = Some(before.max(entry.position));
        match (entry.topic, entry.kind) {
            (Topic::Revocations, _) => return effects.revocations.push(entry),
            (Topic::Directory, _) => return effects.directory.push(entry),
            (Topic::User(_), Kind::Preferences) => self.choose(&entry, effects),
            (Topic::User(_), Kind::CommandStatus) => self.complete(&entry),
            _ => {}
        }
        if self.is_unused() {
            return;
        }
        let entry = revealing.share(entry);
        let Some(tags) = entry.tags() else {
            return;
        };
        if let Topic::User(user) = entry.entry().topic
            && let Some(conversation) = entry.admits(user)
        {
            effects.admitted.push((user, conversation));
        }
        if let Topic::User(user) = entry.entry().topic
            && entry.moves_people()
        {
            effects.met.push(user);
        }
        let losers = self.losers(&entry);
        let mut fell_behind = 0;
        let mut offer = |outbox: &Arc<Outbox>| match outbox.offer_live(&entry, before) {
            Offered::Taken(then) => effects.follow(outbox, then),
            Offered::NotLive => {}
            Offered::FellBehind => fell_behind += 1,
        };
        match &self.sockets {
            Sockets::Own(members) if self.is_kept(&entry) => {
                let keep = |outbox: &&Arc<Outbox>| !outbox.keep_live(&entry);
                fell_behind += members.iter().filter(keep).count() as u32;
            }
            Sockets::Own(members) => members.iter().for_each(&mut offer),
            Sockets::Listening(listeners) => listeners.who_want(&entry).for_each(&mut offer),
            Sockets::All(audiences) => audiences.reached(tags).for_each(&mut offer),
        }
        self.not_live += fell_behind;
        if let Some(ended) = self.ended_for_all(&entry)
            && let Some(recent) = &mut self.recent
        {
            recent.remove(ended.command_id);
        }
        if self.not_live > 0 || self.is_of_all() {
            let recent = self
                .recent
                .get_or_insert_with(|| Box::new(Recent::of_user(before)));
            recent.push(entry.clone());
        }
        if let Topic::Conversation(conversation) = entry.entry().topic
            && !losers.is_empty()
        {
            for outbox in losers {
                self.lose(&outbox, conversation);
                if let Some(member) = outbox.member()
                    && outbox.wants_all()
                {
                    // They may have come back before this was heard.
                    effects.admitted.push((member.user, conversation));
                }
            }
            if self.is_unused() {
                effects.unused.push(entry.entry().topic);
            }
        }
    }

    /// The sockets that have heard the last of the conversation once they have this entry. Those
    /// that begin behind it were allowed to by what came after it.
    fn losers(&self, entry: &SharedEntry) -> Vec<Arc<Outbox>> {
        let (Some(revoked), Sockets::Listening(listeners)) = (entry.revoked(), &self.sockets)
        else {
            return Vec::new();
        };
        let feed = entry.feed();
        let stands_before = |outbox: &&Arc<Outbox>| outbox.stands_before(feed, entry.position());
        let all = listeners.all().filter(|it| concerns(revoked, it));
        all.filter(stands_before)
            .filter(|it| is_later(entry, it))
            .cloned()
            .collect()
    }

    /// A broadcast that the user has completed goes to none of their sockets that is behind.
    fn complete(&self, entry: &Entry) {
        let Ok(told) = serde_json::from_slice::<CommandStatus>(&entry.body) else {
            return;
        };
        if told.status == CommandState::Completed && told.broadcast.is_some() {
            for outbox in self.members() {
                outbox.complete(told.command_id);
            }
        }
    }

    /// The topic's user chose anew.
    fn choose(&mut self, entry: &Entry, effects: &mut Effects) {
        if entry.position <= self.chosen_at {
            return;
        }
        // One that cannot be read reaches nobody and changes nothing.
        if let Ok(preferences) = serde_json::from_slice::<Preferences>(&entry.body) {
            self.preferences = Some(Arc::new(preferences));
            self.chosen_at = entry.position;
            effects.chose.push(entry.topic);
        }
    }

    /// Whether the preferences of the topic's user keep a command from them.
    fn is_kept(&self, entry: &SharedEntry) -> bool {
        let admits = |tags| {
            self.preferences
                .as_ref()
                .is_none_or(|preferences| preferences.admit(tags))
        };
        entry.entry().kind == Kind::CommandNew && entry.tags().is_some_and(|tags| !admits(tags))
    }

    /// What the entry says, if it ends a broadcast.
    fn ended_for_all(&self, entry: &SharedEntry) -> Option<CommandStatus> {
        let is_end = self.is_of_all() && entry.entry().kind == Kind::CommandStatus;
        is_end
            .then(|| serde_json::from_slice(&entry.entry().body).ok())
            .flatten()
    }

    /// What becomes of an entry that was read for a socket.
    fn verdict(&self, outbox: &Outbox, feed: Feed, entry: &SharedEntry) -> Verdict {
        let give_if = |is_wanted| {
            if is_wanted {
                Verdict::Give
            } else {
                Verdict::Pass
            }
        };
        match &self.sockets {
            Sockets::Own(_) if outbox.feed_for(entry) != feed => Verdict::Pass,
            Sockets::Own(_) if entry.tags().is_none() || self.is_kept(entry) => Verdict::Keep,
            Sockets::Own(_) => Verdict::Give,
            Sockets::Listening(listeners) => {
                give_if(entry.tags().is_some() && listeners.wants(outbox, entry))
            }
            // Only what was received is told of broadcasts.
            Sockets::All(audiences) => give_if(
                entry
                    .tags()
                    .is_some_and(|tags| audiences.admit(outbox, tags))
                    && !outbox.has_completed(entry.entry().id),
            ),
        }
    }

    /// How an entry that was read is to be given to a socket. Not under the topic's lock: it may
    /// have to be encoded.
    pub(super) fn handing(&self, outbox: &Outbox, feed: Feed, entry: &SharedEntry) -> Handing {
        Handing(self.verdict(outbox, feed, entry))
    }

    /// Brings a socket that catches up as far as memory reaches, and makes it live if that is
    /// far enough.
    pub(super) fn advance(&mut self, outbox: &Arc<Outbox>, feed: Feed) -> Advance {
        let Some(position) = self.position else {
            return Advance::Done;
        };
        loop {
            let sent = match outbox.go_live_at(feed, position) {
                None => return Advance::Done,
                Some(Ok(())) => {
                    self.one_less_behind();
                    if feed == Feed::Broadcast {
                        outbox.forget_completed();
                    }
                    return Advance::Done;
                }
                Some(Err(sent)) => sent,
            };
            let Some(entries) = self.recent.as_ref().and_then(|recent| recent.after(sent)) else {
                return Advance::Read {
                    after: sent,
                    target: position,
                };
            };
            let mut is_lost = false;
            for entry in entries {
                if !self.handing(outbox, feed, entry).give(outbox, feed, entry) {
                    return Advance::Done;
                }
                is_lost = revokes(entry, outbox);
                if is_lost {
                    break;
                }
            }
            if is_lost {
                self.lose_if_revoked(outbox, feed);
                return Advance::Done;
            }
            outbox.passed(feed, position);
        }
    }

    /// A socket was given the last it may hear.
    pub(super) fn lose_if_revoked(&mut self, outbox: &Arc<Outbox>, feed: Feed) {
        if let Feed::Conversation(conversation) = feed {
            self.lose(outbox, conversation);
        }
    }
}

/// See [`TopicState::handing`].
pub(super) struct Handing(Verdict);

impl Handing {
    /// Gives a socket that catches up an entry, or passes it over. False if it stopped catching up.
    pub(super) fn give(self, outbox: &Arc<Outbox>, feed: Feed, entry: &Arc<SharedEntry>) -> bool {
        match self.0 {
            Verdict::Give => outbox.offer_read(feed, entry),
            Verdict::Keep => outbox.keep_read(feed, entry.position()),
            Verdict::Pass => outbox.pass_read(feed, entry.position()),
        }
    }
}

/// Whether a socket's user may not hear what follows an entry of a conversation's log.
pub(super) fn revokes(entry: &SharedEntry, outbox: &Outbox) -> bool {
    let is_heard = matches!(entry.feed(), Feed::Conversation(_));
    is_heard
        && entry
            .revoked()
            .is_some_and(|revoked| concerns(revoked, outbox))
        && is_later(entry, outbox)
}

/// Whether an entry of a conversation came after a socket's right to hear it was judged.
fn is_later(entry: &SharedEntry, outbox: &Outbox) -> bool {
    let Feed::Conversation(conversation) = entry.feed() else {
        return false;
    };
    let begun = outbox.begun(conversation);
    begun.is_some_and(|begun| entry.position() > begun.judged_at)
}

fn concerns(revoked: Revoked, outbox: &Outbox) -> bool {
    match revoked {
        Revoked::FromAll => true,
        Revoked::From(user) => outbox.member().is_some_and(|member| member.user == user),
    }
}
