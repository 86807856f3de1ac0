//! The JSON dialect: `{"type": string, "id"?: string, "payload"?: object, "timestamp"?: …}`
//! both ways, in text frames.

mod decode;
mod encode;
#[cfg(test)]
mod fuzz;
mod payload;
#[cfg(test)]
mod tests;
mod topics;

pub(super) use decode::{Envelope, check_object, envelope};
pub(super) use payload::{Payload, presence_event};

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Serialize;

use super::{Codec, Dialogue, Event, Feed, Frame, Incoming, Then, Unreadable, WithoutToken};

/// What clients call a log.
pub(super) fn topic_of(feed: Feed) -> &'static str {
    match feed {
        Feed::User | Feed::Queue(_) => "user",
        Feed::Broadcast => "broadcast",
        Feed::Conversation(_) => "conversation",
    }
}

/// The log that clients call so, of those that they confirm.
pub(super) fn feed_of(topic: &str) -> Option<Feed> {
    [Feed::User, Feed::Broadcast]
        .into_iter()
        .find(|feed| topic_of(*feed) == topic)
}

fn put(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Our own types have string keys, and a Vec takes every write.
    let written = serde_json::to_writer(&mut *out, value);
    debug_assert!(written.is_ok(), "payloads are writable as JSON");
}

pub(super) const CODEC: Codec = Codec {
    name: "json",
    subprotocols: &["tidegate.json.v1"],
    without_token: WithoutToken::Authenticates,
    client_begins: false,
    open: |_| Box::new(Json),
    shared: encode::shared,
    presences: None,
    takes_whole_log: true,
    gives_messages: true,
};

/// Each frame says one thing and is understood by itself, so nothing is kept.
struct Json;

impl Dialogue for Json {
    fn read(&mut self, frame: Frame) -> Option<Result<Incoming, Unreadable>> {
        Some(decode::decode(&frame))
    }

    fn write(&mut self, event: &Event<'_>, out: &mut VecDeque<Bytes>) -> Then {
        if encode::is_told(event) {
            out.push_back(encode::encode(event));
        }
        Then::GoOn
    }
}
