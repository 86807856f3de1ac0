//! What became of something that a client wanted.

use std::borrow::Cow;

use shared::domain::{ClientId, Code, Refusal};

use super::{Event, Interest, Json, Settled};

/// The answer to one [`Incoming`](super::Incoming). Whether it is told, and how, the dialect
/// decides.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The client's name for what it wanted.
    pub to: Option<ClientId>,
    /// What came of it.
    pub outcome: Result<Outcome, Refusal>,
}

/// How something ended well.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A request was run.
    Reply {
        /// For example `command.accepted`.
        name: Cow<'static, str>,
        /// A JSON object.
        payload: Json,
        /// It was a question: the answer matters also to a client that gave it no name.
        always: bool,
    },
    /// The client hears what it wants to hear, as far as it may.
    Subscribed(Subscribed),
    /// The client hears it no more.
    Unsubscribed(Subscribed),
    /// There is nothing more to say about it.
    Done,
}

/// What came of a wish to hear, or to hear no more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// What was granted, in the order of the wishes.
    pub granted: Vec<Interest>,
    /// What was not, and why.
    pub refused: Vec<(Interest, Code)>,
    /// What the dialect knew by itself; as it stood in the wish.
    pub settled: Settled,
}

impl Answer {
    /// The event that tells it.
    pub fn event(&self) -> Event<'_> {
        let to = self.to.as_ref();
        match &self.outcome {
            Ok(Outcome::Reply {
                name,
                payload,
                always,
            }) => Event::Reply {
                to,
                name,
                payload,
                always: *always,
            },
            Ok(Outcome::Subscribed(subscribed)) => Event::Subscribed { to, subscribed },
            Ok(Outcome::Unsubscribed(subscribed)) => Event::Unsubscribed { to, subscribed },
            Ok(Outcome::Done) => Event::Done,
            Err(refusal) => Event::Error { to, refusal },
        }
    }
}
