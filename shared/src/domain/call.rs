//! Calls: what two users tell each other until they speak without us, and how a call ends.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{CallId, SessionId, Timestamp, UserId};

/// Makes an enum of names that stand in Redis and on the wire.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$word_doc])* $word,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$word,)+];

            /// The name in Redis and on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                Self::ALL.iter().copied().find(|it| it.as_str() == text).ok_or(())
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }
    };
}

words! {
    /// How far a call has come.
    CallState {
        /// The callee's devices ring.
        Ringing = "ringing",
        /// One of them answered.
        Active = "active",
        /// It is over, and told for a while to who asks.
        Ended = "ended",
    }
}

words! {
    /// Why a call ended.
    CallEnd {
        /// Somebody hung up; before the answer, the caller.
        Hangup = "hangup",
        /// The callee does not want it.
        Declined = "declined",
        /// The callee has another call, or may not be called.
        Busy = "busy",
        /// The callee has no device that could ring.
        Offline = "offline",
        /// Nobody answered.
        Timeout = "timeout",
        /// Told to the callee's other devices: one has answered.
        AnsweredElsewhere = "answered_elsewhere",
        /// The callee called the caller first.
        Glare = "glare",
        /// A device in the call is gone.
        Disconnected = "disconnected",
    }
}

words! {
    /// What parties of a call are told.
    CallEventKind {
        /// Somebody calls.
        Incoming = "call.incoming",
        /// What they offer.
        Offer = "call.offer",
        /// What the callee answered.
        Answer = "call.answer",
        /// A way by which the other one may be reached.
        Ice = "call.ice",
        /// It is over.
        Ended = "call.ended",
    }
}

/// Which of a user's sockets are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// All.
    All,
    /// One.
    Only(SessionId),
    /// All but one.
    Except(SessionId),
}

impl Audience {
    /// Whether a socket is among them.
    pub fn includes(self, session: SessionId) -> bool {
        match self {
            Self::All => true,
            Self::Only(one) => one == session,
            Self::Except(one) => one != session,
        }
    }
}

/// As it stands in channels: `*`, `=<session>` or `!<session>`.
impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Only(session) => write!(f, "={session}"),
            Self::Except(session) => write!(f, "!{session}"),
        }
    }
}

impl FromStr for Audience {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "*" {
            return Ok(Self::All);
        }
        let session = |id: &str| id.parse().map_err(|_| ());
        match text.split_at_checked(1) {
            Some(("=", id)) => session(id).map(Self::Only),
            Some(("!", id)) => session(id).map(Self::Except),
            _ => Err(()),
        }
    }
}

/// Something that a user is told of a call: published, in no log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallEvent {
    /// Of which call.
    pub call: CallId,
    /// What.
    pub kind: CallEventKind,
    /// Which of the user's sockets are told.
    pub audience: Audience,
    /// For a candidate of the caller, until the answer: which of them it is, from 1 on. Otherwise 0.
    pub number: u32,
    /// What clients get: a [`CallPayload`] as JSON.
    pub body: Bytes,
}

/// What clients are told with an event of a call.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallPayload<'a> {
    /// Which call.
    pub call_id: CallId,
    /// The other party.
    pub from: UserId,
    /// Who is told.
    pub to: UserId,
    /// A session description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdp: Option<&'a str>,
    /// An ICE candidate, as the other party wrote it; `null` says that there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<&'a RawValue>,
    /// What is to be transmitted, as the caller wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<&'a RawValue>,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<CallEnd>,
    /// When, by the clock of Redis.
    pub at: Timestamp,
}

/// A call as Redis knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub id: CallId,
    /// How far it has come.
    pub state: CallState,
    /// Who calls.
    pub caller: UserId,
    /// Who is called.
    pub callee: UserId,
    /// The caller's socket in the call.
    pub caller_session: SessionId,
    /// That of the callee, once one has answered.
    pub callee_session: Option<SessionId>,
    /// A later socket of the caller's device, which takes over when it says something or the other
    /// one is gone. Until then both are told.
    pub caller_next: Option<SessionId>,
    /// The same of the callee.
    pub callee_next: Option<SessionId>,
    /// Whether a socket of the callee was told of it.
    pub rang: bool,
    /// When it began.
    pub at: Timestamp,
    /// When it was answered.
    pub answered_at: Option<Timestamp>,
    /// How it ended.
    pub end: Option<Ending>,
    /// When this was read.
    pub now: Timestamp,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: CallEnd,
    /// How far the call had come.
    pub was: CallState,
    /// The socket that asked for it, if one did: its answer tells it.
    pub by: Option<SessionId>,
}

impl Call {
    /// The other party, if the user is one.
    pub fn other(&self, user: UserId) -> Option<UserId> {
        match user {
            _ if user == self.caller => Some(self.callee),
            _ if user == self.callee => Some(self.caller),
            _ => None,
        }
    }

    /// The sockets of the caller that are told what happens in the call.
    pub fn at_caller(&self) -> impl Iterator<Item = Audience> + use<> {
        let sockets = [Some(self.caller_session), self.caller_next];
        sockets.into_iter().flatten().map(Audience::Only)
    }

    /// Those of the callee: all of them until one has answered.
    pub fn at_callee(&self) -> impl Iterator<Item = Audience> + use<> {
        let sockets = match self.callee_session {
            Some(session) => [Some(session), self.callee_next].map(|it| it.map(Audience::Only)),
            None => [Some(Audience::All), None],
        };
        sockets.into_iter().flatten()
    }

    /// Which sockets of whom are told that the call ended: whoever took part in it, or rang, but
    /// not who asked for it.
    pub fn told_of_end(&self) -> Vec<(UserId, Audience)> {
        let Some(Ending { was, by, reason }) = self.end else {
            return Vec::new();
        };
        let mut told: Vec<_> = self.at_caller().map(|it| (self.caller, it)).collect();
        match was {
            CallState::Active => told.extend(self.at_callee().map(|it| (self.callee, it))),
            // They were never told of it.
            _ if by.is_none() && !self.rang && reason.is_before_ringing() => {}
            _ => told.push((self.callee, by.map_or(Audience::All, Audience::Except))),
        }
        let is_asker = |audience| by.is_some_and(|by| audience == Audience::Only(by));
        told.retain(|(_, audience)| !is_asker(*audience));
        told
    }

    /// Whether the callee has to learn later that somebody called: nobody answered, and the callee
    /// did not refuse.
    pub fn is_missed(&self) -> bool {
        let Some(Ending { reason, was, by }) = self.end else {
            return false;
        };
        let is_refused = match reason {
            CallEnd::Declined | CallEnd::Glare => true,
            // A device of the callee said so.
            CallEnd::Busy => by.is_some(),
            _ => false,
        };
        was == CallState::Ringing && !is_refused
    }
}

impl CallEnd {
    /// Whether a call that ends so has rung nowhere.
    fn is_before_ringing(self) -> bool {
        matches!(self, Self::Busy | Self::Offline | Self::Glare)
    }
}

/// The body of an entry that tells of a call nobody answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MissedCall {
    /// Always [`MissedCall::KIND`]: there are other notifications.
    pub kind: String,
    /// Which call.
    pub call_id: CallId,
    /// Who called.
    pub from: UserId,
    /// When they began to.
    pub at: Timestamp,
}

impl MissedCall {
    /// What such a notification is called.
    pub const KIND: &str = "call.missed";

    /// Tells of a call.
    pub fn of(call: &Call) -> Self {
        Self {
            kind: Self::KIND.to_owned(),
            call_id: call.id,
            from: call.caller,
            at: call.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const CALLER: SessionId = SessionId(Uuid::from_u128(1));
    const CALLEE: SessionId = SessionId(Uuid::from_u128(2));

    fn ended(was: CallState, reason: CallEnd, by: Option<SessionId>) -> Call {
        Call {
            id: CallId(Uuid::from_u128(3)),
            state: CallState::Ended,
            caller: UserId(Uuid::from_u128(4)),
            callee: UserId(Uuid::from_u128(5)),
            caller_session: CALLER,
            callee_session: (was == CallState::Active).then_some(CALLEE),
            caller_next: None,
            callee_next: None,
            rang: false,
            at: Timestamp(0),
            answered_at: None,
            end: Some(Ending { reason, was, by }),
            now: Timestamp(0),
        }
    }

    #[test]
    fn a_call_is_missed_that_nobody_answered_or_refused() {
        use CallEnd::{Busy, Declined, Disconnected, Glare, Hangup, Offline, Timeout};
        use CallState::{Active, Ringing};
        let cases = [
            (Ringing, Timeout, None, true),
            (Ringing, Offline, None, true),
            (Ringing, Busy, None, true),
            (Ringing, Hangup, Some(CALLER), true),
            (Ringing, Disconnected, None, true),
            (Ringing, Declined, Some(CALLEE), false),
            (Ringing, Busy, Some(CALLEE), false),
            (Ringing, Glare, None, false),
            (Active, Hangup, Some(CALLER), false),
            (Active, Disconnected, None, false),
        ];
        for (was, reason, by, is_missed) in cases {
            let call = ended(was, reason, by);
            assert_eq!(call.is_missed(), is_missed, "{was} {reason} {by:?}");
        }
    }

    #[test]
    fn audiences_and_words_read_back() {
        for audience in [
            Audience::All,
            Audience::Only(CALLER),
            Audience::Except(CALLER),
        ] {
            assert_eq!(audience.to_string().parse(), Ok(audience));
            let includes = [CALLER, CALLEE].map(|it| audience.includes(it));
            let expected = match audience {
                Audience::All => [true, true],
                Audience::Only(_) => [true, false],
                Audience::Except(_) => [false, true],
            };
            assert_eq!(includes, expected);
        }
        for bad in ["", "=", "!", "*x", "=*", "€"] {
            assert_eq!(bad.parse::<Audience>(), Err(()), "{bad}");
        }
        for end in CallEnd::ALL {
            assert_eq!(end.as_str().parse(), Ok(*end));
        }
    }
}
