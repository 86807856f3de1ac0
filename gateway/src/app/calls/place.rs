//! How a call begins: it is written down, both users are claimed for it, and the callee rings.
//!
//! Users are in different partitions, so claims are steps of their own. They are made in the order of
//! the users' ids: of two who call each other at once, one has both claims and the other neither.
//! A call is written down before it claims anybody, so whoever finds a claim can tell whether there
//! is something to it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use shared::{
    calls::{self, LEASE},
    domain::{
        Audience, Call, CallEnd, CallEvent, CallEventKind, CallId, CallState, Code, Digest,
        Refusal, UserId,
    },
    redis::{CallVerdict, Claimed, Offer, Party, StoreError},
};
use tokio::time::Instant;

use super::{
    Calls,
    acts::{ice_events, json},
    legs::Due,
    metrics,
};
use crate::fanout::store_refusal;

/// How often a claim is tried that is in the hands of a call which is over.
const ATTEMPTS: u32 = 3;

/// What a caller offers.
#[derive(Debug)]
pub struct Offered<'a> {
    /// Whom they call.
    pub callee: UserId,
    /// Whether the callee may be called at all; if not they are `busy`.
    pub may_ring: bool,
    /// The name that the caller chose for the call.
    pub call: Option<CallId>,
    /// The caller's name for the request.
    pub request: Option<&'a str>,
    /// What a second try has in common with the first.
    pub digest: Digest,
    /// The session description.
    pub sdp: &'a str,
    /// What is to be transmitted.
    pub media: Option<&'a RawValue>,
}

/// Why nobody rings.
enum Vain {
    Because(CallEnd),
    /// The caller is in another call.
    Occupied,
}

impl Calls {
    /// Calls somebody. That they cannot be reached is told as the end of the call.
    pub async fn offer(&self, caller: &Party, offered: &Offered<'_>) -> Result<CallId, Refusal> {
        self.place(caller, offered)
            .await
            .map_err(|error| store_refusal(&error))?
    }

    async fn place(
        &self,
        caller: &Party,
        offered: &Offered<'_>,
    ) -> Result<Result<CallId, Refusal>, StoreError> {
        let store = &self.store;
        let mut id = offered.call.unwrap_or_else(|| store.new_call_id());
        if let Some(request) = offered.request {
            let made = store.offered(caller.user, request, offered.digest, id);
            let Some(made) = made.await? else {
                let message = "this id was used for another request";
                return Ok(Err(Refusal::new(Code::Conflict, message)));
            };
            id = made;
        }
        let offer = Offer {
            id,
            caller: caller.user,
            callee: offered.callee,
            session: caller.session,
            device: &caller.device,
            ring: self.settings.ring_timeout,
            lease: LEASE,
            digest: offered.digest,
            sdp: offered.sdp,
            media: offered.media.map(RawValue::get),
        };
        let step = store.call_offer(&offer).await?;
        let call = match (step.verdict, step.call) {
            (CallVerdict::Done, Some(call)) => call,
            (CallVerdict::Again, Some(call)) => {
                let is_placed = step.more.first().is_some_and(|it| !it.is_empty());
                if is_placed || call.state != CallState::Ringing {
                    return Ok(Ok(id));
                }
                call
            }
            _ => {
                let message = "callId: another call has this name";
                return Ok(Err(Refusal::new(Code::Conflict, message)));
            }
        };
        metrics::OFFERED.increment(1);
        match self.ring(&call, caller, offered).await? {
            Ok(()) => Ok(Ok(id)),
            Err(Vain::Because(reason)) => {
                self.close(id, reason, None).await?;
                Ok(Ok(id))
            }
            Err(Vain::Occupied) => {
                // Nobody has missed anything, and it may be tried again.
                for user in [call.caller, call.callee] {
                    store.hold(user, id, Duration::ZERO).await?;
                }
                if !store.call_forget(id).await? {
                    // A socket came meanwhile, and rings.
                    self.close(id, CallEnd::Hangup, None).await?;
                }
                let message = "you are in another call";
                Ok(Err(Refusal::new(Code::Conflict, message)))
            }
        }
    }

    async fn ring(
        &self,
        call: &Call,
        caller: &Party,
        offered: &Offered<'_>,
    ) -> Result<Result<(), Vain>, StoreError> {
        if !offered.may_ring {
            return Ok(Err(Vain::Because(CallEnd::Busy)));
        }
        let mut users = [call.caller, call.callee];
        users.sort_unstable();
        let mut sessions = 0;
        for user in users {
            match self.claim(user, call).await? {
                Ok(of_user) if user == call.callee => sessions = of_user,
                Ok(_) => {}
                Err(vain) => return Ok(Err(vain)),
            }
        }
        if sessions == 0 {
            return Ok(Err(Vain::Because(CallEnd::Offline)));
        }
        self.keep_leg(caller, call.id);
        let due = Instant::now() + self.settings.ring_timeout;
        self.legs.lock().look_at(due, Due::Call(call.id));
        let events = offer_events(call, Audience::All, offered.sdp, offered.media);
        if self.store.tell_call(call.callee, &events).await? == 0 {
            // Sessions of nodes that are gone.
            return Ok(Err(Vain::Because(CallEnd::Offline)));
        }
        let placed = self.store.call_placed(call.id).await?;
        if let Some(call) = placed.filter(|it| it.state == CallState::Ended) {
            // It was over before they were told, so they may have heard that first.
            calls::settle(&self.store, &call, self.durability).await?;
        }
        Ok(Ok(()))
    }

    /// Claims a user. Answers how many sessions they have.
    async fn claim(&self, user: UserId, call: &Call) -> Result<Result<u64, Vain>, StoreError> {
        let Some(other) = call.other(user) else {
            return Ok(Err(Vain::Because(CallEnd::Offline)));
        };
        let (ttl, mut instead_of) = (self.claim_ttl(), None);
        for _ in 0..ATTEMPTS {
            let claim = self.store.claim(user, call.id, other, ttl, instead_of);
            let claim = claim.await?;
            let (Claimed::Glare(found) | Claimed::Busy(found)) = claim.outcome else {
                return Ok(Ok(claim.sessions));
            };
            match self.store.call_look(found).await? {
                Some(found) if found.state != CallState::Ended => {
                    let is_glare = found.caller == call.callee && found.callee == call.caller;
                    return Ok(Err(match user == call.caller {
                        _ if is_glare => Vain::Because(CallEnd::Glare),
                        true => Vain::Occupied,
                        false => Vain::Because(CallEnd::Busy),
                    }));
                }
                _ => instead_of = Some(found),
            }
        }
        Ok(Err(Vain::Because(CallEnd::Busy)))
    }
}

/// That somebody calls, and what they offer.
fn offer_events(
    call: &Call,
    audience: Audience,
    sdp: &str,
    media: Option<&RawValue>,
) -> [CallEvent; 2] {
    let event = |kind, sdp| {
        calls::event(call, call.callee, kind, audience, |payload| {
            payload.sdp = sdp;
            payload.media = media;
            payload.at = call.at;
        })
    };
    [
        event(CallEventKind::Incoming, None),
        event(CallEventKind::Offer, Some(sdp)),
    ]
}

/// What a socket is told that comes while its user is called: `kept` as Redis answers it.
pub(super) fn replayed(call: &Call, party: &Party, kept: &[Bytes]) -> Vec<CallEvent> {
    let [sdp, media, candidates @ ..] = kept else {
        return Vec::new();
    };
    let audience = Audience::Only(party.session);
    let (sdp, media) = (String::from_utf8_lossy(sdp), json(media));
    let mut events = offer_events(call, audience, &sdp, media.as_deref()).to_vec();
    events.extend(ice_events(call, call.callee, audience, candidates));
    events
}
