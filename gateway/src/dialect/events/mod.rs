//! The events dialect: `{"type": string, "data": object, "ts": number, "id"?: string}` both ways, in
//! text frames; for front ends that write by REST and only listen.
//!
//! It tells that something happened and where it can be read, and nothing else: an entry that it has
//! no event for is not told at all. A client says which conversations and users it wants to hear of
//! ([`topics`]), each time anew, and whether it types. What it is asked it does not answer: only
//! what it does not get is told, as `server.system.error`. There is no `authenticate`: who has a new
//! token opens a new socket.

mod decode;
mod dialogue;
mod encode;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
mod topics;

use super::{Codec, WithoutToken};

pub(super) const CODEC: Codec = Codec {
    name: "events",
    subprotocols: &["tidegate.events.v1"],
    without_token: WithoutToken::IsClosed,
    client_begins: false,
    open: |_| Box::new(dialogue::Events::default()),
    shared: encode::shared,
    presences: Some(encode::presences),
    takes_whole_log: false,
    gives_messages: false,
};
