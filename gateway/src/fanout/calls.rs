//! What of a user's calls the fan-out tells those who see to them: who is there to be told, who is
//! gone, and what was told on this node.

use std::sync::Arc;

use shared::{
    domain::{CallEvent, Device, SessionId, Topic, UserId},
    redis::Party,
};

use super::{Fanout, member::Member, outbox::Outbox};

/// Sees to the calls of this node. The application does. None of this may wait.
pub trait CallListener: Send + Sync {
    /// A socket hears of its user's calls from now on.
    fn arrived(&self, party: Party);

    /// A socket is gone.
    fn left(&self, party: Party);

    /// A user with a socket here was told something.
    fn heard(&self, user: UserId, event: &CallEvent);
}

impl Fanout {
    /// Who sees to calls; only the first counts.
    pub fn on_calls(&self, listener: Arc<dyn CallListener>) {
        let _ = self.calls.set(listener);
    }

    /// The device of a session that is here.
    pub fn device_of(&self, user: UserId, session: SessionId) -> Option<Device> {
        let outbox = self.hub.member(Topic::User(user), session)?;
        outbox.member().map(|member| member.device.clone())
    }

    pub(super) fn arrived_for_calls(&self, outbox: &Outbox) {
        if let (Some(listener), Some(member)) = (self.calls.get(), outbox.member()) {
            listener.arrived(party(member));
        }
    }

    pub(super) fn left_calls(&self, member: &Member) {
        if let Some(listener) = self.calls.get() {
            listener.left(party(member));
        }
    }

    pub(super) fn heard_of_call(&self, user: UserId, event: &CallEvent) {
        if let Some(listener) = self.calls.get() {
            listener.heard(user, event);
        }
    }
}

fn party(member: &Member) -> Party {
    Party {
        user: member.user,
        session: member.session,
        device: member.device.clone(),
    }
}
