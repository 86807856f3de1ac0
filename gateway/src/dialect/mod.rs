//! Codecs at the edge: frames become domain requests, domain events become frames.
//!
//! Pure: no async, no store, and no clock but to stamp a frame. Nothing behind this module knows which dialect a
//! client speaks, and a dialect's name stands nowhere outside it. Adding a dialect is a
//! [`DialectId`], a line in the table below and a folder beside [`json`].

mod answer;
pub mod contracts;
mod dialogue;
mod event;
mod events;
mod frame;
mod json;
mod negotiate;
mod request;
mod stomp;
mod subscribe;
mod told;

pub use answer::{Answer, Outcome, Subscribed};
pub use dialogue::{Dialogue, Rhythm, Terms, Then};
pub use event::{Connected, Event, Heartbeat, Json, Limits, Resumed};
pub use frame::{ping, text};
pub use negotiate::{Negotiated, Unserved, negotiate, served};
pub use request::{Authenticate, Body, Extent, Feed, Frame, Incoming, Request, Token, Unreadable};
pub use subscribe::{AckMode, Interest, Messages, Settled, Subscribe, Wish};
pub use told::{Told, head};

use bytes::Bytes;
use shared::domain::Presence;

/// Which dialect a socket speaks. Its index addresses what is kept once per dialect, for
/// example the encoded frames of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DialectId {
    /// Everything over the socket; the default.
    Json,
    /// STOMP, for clients of message brokers.
    Stomp,
    /// Signals only, for front ends that write by REST.
    Events,
}

impl DialectId {
    /// How many dialects there are.
    pub const COUNT: usize = 3;
    /// All of them, in the order of [`Self::index`].
    pub const ALL: [Self; Self::COUNT] = [Self::Json, Self::Stomp, Self::Events];

    /// From 0 to [`Self::COUNT`], exclusive.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name in `?protocol=`, in logs and in metric labels.
    pub fn name(self) -> &'static str {
        self.codec().name
    }

    /// Whether a socket may be opened without a token and identify itself by a first frame.
    pub fn authenticates_in_band(self) -> bool {
        self.codec().without_token == WithoutToken::Authenticates
    }

    /// Whether who comes with a bad token, or without one, is let in and told by a close code: for
    /// clients that cannot see an HTTP status.
    pub fn refuses_by_closing(self) -> bool {
        self.codec().without_token == WithoutToken::IsClosed
    }

    /// Whether a client has to speak first, also where its upgrade request had a token.
    pub fn client_begins(self) -> bool {
        self.codec().client_begins
    }

    /// Begins to speak it.
    pub fn open(self, terms: Terms) -> Box<dyn Dialogue> {
        (self.codec().open)(terms)
    }

    /// Whether its sockets get their user's log as a whole, from the start. Otherwise they ask for
    /// the queues it consists of, one by one.
    pub fn takes_whole_log(self) -> bool {
        self.codec().takes_whole_log
    }

    /// Whether how several users appear is one frame.
    pub fn joins_presences(self) -> bool {
        self.codec().presences.is_some()
    }

    /// Whether its sockets are given messages, so that what they confirm was received. Otherwise they
    /// only hear that there are some, and from now on.
    pub fn gives_messages(self) -> bool {
        self.codec().gives_messages
    }

    fn codec(self) -> &'static Codec {
        &TABLE[self.index()]
    }
}

/// What a dialect has to bring.
struct Codec {
    name: &'static str,
    /// Values of `Sec-WebSocket-Protocol` that mean this dialect.
    subprotocols: &'static [&'static str],
    without_token: WithoutToken,
    client_begins: bool,
    open: fn(Terms) -> Box<dyn Dialogue>,
    shared: fn(&Told<'_>) -> Bytes,
    /// How several users appear, as one frame; without, they are told one by one.
    presences: Option<fn(&[&Presence]) -> Bytes>,
    takes_whole_log: bool,
    gives_messages: bool,
}

/// What becomes of a socket whose upgrade request had no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WithoutToken {
    /// It may bring one in a frame. One that was there and is bad is refused over HTTP.
    Authenticates,
    /// It is closed, and so is one that came with a bad one.
    IsClosed,
}

static TABLE: [Codec; DialectId::COUNT] = [json::CODEC, stomp::CODEC, events::CODEC];

/// Writes what all sockets of the dialect share of something: whole, unmasked WebSocket frames, or,
/// where a socket's frames begin with its own address, what follows the [`head`]. Nothing where the
/// dialect has no word for it: then its sockets are not told.
pub fn shared(dialect: DialectId, told: &Told<'_>) -> Bytes {
    (dialect.codec().shared)(told)
}

/// Writes how several users appear as one frame. `None` if the dialect tells them one by one.
pub fn presences(dialect: DialectId, present: &[&Presence]) -> Option<Bytes> {
    dialect.codec().presences.map(|write| write(present))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_stands_at_its_index() {
        for (index, dialect) in DialectId::ALL.into_iter().enumerate() {
            assert_eq!(dialect.index(), index);
        }
    }
}
