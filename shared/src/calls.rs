//! Telling that a call is over.
//!
//! That it is stands in Redis first. What follows from it can be done again: both parties are told
//! and free for another call, the callee who missed it gets a notification (known by its key), and
//! then the call is settled. Whoever ends a call does that at once; workers do it where somebody
//! stopped half-way.

use std::time::Duration;

use crate::{
    domain::{
        Audience, Call, CallEnd, CallEvent, CallEventKind, CallPayload, CallState, Digest,
        Durability, Kind, MissedCall, Topic, UserId,
    },
    redis::{Append, IdempotencyKey, Store, StoreError},
};

/// How long a socket in a call counts as there of which its node says nothing. Whoever comes back to
/// another node before that takes over, so it may be generous.
pub const LEASE: Duration = Duration::from_secs(15);

/// An event of a call for one of its users.
pub fn event<'a>(
    call: &Call,
    to: UserId,
    kind: CallEventKind,
    audience: Audience,
    say: impl FnOnce(&mut CallPayload<'a>),
) -> CallEvent {
    let mut payload = CallPayload {
        call_id: call.id,
        from: call.other(to).unwrap_or(call.caller),
        to,
        sdp: None,
        candidate: None,
        media: None,
        reason: None,
        at: call.now,
    };
    say(&mut payload);
    let body = serde_json::to_vec(&payload).unwrap_or_default();
    CallEvent {
        call: call.id,
        kind,
        audience,
        number: 0,
        body: body.into(),
    }
}

/// That a call is over, for one of its users.
pub fn ended(call: &Call, to: UserId, audience: Audience, reason: CallEnd) -> CallEvent {
    event(call, to, CallEventKind::Ended, audience, |payload| {
        payload.reason = Some(reason);
    })
}

/// Does what follows from the end of a call. Nothing if it has not ended.
pub async fn settle(store: &Store, call: &Call, durability: Durability) -> Result<(), StoreError> {
    let Some(ending) = call.end else {
        return Ok(());
    };
    debug_assert!(call.state == CallState::Ended, "it has ended");
    // Free before they are told: who hears it may call again at once.
    for user in [call.caller, call.callee] {
        store.hold(user, call.id, Duration::ZERO).await?;
    }
    for (user, audience) in call.told_of_end() {
        let event = ended(call, user, audience, ending.reason);
        store.tell_call(user, &[event]).await?;
    }
    if call.is_missed() {
        store.append(missed(call, durability)).await?;
    }
    store.call_told(call.id).await
}

/// Tells the callee that somebody called.
fn missed(call: &Call, durability: Durability) -> Append {
    let body = serde_json::to_vec(&MissedCall::of(call)).unwrap_or_default();
    let digest = Digest::of(&body);
    Append::new(
        Topic::User(call.callee),
        Kind::Notification,
        body,
        IdempotencyKey(format!("missed:{}", call.id)),
        digest,
        durability,
    )
}
