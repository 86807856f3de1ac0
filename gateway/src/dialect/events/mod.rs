//! The events dialect: `{"type": string, "data": object, "ts": number, "id"?: string}` both ways, in
//! text frames; for front ends that write by REST and only listen.
//!
//! It tells that something happened and where it can be read, and nothing else: an entry that it has
//! no event for is not told at all. A client says which conversations and users it wants to hear of
//! ([`topics`]), each time anew, and whether it types. There is no `authenticate`: who has a new
//! token opens a new socket.
//!
//! A subscription that was dealt with is answered: first a `server.system.error` for each topic that
//! is not heard, then, always, a `server.presence.batch` of nobody under the frame's `id`. From that
//! frame on the client hears everything that was not refused. How the users are that it newly names
//! follows in batches without an id, for that is told as any presence is: by the outbox. Nothing else
//! is answered; what a client does not get is told, as `server.system.error`.

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
