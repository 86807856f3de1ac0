//! The sockets that follow broadcasts, by what their users want to see.
//!
//! Users who chose the same are one audience, and the rule is applied once for all of them. Of
//! audiences with an allow list only those are looked at that name one of the tags; so a broadcast
//! costs as much as there are sockets it reaches, and audiences that block something, however many
//! sockets the node has.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use shared::domain::{Category, Preferences};

use super::{member::Seat, outbox::Outbox};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Audiences {
    /// By number. The numbers of empty ones are free.
    all: Vec<Audience>,
    free: Vec<u32>,
    numbers: HashMap<Arc<Preferences>, u32>,
    /// Without an allow list.
    open: Vec<u32>,
    /// With one, under each category on it.
    allowing: HashMap<Category, Vec<u32>>,
}

/// Sockets whose users chose the same.
#[derive(Debug, Default)]
struct Audience {
    preferences: Arc<Preferences>,
    members: Vec<Arc<Outbox>>,
}

impl Audiences {
    /// The sockets that entries with these tags reach.
    pub(super) fn reached(&self, tags: &[Category]) -> impl Iterator<Item = &Arc<Outbox>> {
        let allowing = |tag| self.allowing.get(tag).map_or(&[][..], Vec::as_slice);
        let candidates: Vec<u32> = match tags.iter().map(allowing).min_by_key(|found| found.len()) {
            // Without tags it reaches everybody.
            None => (0..self.all.len() as u32).collect(),
            Some(allowing) => [&self.open, allowing].concat(),
        };
        candidates
            .into_iter()
            .filter_map(|number| self.all.get(number as usize))
            .filter(|audience| audience.preferences.admit(tags))
            .flat_map(|audience| &audience.members)
    }

    /// Whether a socket may get entries with these tags. One that is not here may get none.
    pub(super) fn admit(&self, outbox: &Outbox, tags: &[Category]) -> bool {
        seat_of(outbox)
            .and_then(|seat| self.all.get(seat.audience as usize))
            .is_some_and(|audience| audience.preferences.admit(tags))
    }

    /// Whether a socket is here.
    pub(super) fn has(outbox: &Outbox) -> bool {
        seat_of(outbox).is_some()
    }

    /// Adds a socket, or moves it to where it belongs now.
    pub(super) fn seat(&mut self, outbox: &Arc<Outbox>, preferences: &Arc<Preferences>) {
        if let Some(seat) = seat_of(outbox) {
            if self.all[seat.audience as usize].preferences == *preferences {
                return;
            }
            self.leave(outbox);
        }
        let Some(member) = outbox.member() else {
            return;
        };
        let number = self.number_of(preferences);
        let members = &mut self.all[number as usize].members;
        let seat = Seat {
            audience: number,
            place: members.len() as u32,
        };
        members.push(outbox.clone());
        member.seat.store(seat.pack(), Ordering::Relaxed);
    }

    /// Removes a socket. True if it was here.
    pub(super) fn leave(&mut self, outbox: &Arc<Outbox>) -> bool {
        let Some(seat) = seat_of(outbox) else {
            return false;
        };
        let audience = &mut self.all[seat.audience as usize];
        audience.members.swap_remove(seat.place as usize);
        if let Some(moved) = audience.members.get(seat.place as usize)
            && let Some(member) = moved.member()
        {
            member.seat.store(seat.pack(), Ordering::Relaxed);
        }
        if let Some(member) = outbox.member() {
            member.seat.store(Seat::NONE, Ordering::Relaxed);
        }
        if audience.members.is_empty() {
            self.forget(seat.audience);
        }
        true
    }

    fn number_of(&mut self, preferences: &Arc<Preferences>) -> u32 {
        if let Some(number) = self.numbers.get(preferences) {
            return *number;
        }
        let audience = Audience {
            preferences: preferences.clone(),
            members: Vec::new(),
        };
        let number = if let Some(number) = self.free.pop() {
            self.all[number as usize] = audience;
            number
        } else {
            self.all.push(audience);
            self.all.len() as u32 - 1
        };
        self.numbers.insert(preferences.clone(), number);
        if preferences.allowed_categories.is_empty() {
            self.open.push(number);
        }
        for category in &preferences.allowed_categories {
            self.allowing
                .entry(category.clone())
                .or_default()
                .push(number);
        }
        number
    }

    fn forget(&mut self, number: u32) {
        let gone = std::mem::take(&mut self.all[number as usize]).preferences;
        self.numbers.remove(&gone);
        self.free.push(number);
        self.open.retain(|other| *other != number);
        for category in &gone.allowed_categories {
            if let Some(allowing) = self.allowing.get_mut(category) {
                allowing.retain(|other| *other != number);
                if allowing.is_empty() {
                    self.allowing.remove(category);
                }
            }
        }
    }
}

fn seat_of(outbox: &Outbox) -> Option<Seat> {
    Seat::unpack(outbox.member()?.seat.load(Ordering::Relaxed))
}
