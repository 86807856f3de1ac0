//! JSON text frames to requests.
//!
//! simd-json checks the whole frame, with a bounded depth and without recursion, and gives
//! the fields of the envelope; the payload is then cut out of the original text by the
//! positions simd-json found, so it passes on exactly as it was written and uncopied.

use std::{borrow::Cow, cell::RefCell};

use bytes::Bytes;
use serde::Deserialize;
use shared::domain::{ClientId, Code, Position, Refusal};
use simd_json::{Buffers, Node, Tape};

use super::{feed_of, topics};
use crate::dialect::{
    Authenticate, Body, Extent, Frame, Incoming, Request, Unreadable, request::Token,
};

/// Deepest nesting of a frame. What clients and Postgres parse recursively stays far from
/// their limits.
const MAX_DEPTH: usize = 32;
/// Scratch memory that a thread keeps after a large frame, in bytes.
const KEEP: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// simd-json unescapes strings in place and wants its own buffers: one set per thread.
struct Scratch {
    text: Vec<u8>,
    buffers: Buffers,
    nodes: Tape<'static>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            text: Vec::new(),
            buffers: Buffers::with_max_depth(1024, MAX_DEPTH),
            nodes: Tape(Vec::new()),
        }
    }
}

pub(super) fn decode(frame: &Frame) -> Result<Incoming, Unreadable> {
    let Frame::Text(text) = frame else {
        return Err(Unreadable::bad_request(
            None,
            "this dialect speaks text frames, not binary",
        ));
    };
    let Envelope { id, name, body } = envelope(text, "payload")?;
    match &*name {
        "authenticate" => match body.parse::<TokenOnly>() {
            Ok(TokenOnly { token }) => Ok(Incoming::Authenticate(Authenticate {
                id,
                token: Some(token),
                device: None,
            })),
            // Not serde's message, which may quote the token.
            Err(_) => Err(Unreadable::bad_request(
                id,
                "payload: expected {token: string}",
            )),
        },
        "ack" => match body.parse::<Ack<'_>>() {
            Ok(Ack {
                topic,
                epoch,
                offset,
            }) => match feed_of(&topic) {
                Some(feed) => Ok(Incoming::Ack {
                    id,
                    feed,
                    position: Position { epoch, offset },
                    extent: Extent::UpTo,
                }),
                None => Err(Unreadable::bad_request(id, "payload: no such topic")),
            },
            Err(refusal) => Err(refused(id, refusal)),
        },
        "subscribe" => topics::read(id, &body).map(Incoming::Subscribe),
        "unsubscribe" => topics::read(id, &body).map(Incoming::Unsubscribe),
        _ => Ok(Incoming::Request(Request { id, name, body })),
    }
}

/// Checks that `text` is one JSON object fit to be a [`Body`].
pub(in crate::dialect) fn check_object(text: &[u8]) -> Result<(), Refusal> {
    with_tape(text, |nodes, _| match nodes.first() {
        _ if nodes.iter().any(holds_nul) => Err(no_nul()),
        Some(Node::Object { .. }) => Ok(()),
        _ => Err(Refusal::new(Code::BadRequest, "expected a JSON object")),
    })
    .unwrap_or_else(Err)
}

#[derive(Deserialize)]
struct TokenOnly {
    token: Token,
}

#[derive(Deserialize)]
struct Ack<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    epoch: u64,
    offset: u64,
}

/// What a frame says besides its arguments, and those.
pub(in crate::dialect) struct Envelope {
    pub(in crate::dialect) id: Option<ClientId>,
    pub(in crate::dialect) name: Box<str>,
    pub(in crate::dialect) body: Body,
}

/// Reads a frame whose arguments stand in the field `arguments`.
pub(in crate::dialect) fn envelope(
    text: &Bytes,
    arguments: &'static str,
) -> Result<Envelope, Unreadable> {
    with_tape(text, |nodes, structurals| {
        read_envelope(text, nodes, structurals, arguments)
    })
    .unwrap_or_else(|refusal| Err(refused(None, refusal)))
}

/// Parses `text` and shows its nodes, and the places of its structural characters.
fn with_tape<T>(text: &[u8], read: impl FnOnce(&[Node<'_>], &[u32]) -> T) -> Result<T, Refusal> {
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch {
            text: copy,
            buffers,
            nodes,
        } = scratch;
        copy.clear();
        copy.extend_from_slice(text);
        let mut tape = std::mem::replace(nodes, Tape(Vec::new())).reset();
        let parsed = simd_json::fill_tape(copy, buffers, &mut tape);
        let result = match parsed {
            Err(error) => Err(syntax(&error)),
            Ok(()) => Ok(read(&tape.0, buffers.structural_indexes())),
        };
        *nodes = tape.reset();
        if text.len() > KEEP {
            *scratch = Scratch::new();
        }
        result
    })
}

pub(super) fn refused(id: Option<ClientId>, refusal: Refusal) -> Unreadable {
    Unreadable {
        id,
        refusal,
        is_fatal: false,
    }
}

/// Postgres can store it neither as text nor in JSON.
fn holds_nul(node: &Node<'_>) -> bool {
    matches!(node, Node::String(text) if text.as_bytes().contains(&0))
}

fn no_nul() -> Refusal {
    Refusal::new(Code::BadRequest, "the character U+0000 is not allowed")
}

fn syntax(error: &simd_json::Error) -> Refusal {
    let message = match error.error() {
        simd_json::ErrorType::DepthLimitExceeded => {
            format!("nested deeper than {MAX_DEPTH} levels")
        }
        _ => format!("malformed JSON at byte {}", error.index()),
    };
    Refusal::new(Code::BadRequest, message)
}

/// The fields of the envelope. The id is looked for first, so that whatever else is wrong
/// can be told with it.
fn read_envelope(
    text: &Bytes,
    nodes: &[Node<'_>],
    structurals: &[u32],
    arguments: &'static str,
) -> Result<Envelope, Unreadable> {
    let Some(Node::Object { len, .. }) = nodes.first() else {
        return Err(Unreadable::bad_request(None, "expected a JSON object"));
    };
    let (mut name, mut id, mut body) = (None, None, None);
    let mut twice = None;
    let mut at = 1;
    for index in 0..*len {
        let (Some(Node::String(key)), Some(value)) = (nodes.get(at), nodes.get(at + 1)) else {
            return Err(Unreadable::bad_request(None, "malformed JSON"));
        };
        let seen = match *key {
            "type" => name.replace(value).is_some(),
            "id" => id.replace(value).is_some(),
            key if key == arguments => body.replace((index, value)).is_some(),
            _ => false,
        };
        if seen {
            twice = Some(format!("{key} stands in the frame twice"));
        }
        at += 1 + width(value);
    }
    let id = match id {
        None | Some(Node::Static(simd_json::StaticNode::Null)) => None,
        Some(Node::String(id)) => Some(id.parse::<ClientId>().map_err(|_| {
            let message = "id: expected 1 to 64 characters, none of them a control character";
            Unreadable::bad_request(None, message)
        })?),
        Some(_) => return Err(Unreadable::bad_request(None, "id: expected a string")),
    };
    if let Some(message) = twice {
        // Which of two ids is meant nobody knows.
        let id = if message.starts_with("id ") { None } else { id };
        return Err(Unreadable::bad_request(id, message));
    }
    if nodes.iter().any(holds_nul) {
        return Err(refused(id, no_nul()));
    }
    let Some(Node::String(name)) = name else {
        return Err(Unreadable::bad_request(id, "type: expected a string"));
    };
    let body = match body {
        None => Body::EMPTY,
        Some((index, Node::Object { .. })) => match nth_value(text, structurals, index) {
            Some(span) => Body::checked(text.slice(span)),
            None => return Err(Unreadable::bad_request(id, "malformed JSON")),
        },
        Some(_) => {
            let message = format!("{arguments}: expected an object");
            return Err(Unreadable::bad_request(id, message));
        }
    };
    Ok(Envelope {
        id,
        name: (*name).into(),
        body,
    })
}

/// How many nodes a value takes on the tape.
fn width(value: &Node<'_>) -> usize {
    match value {
        Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
        Node::String(_) | Node::Static(_) => 1,
    }
}

/// Where the `index`th value of the outermost object, an object itself, stands in the text.
fn nth_value(text: &[u8], structurals: &[u32], index: usize) -> Option<std::ops::Range<usize>> {
    let (mut depth, mut colons, mut start) = (0_usize, 0_usize, None);
    for place in structurals {
        let place = *place as usize;
        match text.get(place)? {
            b':' if depth == 1 => colons += 1,
            b'{' | b'[' => {
                if depth == 1 && colons == index + 1 && start.is_none() {
                    start = Some(place);
                }
                depth += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if let (1, Some(start)) = (depth, start) {
                    return Some(start..place + 1);
                }
            }
            _ => {}
        }
    }
    None
}
