//! One topic on this node: what was heard of it and who gets it. Pure: no locks of its own,
//! no I/O. The rules that keep a log's order and completeness are here, and only here.

use std::sync::Arc;

use shared::domain::{
    CommandState, CommandStatus, Entry, Kind, Position, Preferences, SessionId, Timestamp, Topic,
};
use tokio::sync::Notify;

use super::{
    audiences::Audiences,
    backlog::Ended,
    completed::Missed,
    outbox::{Offered, Outbox, Then},
    place::Mode,
    recent::Recent,
    shared_entry::SharedEntry,
};
use crate::dialect::Feed;

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
    /// Revocations that came into force.
    pub(super) revocations: Vec<Entry>,
    /// Changes of what administrators manage.
    pub(super) directory: Vec<Entry>,
    /// Shards of which something may have been missed.
    pub(super) gaps: Vec<usize>,
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
    /// How many sockets are not live.
    not_live: usize,
    /// Of a user's topic only while some socket is not live.
    recent: Option<Box<Recent>>,
}

/// Who gets the entries.
#[derive(Debug)]
enum Sockets {
    /// The sockets of one user, or none.
    Own(Vec<Arc<Outbox>>),
    /// All sockets of the node.
    All(Box<Audiences>),
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
    pub(super) fn new() -> Self {
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
            Sockets::All(_) => &[],
        }
    }

    /// Whether nobody here wants entries.
    pub(super) fn is_unused(&self) -> bool {
        matches!(&self.sockets, Sockets::Own(members) if members.is_empty())
    }

    /// Adds a socket to its user's topic; nobody brings it entries yet.
    pub(super) fn join(&mut self, outbox: Arc<Outbox>) {
        if let Sockets::Own(members) = &mut self.sockets {
            members.push(outbox);
            self.not_live += 1;
        }
    }

    /// Adds a socket to those that follow broadcasts; nobody brings it any yet.
    pub(super) fn admit_socket(&mut self, outbox: &Arc<Outbox>, preferences: &Arc<Preferences>) {
        if let Sockets::All(audiences) = &mut self.sockets {
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

    /// Removes a socket. Answers how it ended, if it was here.
    pub(super) fn leave(&mut self, outbox: &Arc<Outbox>) -> Option<Ended> {
        let feed = match &mut self.sockets {
            Sockets::Own(members) => {
                let index = members
                    .iter()
                    .position(|member| Arc::ptr_eq(member, outbox))?;
                members.swap_remove(index);
                if members.is_empty() {
                    *members = Vec::new();
                }
                Feed::User
            }
            Sockets::All(audiences) => {
                audiences.leave(outbox).then_some(())?;
                Feed::Broadcast
            }
        };
        let ended = outbox.end(feed);
        if ended.mode != Mode::Live {
            self.one_less_behind();
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
    pub(super) fn hear(&mut self, entry: Entry, effects: &mut Effects) {
        let (topic, at) = (entry.topic, entry.position);
        if matches!((topic, entry.kind), (Topic::User(_), Kind::Preferences)) {
            // Also where something before it is missing: that is read later, but the choice counts now.
            self.choose(&entry, effects);
        }
        match self.position {
            Some(position) if at <= position => {}
            Some(position) if !self.dirty && position.is_followed_by(at) => {
                self.deliver(entry, effects);
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
                self.deliver(entry, effects);
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
    fn deliver(&mut self, entry: Entry, effects: &mut Effects) {
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
        let entry = SharedEntry::new(entry);
        let Some(tags) = entry.tags() else {
            return;
        };
        let mut fell_behind = 0;
        let mut offer = |outbox: &Arc<Outbox>| match outbox.offer_live(&entry, before) {
            Offered::Taken(Then::Wake) => effects.wake.push(outbox.clone()),
            Offered::Taken(Then::Write) => effects.write.push(outbox.clone()),
            Offered::Taken(Then::Nothing) | Offered::NotLive => {}
            Offered::FellBehind => fell_behind += 1,
        };
        match &self.sockets {
            Sockets::Own(members) if self.is_kept(&entry) => {
                let keep = |outbox: &&Arc<Outbox>| !outbox.keep_live(entry.position());
                fell_behind += members.iter().filter(keep).count();
            }
            Sockets::Own(members) => members.iter().for_each(&mut offer),
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
            recent.push(entry);
        }
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

    /// Whether an entry that was read may reach a socket.
    pub(super) fn admits(&self, outbox: &Outbox, entry: &SharedEntry) -> bool {
        match &self.sockets {
            Sockets::Own(_) => entry.tags().is_some() && !self.is_kept(entry),
            Sockets::All(audiences) => {
                entry
                    .tags()
                    .is_some_and(|tags| audiences.admit(outbox, tags))
                    && !outbox.has_completed(entry.entry().id)
            }
        }
    }

    /// Brings a socket that catches up as far as memory reaches, and makes it live if that is
    /// far enough.
    pub(super) fn advance(&mut self, outbox: &Arc<Outbox>) -> Advance {
        let feed = if self.is_of_all() {
            Feed::Broadcast
        } else {
            Feed::User
        };
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
            for entry in entries {
                if !give(outbox, entry, self.admits(outbox, entry)) {
                    return Advance::Done;
                }
            }
            outbox.passed(feed, position);
        }
    }
}

/// Gives a socket that catches up an entry, or passes it over. False if it stopped catching up.
pub(super) fn give(outbox: &Arc<Outbox>, entry: &Arc<SharedEntry>, is_admitted: bool) -> bool {
    if is_admitted {
        outbox.offer_read(entry)
    } else {
        outbox.keep_read(entry.feed(), entry.position())
    }
}
