//! One topic on this node: what was heard of it and who gets it. Pure: no locks of its own,
//! no I/O. The rules that keep a log's order and completeness are here, and only here.

use std::{collections::VecDeque, sync::Arc};

use shared::domain::{Entry, Position, SessionId, Topic};
use tokio::sync::Notify;

use super::{
    outbox::{Offered, Outbox, Then},
    place::Mode,
    shared_entry::SharedEntry,
};

/// Most entries kept for sockets that catch up.
const RECENT_ENTRIES: usize = if cfg!(test) { 4 } else { 256 };
/// Most bytes of bodies kept for sockets that catch up.
const RECENT_BYTES: usize = 256 * 1024;

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
    /// Revocations that came into force.
    pub(super) revocations: Vec<Entry>,
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
    members: Vec<Arc<Outbox>>,
    /// How many members are not live.
    not_live: usize,
    /// Only while some member is not live.
    recent: Option<Box<Recent>>,
}

/// All entries behind `from` up to the topic's position.
#[derive(Debug)]
struct Recent {
    from: Position,
    bytes: usize,
    entries: VecDeque<Arc<SharedEntry>>,
}

impl Recent {
    fn push(&mut self, entry: Arc<SharedEntry>) {
        self.bytes += entry.entry().body.len();
        self.entries.push_back(entry);
        while self.entries.len() > RECENT_ENTRIES || self.bytes > RECENT_BYTES {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= oldest.entry().body.len();
            self.from = oldest.position();
        }
    }
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
            members: Vec::new(),
            not_live: 0,
            recent: None,
        }
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.position
    }

    pub(super) fn members(&self) -> &[Arc<Outbox>] {
        &self.members
    }

    /// Adds a socket; nobody brings it entries yet.
    pub(super) fn join(&mut self, outbox: Arc<Outbox>) {
        self.members.push(outbox);
        self.not_live += 1;
    }

    /// Removes a socket. True if it was here.
    pub(super) fn leave(&mut self, outbox: &Arc<Outbox>) -> bool {
        let found = self
            .members
            .iter()
            .position(|member| Arc::ptr_eq(member, outbox));
        let Some(index) = found else {
            return false;
        };
        self.members.swap_remove(index);
        if self.members.is_empty() {
            self.members = Vec::new();
        }
        if outbox.end() != Mode::Live {
            self.one_less_behind();
        }
        true
    }

    fn one_less_behind(&mut self) {
        self.not_live -= 1;
        if self.not_live == 0 {
            self.recent = None;
        }
    }

    /// The socket of a session.
    pub(super) fn member(&self, session: SessionId) -> Option<&Arc<Outbox>> {
        let is_it = |outbox: &&Arc<Outbox>| outbox.member().is_some_and(|m| m.session == session);
        self.members.iter().find(is_it)
    }

    /// A session learnt where the log ends. True if entries behind that were heard already, so
    /// that the topic has to be re-read.
    pub(super) fn learn_head(&mut self, head: Position) -> bool {
        if self.position.is_some() {
            return false;
        }
        self.position = Some(head);
        self.heard > head && self.become_dirty()
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
            // Revocations from Postgres have no position of their own, and are idempotent.
            let is_news = self
                .position
                .is_none_or(|position| entry.position > position);
            if is_news || entry.topic == Topic::Revocations {
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

    /// Gives the next entry to everybody who is live.
    fn deliver(&mut self, entry: Entry, effects: &mut Effects) {
        let before = self.position.unwrap_or_default();
        let at = entry.position;
        self.position = Some(before.max(at));
        if entry.topic == Topic::Revocations {
            effects.revocations.push(entry);
            return;
        }
        if self.members.is_empty() {
            return;
        }
        let entry = SharedEntry::new(entry);
        for outbox in &self.members {
            match outbox.offer_live(&entry, before) {
                Offered::Taken(Then::Wake) => effects.wake.push(outbox.clone()),
                Offered::Taken(Then::Write) => effects.write.push(outbox.clone()),
                Offered::Taken(Then::Nothing) | Offered::NotLive => {}
                Offered::FellBehind => self.not_live += 1,
            }
        }
        if self.not_live > 0 {
            let recent = self.recent.get_or_insert_with(|| {
                Box::new(Recent {
                    from: before,
                    bytes: 0,
                    entries: VecDeque::new(),
                })
            });
            recent.push(entry);
        }
    }

    /// Brings a socket that catches up as far as memory reaches, and makes it live if that is
    /// far enough.
    pub(super) fn advance(&mut self, outbox: &Arc<Outbox>) -> Advance {
        let Some(position) = self.position else {
            return Advance::Done;
        };
        loop {
            let sent = match outbox.go_live_at(position) {
                None => return Advance::Done,
                Some(Ok(())) => {
                    self.one_less_behind();
                    return Advance::Done;
                }
                Some(Err(sent)) => sent,
            };
            let Some(recent) = self.recent.as_ref().filter(|recent| recent.from <= sent) else {
                return Advance::Read {
                    after: sent,
                    target: position,
                };
            };
            let begin = recent
                .entries
                .partition_point(|entry| entry.position() <= sent);
            for entry in recent.entries.range(begin..) {
                if !outbox.offer_read(entry) {
                    return Advance::Done;
                }
            }
            outbox.passed(position);
        }
    }
}
