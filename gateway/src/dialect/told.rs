//! What many sockets are told in the same words, encoded once for all of them.

use shared::domain::{CallEvent, ConversationId, Entry, Presence, Signal, Transition};

use super::frame;

/// Something that goes to many sockets. Its bytes are shared by all of a dialect.
#[derive(Debug, Clone, Copy)]
pub enum Told<'a> {
    /// An entry of a log.
    Entry(&'a Entry),
    /// What happens just now, and stands nowhere.
    Signal(ConversationId, &'a Signal),
    /// How somebody appears to others now.
    Presence(&'a Presence, Transition),
    /// What happens in a call, and stands nowhere.
    Call(&'a CallEvent),
}

/// Writes what stands before the shared bytes of a dialect whose frames begin with something of
/// the socket's own: the header of a text frame, and then `address`, which that dialect has made.
/// A dialect without addresses shares whole frames.
pub fn head(address: &[u8], shared: usize, out: &mut Vec<u8>) {
    frame::text_header(address.len() + shared, out);
    out.extend_from_slice(address);
}
