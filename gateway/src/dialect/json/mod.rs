//! The JSON dialect: `{"type": string, "id"?: string, "payload"?: object, "timestamp"?: …}`
//! both ways, in text frames.

mod decode;
mod encode;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub(super) use decode::check_object;

use super::{Codec, Feed};

/// What clients call a log.
pub(super) fn topic_of(feed: Feed) -> &'static str {
    match feed {
        Feed::User => "user",
        Feed::Broadcast => "broadcast",
    }
}

/// The log that clients call so.
pub(super) fn feed_of(topic: &str) -> Option<Feed> {
    [Feed::User, Feed::Broadcast]
        .into_iter()
        .find(|feed| topic_of(*feed) == topic)
}

pub(super) const CODEC: Codec = Codec {
    name: "json",
    subprotocols: &["tidegate.json.v1"],
    authenticates_in_band: true,
    decode: decode::decode,
    encode: encode::encode,
};
