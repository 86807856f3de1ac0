//! The socket's side: whom it watches, and what it could not be told yet.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use shared::domain::UserId;

use super::SharedPresence;
use crate::{
    dialect::Interest,
    fanout::{
        addresses::Addresses,
        backlog::{Client, Stage},
        chosen::{Chosen, Notice},
        item::Item,
        metrics,
        outbox::{MAX_FRAMES, Outbox, Then, then},
    },
};

/// What a socket watches.
#[derive(Debug, Default)]
pub(in crate::fanout) struct Watching {
    users: HashMap<UserId, Watched>,
    /// What the queue had no room for, in the order in which that began: of each user only the newest.
    late: BTreeMap<u64, Arc<SharedPresence>>,
    /// How often somebody became late.
    turn: u64,
}

#[derive(Debug)]
struct Watched {
    to: Addresses,
    /// Their place among the late.
    late: Option<u64>,
}

impl Watching {
    /// Where frames about a user are addressed to; `None` if the socket does not watch them.
    pub(in crate::fanout) fn addresses(&self, user: UserId) -> Option<&Addresses> {
        self.users.get(&user).map(|it| &it.to)
    }

    /// The next that the queue is to have, oldest first.
    pub(in crate::fanout) fn take_late(&mut self) -> Vec<Arc<SharedPresence>> {
        let mut taken = Vec::new();
        while taken.len() < MAX_FRAMES
            && let Some((_, news)) = self.late.pop_first()
        {
            if let Some(watched) = self.users.get_mut(&news.presence().user) {
                watched.late = None;
            }
            taken.push(news);
        }
        taken
    }

    fn keep(&mut self, news: &Arc<SharedPresence>) {
        if let Some(watched) = self.users.get_mut(&news.presence().user) {
            let turn = *watched.late.get_or_insert_with(|| {
                self.turn += 1;
                self.turn
            });
            self.late.insert(turn, news.clone());
        }
    }

    fn forget(&mut self, user: UserId) -> bool {
        let Some(watched) = self.users.remove(&user) else {
            return false;
        };
        if let Some(turn) = watched.late {
            self.late.remove(&turn);
        }
        true
    }
}

impl Outbox {
    /// Its client did nothing for long, or does something again.
    pub(super) fn note_idle(&self, is_idle: bool) {
        self.state.lock().client = if is_idle {
            Client::Idle
        } else {
            Client::Active
        };
    }

    /// Whether its client did nothing for long.
    pub(in crate::fanout) fn is_idle(&self) -> bool {
        self.state.lock().client == Client::Idle
    }

    /// Watches a user from now on, or looks anew where their frames are addressed to. False if the
    /// socket has ended, or if it does not wish to watch them any more.
    pub(super) fn begin_watching(&self, user: UserId) -> bool {
        let mut state = self.state.lock();
        if state.stage == Stage::Ended {
            return false;
        }
        let chosen = state.chosen_mut();
        let to = chosen.presence_addresses(user);
        if to.is_nowhere() {
            return false;
        }
        let watching = chosen.watching.get_or_insert_default();
        match watching.users.entry(user) {
            Entry::Occupied(mut watched) => watched.get_mut().to = to,
            Entry::Vacant(place) => {
                place.insert(Watched { to, late: None });
            }
        }
        chosen.withdraw_unseen(user);
        true
    }

    /// Looks anew where frames about somebody are addressed to whom it watches.
    pub(super) fn address_presence(&self, user: UserId) {
        let mut state = self.state.lock();
        let chosen = state.chosen_mut();
        let to = chosen.presence_addresses(user);
        let watching = chosen.watching.as_mut();
        if let Some(watched) = watching.and_then(|it| it.users.get_mut(&user))
            && !to.is_nowhere()
        {
            watched.to = to;
        }
    }

    /// Watches a user no more. False if it did not.
    pub(super) fn stop_watching(&self, user: UserId) -> bool {
        let mut state = self.state.lock();
        let watching = &mut state.chosen_mut().watching;
        let was_watched = watching.as_mut().is_some_and(|it| it.forget(user));
        watching.take_if(|it| it.users.is_empty());
        was_watched
    }

    /// The user may not watch that one any more, and has to be told.
    pub(super) fn lose_sight(&self, user: UserId) {
        let mut state = self.state.lock();
        let chosen = state.chosen_mut();
        chosen.forget_presence(user);
        chosen.notify(Notice::Unseen(user));
        let wake = state.wake();
        drop(state);
        if wake {
            self.wake();
        }
    }

    /// Whom it watches.
    pub(super) fn watched(&self) -> Vec<UserId> {
        let state = self.state.lock();
        let watching = state.chosen().and_then(|it| it.watching.as_ref());
        watching.map_or_else(Vec::new, |it| it.users.keys().copied().collect())
    }

    /// Whether it watches a user.
    pub(in crate::fanout) fn is_watching(&self, user: UserId) -> bool {
        let state = self.state.lock();
        let watching = state.chosen().and_then(|it| it.watching.as_ref());
        watching.is_some_and(|it| it.users.contains_key(&user))
    }

    /// Whether it wants to watch everybody with whom its user shares a conversation.
    pub(super) fn wants_contacts(&self) -> bool {
        let state = self.state.lock();
        let wants = |it: &Chosen| it.wishes_for(Interest::Presence(None));
        state.chosen().is_some_and(wants)
    }

    /// Whether it wants to watch this user in particular.
    pub(super) fn wants_presence_of(&self, user: UserId) -> bool {
        let state = self.state.lock();
        let wants = |it: &Chosen| it.wishes_for(Interest::Presence(Some(user)));
        state.chosen().is_some_and(wants)
    }

    /// How somebody appears. A socket that has little room is told later, and then only the newest.
    pub(super) fn offer_presence(&self, news: &Arc<SharedPresence>) -> Then {
        let mut state = self.state.lock();
        if state.stage == Stage::Ended || state.close.is_some() {
            return Then::Nothing;
        }
        let has_room = state.has_plenty_of_room(&self.limits);
        let Some(watching) = &mut state.chosen_mut().watching else {
            return Then::Nothing;
        };
        if !watching.users.contains_key(&news.presence().user) {
            return Then::Nothing;
        }
        if has_room && watching.late.is_empty() {
            let item = Item::Presence(news.clone());
            let bytes = item.frame(self.dialect).len();
            state.push(item, bytes);
        } else {
            metrics::PRESENCE_LATE.increment(1);
            watching.keep(news);
        }
        then(&mut state)
    }
}
