//! The sockets of this node that are in calls, the users here who are called, and what has to be
//! looked at when.

use std::collections::{BTreeMap, HashMap};

use shared::{
    domain::{CallId, SessionId, UserId},
    redis::Party,
};
use tokio::time::Instant;

/// Something that may have become too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// To answer, or to come back.
    Call(CallId),
    /// For a callee whose last device is gone, while it rings.
    Callee(UserId, CallId),
}

/// See the module. As many as there are sockets, at most.
#[derive(Debug, Default)]
pub(super) struct Legs {
    /// A socket is in one call at a time.
    joined: HashMap<SessionId, (Party, CallId)>,
    /// Until when at most.
    ringing: HashMap<UserId, (CallId, Instant)>,
    due: BTreeMap<(Instant, u64), Due>,
    turn: u64,
}

impl Legs {
    pub(super) fn join(&mut self, party: &Party, call: CallId) {
        self.joined.insert(party.session, (party.clone(), call));
    }

    /// The socket is in this call no more.
    pub(super) fn leave(&mut self, session: SessionId, call: CallId) {
        if self.joined.get(&session).is_some_and(|(_, it)| *it == call) {
            self.joined.remove(&session);
        }
    }

    /// The socket is gone. Answers the call that it was in.
    pub(super) fn take(&mut self, session: SessionId) -> Option<CallId> {
        self.joined.remove(&session).map(|(_, call)| call)
    }

    pub(super) fn all(&self) -> Vec<(Party, CallId)> {
        self.joined.values().cloned().collect()
    }

    /// A user is called.
    pub(super) fn ring(&mut self, user: UserId, call: CallId, until: Instant) {
        self.ringing.insert(user, (call, until));
    }

    /// They are called no more.
    pub(super) fn hush(&mut self, user: UserId, call: CallId) {
        if self.ringing(user) == Some(call) {
            self.ringing.remove(&user);
        }
    }

    pub(super) fn ringing(&self, user: UserId) -> Option<CallId> {
        self.ringing.get(&user).map(|(call, _)| *call)
    }

    pub(super) fn look_at(&mut self, at: Instant, due: Due) {
        self.turn += 1;
        self.due.insert((at, self.turn), due);
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Due> {
        self.ringing.retain(|_, (_, until)| *until > now);
        let later = self.due.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.due, later)
            .into_values()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    fn party() -> Party {
        Party {
            user: UserId(Uuid::now_v7()),
            session: SessionId(Uuid::now_v7()),
            device: "phone".parse().unwrap(),
        }
    }

    fn call() -> CallId {
        CallId(Uuid::now_v7())
    }

    #[test]
    fn a_socket_is_in_its_latest_call() {
        let (mut legs, party, first, second) = (Legs::default(), party(), call(), call());
        legs.join(&party, first);
        legs.join(&party, second);
        legs.leave(party.session, first);
        assert_eq!(legs.all().len(), 1, "another call is no reason to leave");
        assert_eq!(legs.take(party.session), Some(second));
        assert_eq!(legs.take(party.session), None);
    }

    #[test]
    fn what_is_due_comes_once_and_in_order() {
        let (mut legs, start) = (Legs::default(), Instant::now());
        let (first, second) = (Due::Call(call()), Due::Call(call()));
        let later = start + Duration::from_secs(2);
        legs.look_at(later, second);
        legs.look_at(start, first);
        legs.look_at(start, second);
        assert_eq!(legs.take_due(start), [first, second]);
        assert_eq!(legs.take_due(start), []);
        assert_eq!(legs.take_due(later), [second]);
    }

    #[test]
    fn who_rings_is_forgotten_when_that_call_ends_or_after_long() {
        let (mut legs, start) = (Legs::default(), Instant::now());
        let (user, first, second) = (party().user, call(), call());
        let until = start + Duration::from_secs(2);
        legs.ring(user, first, until);
        legs.hush(user, second);
        assert_eq!(legs.ringing(user), Some(first));
        legs.hush(user, first);
        assert_eq!(legs.ringing(user), None);
        legs.ring(user, second, until);
        legs.take_due(until);
        assert_eq!(legs.ringing(user), None);
    }
}
