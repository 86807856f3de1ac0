//! Calls: their state, the call that a user is in, and what is told of them. What decides is in
//! `shared/lua/call*.lua`.

use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;

use super::{
    bells::write_call,
    error::StoreError,
    functions::{self, Function},
    keys, reply,
    store::{Store, texts},
};
use crate::domain::{
    Call, CallEnd, CallEvent, CallId, CallState, Device, Digest, Ending, Partition, SessionId,
    Timestamp, Topic, UserId,
};

/// Somebody calls.
#[derive(Debug, Clone)]
pub struct Offer<'a> {
    /// The name of the call.
    pub id: CallId,
    /// Who.
    pub caller: UserId,
    /// Whom.
    pub callee: UserId,
    /// By which socket of the caller.
    pub session: SessionId,
    /// Its device.
    pub device: &'a Device,
    /// How long the callee has to answer.
    pub ring: Duration,
    /// How long the caller's socket counts as there.
    pub lease: Duration,
    /// What a second try has in common with the first.
    pub digest: Digest,
    /// The session description.
    pub sdp: &'a str,
    /// What is to be transmitted: JSON.
    pub media: Option<&'a str>,
}

/// A socket of a party.
#[derive(Debug, Clone)]
pub struct Party {
    /// Who.
    pub user: UserId,
    /// By which socket.
    pub session: SessionId,
    /// Its device.
    pub device: Device,
}

/// What became of something that was to happen to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallVerdict {
    /// It happened.
    Done,
    /// It had happened already.
    Again,
    /// There is no such call, or the user is no party of it.
    Unknown,
    /// The name is that of another call, or the call is in another state.
    Other,
    /// The socket is not the one in the call.
    Elsewhere,
    /// The user may not do that with their own call.
    Own,
    /// The call is over.
    Ended,
    /// It is kept until the call is answered.
    Kept,
    /// The socket, or its side of the call, has said too much.
    Full,
    /// The socket rings.
    Ring,
    /// Nothing changes yet.
    Wait,
}

impl CallVerdict {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "done" | "new" => Self::Done,
            "again" => Self::Again,
            "none" => Self::Unknown,
            "other" => Self::Other,
            "elsewhere" => Self::Elsewhere,
            "own" => Self::Own,
            "ended" => Self::Ended,
            "kept" => Self::Kept,
            "full" => Self::Full,
            "ring" => Self::Ring,
            "wait" => Self::Wait,
            _ => return None,
        })
    }
}

/// A verdict, and the call as it is now.
#[derive(Debug, Clone)]
pub struct CallStep {
    /// What became of it.
    pub verdict: CallVerdict,
    /// The call, if it is the caller's business.
    pub call: Option<Call>,
    /// What else there is to say; see the functions.
    pub more: Vec<Bytes>,
}

/// Whether a user could be claimed for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// How it came out.
    pub outcome: Claimed,
    /// How many of the user's sessions are told of calls.
    pub sessions: u64,
}

/// See [`Claim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The user is in this call.
    Done,
    /// In this other call of the same two users.
    Glare(CallId),
    /// In this call with somebody else.
    Busy(CallId),
}

impl Store {
    /// A name for a new call.
    pub fn new_call_id(&self) -> CallId {
        CallId(self.inner.context.mint.next().0)
    }

    /// The call that a request makes: the first try says. `None` if another request had the name.
    pub async fn offered(
        &self,
        caller: UserId,
        request: &str,
        digest: Digest,
        call: CallId,
    ) -> Result<Option<CallId>, StoreError> {
        let partition = self.partition_of(Topic::User(caller));
        let mut args = texts([
            &keys::tag(partition),
            &format!("{caller}:{request}"),
            &digest.to_string(),
            &call.to_string(),
        ]);
        args.push(millis(self.idempotency_ttl()));
        let answer = self.call(partition, functions::OFFERED, args).await?;
        match reply::text(&answer)? {
            "" => Ok(None),
            call => reply::parse_text(call).map(Some),
        }
    }

    /// Begins a call: `Done`, or `Again` if this caller began it with the same digest; then `more` has
    /// a text, `1` if it was [placed](Store::call_placed); if not, the socket takes the place of the one
    /// before. `Other` if it is somebody else's.
    pub async fn call_offer(&self, offer: &Offer<'_>) -> Result<CallStep, StoreError> {
        let mut more = texts([
            &offer.caller.to_string(),
            &offer.callee.to_string(),
            &offer.session.to_string(),
            offer.device.as_str(),
        ]);
        more.extend([millis(offer.ring), millis(offer.lease)]);
        more.extend(texts([
            &offer.digest.to_string(),
            offer.sdp,
            offer.media.unwrap_or_default(),
        ]));
        self.step(offer.id, functions::CALL_OFFER, more).await
    }

    /// The callee was told of the call. Answers it: it may have ended before they were.
    pub async fn call_placed(&self, call: CallId) -> Result<Option<Call>, StoreError> {
        let placed = self.step(call, functions::CALL_PLACED, texts(["p"]));
        Ok(placed.await?.call)
    }

    /// The caller was told of the answer.
    pub async fn call_answer_placed(&self, call: CallId) -> Result<(), StoreError> {
        self.step(call, functions::CALL_PLACED, texts(["q"]))
            .await?;
        Ok(())
    }

    /// A socket of the callee answers: `Done`, or `Again` for the one that did; `Elsewhere`, `Ended`,
    /// `Own` or `Unknown` if it cannot. `more` are the candidates it sent before, unless the caller
    /// has [them](Store::call_answer_placed).
    pub async fn call_answer(
        &self,
        call: CallId,
        party: &Party,
        lease: Duration,
        sdp: &str,
    ) -> Result<CallStep, StoreError> {
        let mut more = party_texts(party);
        more.push(millis(lease));
        more.extend(texts([sdp]));
        self.step(call, functions::CALL_ANSWER, more).await
    }

    /// A candidate: `Done` if the other party is to be told, `Kept` until the answer; `Full`,
    /// `Elsewhere`, `Ended` or `Unknown` if it is refused. `more` is its number among those of the
    /// caller, until the answer. The latest socket of a device in the call
    /// takes over by this, as by an answer, and counts as there for `lease`.
    pub async fn call_ice(
        &self,
        call: CallId,
        user: UserId,
        session: SessionId,
        candidate: &str,
        lease: Duration,
    ) -> Result<CallStep, StoreError> {
        let mut more = texts([&user.to_string(), &session.to_string(), candidate]);
        more.push(millis(lease));
        self.step(call, functions::CALL_ICE, more).await
    }

    /// A party hangs up; `refusal` is said if that is the callee and nobody has answered yet. `Done`;
    /// `Ended` if it was over; `Elsewhere` or `Unknown`.
    pub async fn call_hangup(
        &self,
        call: CallId,
        party: &Party,
        refusal: CallEnd,
    ) -> Result<CallStep, StoreError> {
        let mut more = party_texts(party);
        more.extend(texts([refusal.as_str()]));
        self.step(call, functions::CALL_HANGUP, more).await
    }

    /// Ends a call, if it is in this state: `Done`, `Ended` or `Other`.
    pub async fn call_close(
        &self,
        call: CallId,
        reason: CallEnd,
        state: Option<CallState>,
    ) -> Result<CallStep, StoreError> {
        let state = state.map_or("", CallState::as_str);
        let more = texts([reason.as_str(), state]);
        self.step(call, functions::CALL_CLOSE, more).await
    }

    /// Ends a call if it is too late: `Done`, `Ended` or `Wait`.
    pub async fn call_lapse(&self, call: CallId, lease: Duration) -> Result<CallStep, StoreError> {
        self.step(call, functions::CALL_LAPSE, vec![millis(lease)])
            .await
    }

    /// A call that nobody was told of never was. False if somebody was.
    pub async fn call_forget(&self, call: CallId) -> Result<bool, StoreError> {
        let step = self.step(call, functions::CALL_FORGET, Vec::new()).await?;
        Ok(step.verdict != CallVerdict::Other)
    }

    /// Everybody was told that a call is over.
    pub async fn call_told(&self, call: CallId) -> Result<(), StoreError> {
        self.step(call, functions::CALL_SETTLED, Vec::new()).await?;
        Ok(())
    }

    /// A socket is there: `Done`, `Wait` if it is to take over; otherwise it is in the call no more.
    pub async fn call_keep(
        &self,
        call: CallId,
        user: UserId,
        session: SessionId,
        lease: Duration,
    ) -> Result<CallStep, StoreError> {
        let mut more = texts([&user.to_string(), &session.to_string()]);
        more.push(millis(lease));
        self.step(call, functions::CALL_KEEP, more).await
    }

    /// A socket is gone: `Wait` if another one of its device has some time to take over, which is
    /// `grace`. `Done` if one takes over now, and counts as there for `lease`.
    pub async fn call_lost(
        &self,
        call: CallId,
        user: UserId,
        session: SessionId,
        grace: Duration,
        lease: Duration,
    ) -> Result<CallStep, StoreError> {
        let mut more = texts([&user.to_string(), &session.to_string()]);
        more.extend([millis(grace), millis(lease)]);
        self.step(call, functions::CALL_LOST, more).await
    }

    /// A socket has come of a user who is in a call: `Ring`, then `more` is what is offered, what is
    /// to be transmitted or nothing, and candidates; `Done` if it took over, `Wait` if it may have to.
    /// Then `more` is, once the call is answered, the latest candidates of the other party, for the
    /// caller behind what was answered.
    pub async fn call_resume(
        &self,
        call: CallId,
        party: &Party,
        lease: Duration,
    ) -> Result<CallStep, StoreError> {
        let mut more = party_texts(party);
        more.push(millis(lease));
        self.step(call, functions::CALL_RESUME, more).await
    }

    /// The call, if it is remembered.
    pub async fn call_look(&self, call: CallId) -> Result<Option<Call>, StoreError> {
        let step = self.step(call, functions::CALL_LOOK, Vec::new()).await?;
        Ok(step.call)
    }

    /// Calls of a partition that somebody has to look at.
    pub async fn calls_due(
        &self,
        partition: Partition,
        most: u32,
    ) -> Result<Vec<CallId>, StoreError> {
        let mut args = texts([&keys::tag(partition)]);
        args.push(i64::from(most).into());
        let answer = self.call(partition, functions::CALLS_DUE, args).await?;
        reply::list(answer)?.iter().map(reply::parse).collect()
    }

    /// Says that a user is in a call with another, unless they are in one that is not `instead_of`.
    pub async fn claim(
        &self,
        user: UserId,
        call: CallId,
        other: UserId,
        ttl: Duration,
        instead_of: Option<CallId>,
    ) -> Result<Claim, StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let mut args = texts([
            &keys::tag(partition),
            &user.to_string(),
            &call.to_string(),
            &other.to_string(),
        ]);
        args.push(millis(ttl));
        let instead_of = instead_of.map(|it| it.to_string()).unwrap_or_default();
        args.extend(texts([&instead_of]));
        let answer = reply::list(self.call(partition, functions::CLAIM, args).await?)?;
        let [verdict, call, sessions] = answer.as_slice() else {
            return Err(StoreError::unexpected("half an answer to claim"));
        };
        let call = reply::parse(call)?;
        let outcome = match reply::text(verdict)? {
            "done" => Claimed::Done,
            "glare" => Claimed::Glare(call),
            _ => Claimed::Busy(call),
        };
        let sessions = reply::number(sessions)?;
        Ok(Claim { outcome, sessions })
    }

    /// The call that a user is in, and how many of their sessions are told of calls.
    pub async fn claimed(&self, user: UserId) -> Result<(Option<CallId>, u64), StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let args = texts([&keys::tag(partition), &user.to_string()]);
        let answer = reply::list(self.call(partition, functions::CLAIMED, args).await?)?;
        let [call, sessions] = answer.as_slice() else {
            return Err(StoreError::unexpected("half an answer to claimed"));
        };
        let call = match reply::text(call)? {
            "" => None,
            call => Some(reply::parse_text(call)?),
        };
        Ok((call, reply::number(sessions)?))
    }

    /// The user is in this call for so much longer, from now on; not at all if that is zero. False
    /// if they are not in it.
    pub async fn hold(
        &self,
        user: UserId,
        call: CallId,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let mut args = texts([&keys::tag(partition), &user.to_string(), &call.to_string()]);
        args.push(millis(ttl));
        let answer = self.call(partition, functions::HOLD, args).await?;
        Ok(reply::number(&answer)? == 1)
    }

    /// Tells a user what happens in a call, in this order. Answers how many nodes heard the first.
    pub async fn tell_call(&self, user: UserId, events: &[CallEvent]) -> Result<u64, StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let mut args = texts([&keys::tag(partition), &user.to_string()]);
        args.extend(events.iter().map(|it| Value::Bytes(write_call(it).into())));
        let answer = self.call(partition, functions::TELL, args).await?;
        reply::number(&answer)
    }

    async fn step(
        &self,
        id: CallId,
        function: Function,
        more: Vec<Value>,
    ) -> Result<CallStep, StoreError> {
        let partition = id.partition(self.partitions());
        let mut args = texts([&keys::tag(partition), &id.to_string()]);
        args.extend(more);
        let answer = self.call(partition, function, args).await?;
        read_step(id, reply::list(answer)?)
    }
}

fn millis(time: Duration) -> Value {
    (time.as_millis() as i64).into()
}

fn party_texts(party: &Party) -> Vec<Value> {
    texts([
        &party.user.to_string(),
        &party.session.to_string(),
        party.device.as_str(),
    ])
}

/// Reads what the functions of `call.lua` answer.
fn read_step(id: CallId, answer: Vec<Value>) -> Result<CallStep, StoreError> {
    let mut values = answer.into_iter();
    let verdict = values.next().unwrap_or(Value::Null);
    let verdict = CallVerdict::parse(reply::text(&verdict)?)
        .ok_or_else(|| StoreError::unexpected("a verdict that is none"))?;
    let facts: Vec<Value> = values.by_ref().take(14).collect();
    let call = if facts.is_empty() {
        None
    } else {
        Some(read_call(id, &facts)?)
    };
    let more = values.map(reply::bytes).collect();
    Ok(CallStep {
        verdict,
        call,
        more,
    })
}

fn read_call(id: CallId, facts: &[Value]) -> Result<Call, StoreError> {
    let [
        now,
        state,
        caller,
        callee,
        caller_session,
        callee_session,
        begun,
        answered,
        was,
        reason,
        by,
        caller_next,
        callee_next,
        told,
    ] = facts
    else {
        return Err(StoreError::unexpected("half a call"));
    };
    let state = word(state)?.ok_or_else(|| StoreError::unexpected("a call without a state"))?;
    let end = match (word(reason)?, word(was)?) {
        (Some(reason), Some(was)) => Some(Ending {
            reason,
            was,
            by: word(by)?,
        }),
        _ => None,
    };
    Ok(Call {
        id,
        state,
        caller: reply::parse(caller)?,
        callee: reply::parse(callee)?,
        caller_session: reply::parse(caller_session)?,
        callee_session: word(callee_session)?,
        caller_next: word(caller_next)?,
        callee_next: word(callee_next)?,
        rang: !reply::text(told)?.is_empty(),
        at: Timestamp(reply::parse(begun)?),
        answered_at: word(answered)?.map(Timestamp),
        end,
        now: Timestamp(reply::parse(now)?),
    })
}

/// A word that may be missing.
fn word<T: std::str::FromStr>(value: &Value) -> Result<Option<T>, StoreError> {
    match reply::text(value)? {
        "" => Ok(None),
        text => reply::parse_text(text).map(Some),
    }
}
