//! What the swarm's sockets do.

mod direct;
mod fleet;

pub use direct::{Direct, Pair};
pub use fleet::{Deliveries, Fleet, Target};

/// The name of a frame of the JSON dialect, which writes `type` first.
fn kind_of(text: &[u8]) -> &[u8] {
    let Some(rest) = text.strip_prefix(br#"{"type":""#) else {
        return b"";
    };
    let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(0);
    &rest[..end]
}

/// Where `needle` ends in `hay`.
fn after(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len())
        .position(|window| window == needle)
        .map(|start| start + needle.len())
}

/// The decimal number at the start of `text`.
fn number_at(text: &[u8]) -> u64 {
    text.iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}
