//! What of a user's calls the fan-out tells those who see to them: who is there to be told, who is
//! gone, and what was told on this node.

use std::sync::Arc;

use shared::{
    domain::{CallEvent, Device, Refusal, SessionId, Topic, UserId},
    redis::{Party, StoreError},
};

use super::{
    Fanout,
    beginning::Arrival,
    item::{Happening, SharedSignal},
    member::Member,
    outbox::Outbox,
    refusal::store_refusal,
};

/// Sees to the calls of this node. The application does. None of this may wait.
pub trait CallListener: Send + Sync {
    /// A socket hears of its user's calls from now on. It is told nothing of them before
    /// [`Fanout::begin_calls`] for this arrival, which has to follow whatever happens.
    fn arrived(&self, party: Party, arrival: Arrival);

    /// A socket is gone.
    fn left(&self, party: Party);

    /// A socket hears of its user's calls no more.
    fn went_deaf(&self, user: UserId);

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
        let Some(arrival) = outbox.arrival() else {
            // It does not want it any more.
            return;
        };
        match (self.calls.get(), outbox.member()) {
            (Some(listener), Some(member)) => listener.arrived(party(member), arrival),
            _ => outbox.begin_calls(arrival, &[]),
        }
    }

    /// A socket that has arrived is told what it missed, and what it hears from now on.
    pub fn begin_calls(&self, party: &Party, arrival: Arrival, missed: Vec<CallEvent>) {
        if let Some(outbox) = self.hub.member(Topic::User(party.user), party.session) {
            let missed = missed.into_iter().map(Happening::Call);
            let missed: Vec<_> = missed.map(SharedSignal::new).collect();
            outbox.begin_calls(arrival, &missed);
        }
    }

    /// A socket that has to ask for it wants to be told of its user's calls.
    pub(super) async fn hear_calls(&self, outbox: &Outbox) -> Result<(), Refusal> {
        let (heard, _) = outbox.address_calls();
        if heard {
            return Ok(());
        }
        let said = self.say_what_it_hears(outbox).await;
        said.map_err(|error| store_refusal(&error))?;
        // Not before: whoever calls from now on finds it, and who did before is found by this.
        self.arrived_for_calls(outbox);
        Ok(())
    }

    /// It wants so no more, or by fewer of its subscriptions.
    pub(super) fn hear_no_calls(self: &Arc<Self>, outbox: &Arc<Outbox>) {
        if outbox.address_calls() != (true, false) {
            return;
        }
        let (fanout, outbox) = (self.clone(), outbox.clone());
        self.lifecycle.spawn("hear no calls", async move {
            if let Err(error) = fanout.say_what_it_hears(&outbox).await {
                tracing::debug!(%error, "a user rings who hears nothing of it");
            }
            if let (Some(listener), Some(member)) = (fanout.calls.get(), outbox.member()) {
                listener.went_deaf(member.user);
            }
        });
    }

    /// Tells Redis whether a socket is told of calls: who calls its user asks there. What changes
    /// meanwhile is told again, as two that are under way may come in any order.
    pub(super) async fn say_what_it_hears(&self, outbox: &Outbox) -> Result<(), StoreError> {
        let Some(member) = outbox.member() else {
            return Ok(());
        };
        let mut told = None;
        loop {
            let hears = outbox.hears_calls();
            if outbox.is_ended() || told.replace(hears) == Some(hears) {
                return Ok(());
            }
            let (user, session) = (member.user, member.session);
            self.store.session_hears(user, session, hears).await?;
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
