//! The JSON dialect: `{"type": string, "id"?: string, "payload"?: object, "timestamp"?: …}`
//! both ways, in text frames.

mod decode;
mod encode;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub(super) use decode::check_object;

use super::Codec;

/// What clients call their own topic.
pub(super) const USER_TOPIC: &str = "user";
/// What clients call the topic of commands for many.
const BROADCAST_TOPIC: &str = "broadcast";

pub(super) const CODEC: Codec = Codec {
    name: "json",
    subprotocols: &["tidegate.json.v1"],
    authenticates_in_band: true,
    decode: decode::decode,
    encode: encode::encode,
};
