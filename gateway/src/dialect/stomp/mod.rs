//! The STOMP dialect: versions 1.0, 1.1 and 1.2 over messages of text or of bytes.
//!
//! What clients send is one stream of bytes, however messages divide it; frames are cut from it
//! ([`cut`]), understood ([`frame`]) and given to the session one by one ([`dialogue`]). What
//! the server sends is one frame to a message. `docs/STOMP.md` tells what destinations there
//! are and which test shows which rule of the specification.

mod acks;
mod connect;
mod cut;
mod destination;
mod dialogue;
mod escape;
mod frame;
#[cfg(test)]
mod fuzz;
mod message;
mod send;
mod stream;
mod subscriptions;
#[cfg(test)]
mod tests;
mod transactions;
mod version;
mod write;

use std::borrow::Cow;

use shared::domain::{Code, Refusal};

use super::{Codec, WithoutToken};

pub(super) const CODEC: Codec = Codec {
    name: "stomp",
    subprotocols: &["v12.stomp", "v11.stomp", "v10.stomp"],
    without_token: WithoutToken::Authenticates,
    client_begins: true,
    open: |terms| Box::new(dialogue::Stomp::new(terms)),
    shared: message::shared,
    presences: None,
    takes_whole_log: false,
    gives_messages: true,
};

/// What the client may not send at all: nothing can be understood behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Broken(Refusal);

impl Broken {
    fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self(Refusal::new(Code::BadRequest, message))
    }

    fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self(Refusal::new(Code::TooLarge, message))
    }
}

/// Why a frame is not obeyed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    Broken(Broken),
    Refused(Refusal),
}

impl Trouble {
    fn refused(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(Refusal::new(code, message))
    }
}

impl From<Broken> for Trouble {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
