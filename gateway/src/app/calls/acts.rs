//! What parties of a call do: they answer, name candidates, hang up.

use bytes::Bytes;
use serde_json::value::RawValue;
use shared::{
    calls::{self, LEASE},
    domain::{
        Audience, Call, CallEnd, CallEvent, CallEventKind, CallId, CallState, Code, Refusal, UserId,
    },
    redis::{CallStep, CallVerdict, Party},
};

use super::{Calls, metrics, no_such_call};
use crate::fanout::store_refusal;

impl Calls {
    /// The first device that answers is in the call; the callee's others stop to ring.
    pub async fn answer(&self, party: &Party, id: CallId, sdp: &str) -> Result<(), Refusal> {
        let step = self.store.call_answer(id, party, LEASE, sdp).await;
        let step = step.map_err(|error| store_refusal(&error))?;
        let call = accepted(&step, &[CallVerdict::Done, CallVerdict::Again])?;
        self.keep_leg(party, id);
        if step.verdict == CallVerdict::Done {
            metrics::ANSWERED.increment(1);
            let millis = (call.now.0 - call.at.0).max(0);
            metrics::ANSWER_TIME.record(millis as f64 / 1000.0);
        }
        let events: Vec<_> = call
            .at_caller()
            .flat_map(|audience| answer_events(call, audience, sdp, &step.more))
            .collect();
        let others = Audience::Except(party.session);
        let elsewhere = calls::ended(call, call.callee, others, CallEnd::AnsweredElsewhere);
        let told = self.store.tell_call(call.caller, &events).await;
        told.map_err(|error| store_refusal(&error))?;
        // The candidates went with it, so another try has nothing to say of them.
        let placed = self.store.call_answer_placed(id).await;
        placed.map_err(|error| store_refusal(&error))?;
        let told = self.store.tell_call(call.callee, &[elsewhere]).await;
        told.map_err(|error| store_refusal(&error))?;
        Ok(())
    }

    /// Names a candidate to the other party.
    pub async fn ice(
        &self,
        party: &Party,
        id: CallId,
        candidate: &RawValue,
    ) -> Result<(), Refusal> {
        let step = self
            .store
            .call_ice(id, party.user, party.session, candidate.get(), LEASE)
            .await
            .map_err(|error| store_refusal(&error))?;
        let call = accepted(&step, &[CallVerdict::Done, CallVerdict::Kept])?;
        if step.verdict == CallVerdict::Kept {
            return Ok(());
        }
        let (to, audiences): (_, Vec<_>) = if party.user == call.caller {
            (call.callee, call.at_callee().collect())
        } else {
            (call.caller, call.at_caller().collect())
        };
        let number = step.more.first();
        let number = number.and_then(|it| std::str::from_utf8(it).ok()?.parse().ok());
        let events: Vec<_> = audiences
            .into_iter()
            .map(|audience| CallEvent {
                number: number.unwrap_or_default(),
                ..ice_event(call, to, audience, candidate)
            })
            .collect();
        let told = self.store.tell_call(to, &events).await;
        told.map(drop).map_err(|error| store_refusal(&error))
    }

    /// Ends a call. Answers why it ended, which may have been before. A callee who has not answered
    /// says `refusal`.
    pub async fn hangup(
        &self,
        party: &Party,
        id: CallId,
        refusal: CallEnd,
    ) -> Result<CallEnd, Refusal> {
        let step = self.store.call_hangup(id, party, refusal).await;
        let step = step.map_err(|error| store_refusal(&error))?;
        let call = accepted(&step, &[CallVerdict::Done, CallVerdict::Ended])?;
        if step.verdict == CallVerdict::Done {
            self.legs.lock().leave(party.session, id);
            self.settle(call).await;
        }
        Ok(call.end.map_or(CallEnd::Hangup, |ending| ending.reason))
    }
}

/// An answer and the candidates that came before it, for the caller.
pub(super) fn answer_events(
    call: &Call,
    audience: Audience,
    sdp: &str,
    early: &[Bytes],
) -> Vec<CallEvent> {
    let (to, kind) = (call.caller, CallEventKind::Answer);
    let answer = calls::event(call, to, kind, audience, |payload| payload.sdp = Some(sdp));
    let early = ice_events(call, to, audience, early);
    std::iter::once(answer).chain(early).collect()
}

/// What a party is told who comes back to a call that was answered: `kept` as Redis answers it.
pub(super) fn missed(call: &Call, party: &Party, kept: &[Bytes]) -> Vec<CallEvent> {
    let audience = Audience::Only(party.session);
    if party.user == call.callee {
        return ice_events(call, call.callee, audience, kept).collect();
    }
    let Some((sdp, sent)) = kept.split_first() else {
        return Vec::new();
    };
    answer_events(call, audience, &String::from_utf8_lossy(sdp), sent)
}

/// Candidates as Redis has kept them, for one of the parties, in order and numbered.
pub(super) fn ice_events(
    call: &Call,
    to: UserId,
    audience: Audience,
    kept: &[Bytes],
) -> impl Iterator<Item = CallEvent> {
    (1..).zip(kept).filter_map(move |(number, candidate)| {
        Some(CallEvent {
            number,
            ..ice_event(call, to, audience, &json(candidate)?)
        })
    })
}

/// What a client wrote as JSON, as Redis has kept it.
pub(super) fn json(kept: &Bytes) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8_lossy(kept).into_owned()).ok()
}

/// A candidate, for one of the parties.
pub(super) fn ice_event(
    call: &Call,
    to: UserId,
    audience: Audience,
    candidate: &RawValue,
) -> CallEvent {
    calls::event(call, to, CallEventKind::Ice, audience, |payload| {
        payload.candidate = Some(candidate);
    })
}

/// The call, if the verdict is one of these; otherwise what the client is told.
fn accepted<'a>(step: &'a CallStep, good: &[CallVerdict]) -> Result<&'a Call, Refusal> {
    let conflict = |message: &'static str| Err(Refusal::new(Code::Conflict, message));
    match (&step.call, step.verdict) {
        (Some(call), verdict) if good.contains(&verdict) => Ok(call),
        (Some(_), CallVerdict::Ended) => conflict("the call is over"),
        (Some(call), CallVerdict::Elsewhere) if call.state == CallState::Active => {
            conflict("another device is in this call")
        }
        (Some(_), CallVerdict::Elsewhere) => conflict("another device calls"),
        (Some(_), CallVerdict::Own) => conflict("it is the other one who answers"),
        (Some(_), CallVerdict::Full) => Err(Refusal::new(Code::TooLarge, "candidates: too many")),
        _ => Err(no_such_call()),
    }
}
