//! Calls, as far as this node sees to them.
//!
//! What a call is like is decided in Redis ([`shared::redis::CallVerdict`]), so each party may be on
//! any node. A node says of its own sockets in calls that they are there, and ends what has become
//! too late; where a node died, a worker does. Nothing here outlives the process.

mod acts;
mod legs;
pub mod metrics;
mod place;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use shared::{
    calls::{self, LEASE},
    domain::{
        Call, CallEnd, CallEvent, CallEventKind, CallId, CallState, Code, Durability, Refusal,
        UserId,
    },
    lifecycle::Lifecycle,
    redis::{CallVerdict, Party, Store, StoreError},
};
use tokio::time::Instant;

pub use place::Offered;

use crate::fanout::{Arrival, CallListener, Fanout};
use legs::{Due, Legs};

/// How often a node says that a socket in a call is there.
const KEEP: Duration = Duration::from_secs(5);
/// How often it is looked for what is due.
const TICK: Duration = Duration::from_millis(200);
/// How much longer than it rings a user counts as being in a call. While one goes on it is said
/// again and again.
const CLAIM_MARGIN: Duration = Duration::from_secs(60);
/// Calls that are seen to at a time.
const AT_ONCE: usize = 64;

/// What calls obey.
#[derive(Debug, Clone, Copy)]
pub struct CallSettings {
    /// How long the callee has to answer.
    pub ring_timeout: Duration,
    /// How long a device that is lost may take to come back.
    pub reconnect_grace: Duration,
    /// Longest session description, in bytes.
    pub max_sdp: usize,
    /// Longest candidate, in bytes of JSON.
    pub max_candidate: usize,
}

/// See the module.
pub struct Calls {
    store: Store,
    fanout: Weak<Fanout>,
    lifecycle: Lifecycle,
    durability: Durability,
    /// What calls obey.
    pub settings: CallSettings,
    legs: Mutex<Legs>,
    me: Weak<Self>,
}

impl Calls {
    pub(super) fn start(
        store: Store,
        fanout: &Arc<Fanout>,
        settings: CallSettings,
        durability: Durability,
        lifecycle: &Lifecycle,
    ) -> Arc<Self> {
        let calls = Arc::new_cyclic(|me| Self {
            store,
            fanout: Arc::downgrade(fanout),
            lifecycle: lifecycle.clone(),
            durability,
            settings,
            legs: Mutex::default(),
            me: me.clone(),
        });
        fanout.on_calls(calls.clone());
        lifecycle.spawn_essential("see to calls", calls.clone().see_to_calls());
        calls
    }

    fn claim_ttl(&self) -> Duration {
        self.settings.ring_timeout + CLAIM_MARGIN
    }

    /// From now on this node says of a socket that it is there.
    fn keep_leg(&self, party: &Party, call: CallId) {
        self.legs.lock().join(party, call);
        let is_here = self
            .fanout
            .upgrade()
            .is_some_and(|it| it.device_of(party.user, party.session).is_some());
        if !is_here {
            // It ended before this node knew that it is in a call.
            self.left(party.clone());
        }
    }

    /// Does what follows from the end of a call; a worker does it where that fails.
    async fn settle(&self, call: &Call) {
        if let Some(ending) = call.end {
            metrics::count(ending.reason);
            tracing::info!(
                event = "call", call = %call.id, caller = %call.caller, callee = %call.callee,
                reason = %ending.reason, "a call ended"
            );
        }
        if let Err(error) = calls::settle(&self.store, call, self.durability).await {
            tracing::warn!(%error, call = %call.id, "the end of a call cannot be told yet");
        }
    }

    /// Ends a call for a reason of our own.
    async fn close(
        &self,
        call: CallId,
        reason: CallEnd,
        state: Option<CallState>,
    ) -> Result<(), StoreError> {
        let step = self.store.call_close(call, reason, state).await?;
        if let (CallVerdict::Done, Some(call)) = (step.verdict, &step.call) {
            self.settle(call).await;
        }
        Ok(())
    }

    /// The task that sees to what is due.
    async fn see_to_calls(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut keep = Instant::now() + KEEP;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.lifecycle.stopping() => return,
            }
            let now = Instant::now();
            let due = self.legs.lock().take_due(now);
            self.each(due, async |calls, due| calls.look(due).await)
                .await;
            if now >= keep {
                keep = now + KEEP;
                let all = self.legs.lock().all();
                self.each(all, async |calls, (party, call)| {
                    calls.say_there(&party, call).await
                })
                .await;
            }
        }
    }

    async fn each<T>(&self, all: Vec<T>, see_to: impl AsyncFn(&Self, T) -> Result<(), StoreError>) {
        use futures_util::StreamExt;
        let see_to = &see_to;
        futures_util::stream::iter(all)
            .for_each_concurrent(AT_ONCE, async |one| {
                if let Err(error) = see_to(self, one).await {
                    tracing::debug!(%error, "a call cannot be seen to");
                }
            })
            .await;
    }

    async fn look(&self, due: Due) -> Result<(), StoreError> {
        match due {
            Due::Call(call) => {
                let step = self.store.call_lapse(call, LEASE).await?;
                if let (CallVerdict::Done, Some(call)) = (step.verdict, &step.call) {
                    self.settle(call).await;
                }
            }
            Due::Callee(user, call) => {
                let (claimed, sessions) = self.store.claimed(user).await?;
                if claimed == Some(call) && sessions == 0 {
                    let ringing = Some(CallState::Ringing);
                    self.close(call, CallEnd::Disconnected, ringing).await?;
                }
            }
        }
        Ok(())
    }

    async fn say_there(&self, party: &Party, call: CallId) -> Result<(), StoreError> {
        let kept = self
            .store
            .call_keep(call, party.user, party.session, LEASE)
            .await?;
        if !matches!(kept.verdict, CallVerdict::Done | CallVerdict::Wait) {
            self.legs.lock().leave(party.session, call);
            return Ok(());
        }
        let held = self.store.hold(party.user, call, self.claim_ttl()).await?;
        if !held && kept.verdict == CallVerdict::Done {
            // Redis lost it. Whoever has another call by now keeps that.
            let other = kept.call.as_ref().and_then(|it| it.other(party.user));
            let other = other.unwrap_or(party.user);
            let ttl = self.claim_ttl();
            self.store.claim(party.user, call, other, ttl, None).await?;
        }
        Ok(())
    }

    /// A socket came of a user who may be in a call. Answers what it has to be told before anything
    /// else of that: what was told until now may have reached nobody.
    async fn resume(&self, party: &Party) -> Result<Vec<CallEvent>, StoreError> {
        let (Some(call), _) = self.store.claimed(party.user).await? else {
            return Ok(Vec::new());
        };
        let resumed = self.store.call_resume(call, party, LEASE).await?;
        Ok(match (resumed.verdict, &resumed.call) {
            (CallVerdict::Ring, Some(call)) => {
                self.legs.lock().ring(party.user, call.id, self.give_up());
                place::replayed(call, party, &resumed.more)
            }
            (CallVerdict::Done | CallVerdict::Wait, Some(found)) => {
                self.keep_leg(party, call);
                acts::missed(found, party, &resumed.more)
            }
            _ => Vec::new(),
        })
    }

    /// When a call that rings now does so no more, whatever was heard of it.
    fn give_up(&self) -> Instant {
        Instant::now() + self.settings.ring_timeout + CLAIM_MARGIN
    }
}

impl CallListener for Calls {
    fn arrived(&self, party: Party, arrival: Arrival) {
        let Some(calls) = self.me.upgrade() else {
            return;
        };
        self.lifecycle.spawn("resume a call", async move {
            let missed = calls.resume(&party).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "nobody can tell whether a user is called");
                Vec::new()
            });
            if let Some(fanout) = calls.fanout.upgrade() {
                fanout.begin_calls(&party, arrival, missed);
            }
        });
    }

    fn left(&self, party: Party) {
        let now = Instant::now();
        let grace = self.settings.reconnect_grace;
        let mut legs = self.legs.lock();
        let Some(call) = legs.take(party.session) else {
            if let Some(call) = legs.ringing(party.user) {
                legs.look_at(now + grace, Due::Callee(party.user, call));
            }
            return;
        };
        drop(legs);
        let Some(calls) = self.me.upgrade() else {
            return;
        };
        self.lifecycle.spawn("leave a call", async move {
            let lost = calls
                .store
                .call_lost(call, party.user, party.session, grace, LEASE);
            match lost.await {
                Ok(step) if step.verdict == CallVerdict::Wait => {
                    let at = Instant::now() + grace;
                    calls.legs.lock().look_at(at, Due::Call(call));
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, %call, "a worker has to end this call"),
            }
        });
    }

    fn went_deaf(&self, user: UserId) {
        let mut legs = self.legs.lock();
        if let Some(call) = legs.ringing(user) {
            legs.look_at(Instant::now(), Due::Callee(user, call));
        }
    }

    fn heard(&self, user: UserId, event: &CallEvent) {
        match event.kind {
            CallEventKind::Incoming => self.legs.lock().ring(user, event.call, self.give_up()),
            CallEventKind::Ended => self.legs.lock().hush(user, event.call),
            CallEventKind::Offer | CallEventKind::Answer | CallEventKind::Ice => {}
        }
    }
}

/// What a user is told whose call cannot be found, or is none of theirs.
fn no_such_call() -> Refusal {
    Refusal::new(Code::NotFound, "no such call")
}
