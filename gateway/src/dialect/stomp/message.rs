//! MESSAGE frames of what many sockets are told: all but the command and the header
//! `subscription`, which are each socket's own and come before.
//!
//! No value in here needs to be escaped in any version, so one encoding serves all.

use std::{
    io::Write,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use serde::Serialize;
use shared::domain::{
    ConversationChange, ConversationId, Entry, FileRef, Kind, MessageBody, MessageId,
    MessageStatus, MessageType, SenderType, Timestamp, UserId,
};

use super::destination;
use crate::dialect::{
    Told,
    json::{Payload, presence_event},
};

/// Room for the headers.
const HEAD: usize = 256;

pub(super) fn shared(told: &Told<'_>) -> Bytes {
    match told {
        Told::Entry(entry) => of_entry(entry),
        Told::Call(event) => {
            let id = format!("calls/signal@{}", next_number());
            written(&id, destination::CALLS, event.kind.as_str(), &event.body)
        }
        Told::Signal(conversation, signal) => {
            let (destination, place) = destination::of_conversation(*conversation);
            let payload = Payload::of_signal(*conversation, signal);
            let mut body = Vec::with_capacity(HEAD);
            payload.put(&mut body);
            let id = format!("{place}/signal@{}", next_number());
            written(&id, &destination, payload.name(), &body)
        }
        Told::Presence(presence, transition) => {
            let (destination, place) = destination::of_presence(presence.user);
            let body = serde_json::to_vec(presence);
            debug_assert!(body.is_ok(), "a presence is writable as JSON");
            let id = format!("{place}@{}", next_number());
            let name = presence_event(*transition);
            written(&id, &destination, name, &body.unwrap_or_default())
        }
    }
}

/// What is in no log has no identity; the ids of its frames only have to differ.
fn next_number() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

fn of_entry(entry: &Entry) -> Bytes {
    let (destination, place) = destination::of_entry(entry.topic, entry.kind);
    let at = entry.position;
    let id = format!("{place}@{}-{}", at.epoch, at.offset);
    let payload = Payload::of(entry);
    let mut body = Vec::with_capacity(HEAD + entry.body.len());
    if !put_message(&mut body, entry) {
        payload.put(&mut body);
    }
    written(&id, &destination, payload.name(), &body)
}

fn written(id: &str, destination: &str, name: &str, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(HEAD + body.len());
    // A Vec takes every write.
    let _ = write!(
        out,
        "message-id:{id}\ndestination:{destination}\nack:{id}\ntype:{name}\n\
         content-type:application/json\ncontent-length:{}\n\n",
        body.len()
    );
    out.extend_from_slice(body);
    out.push(0);
    out.into()
}

/// A message as clients of this dialect know it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: MessageId,
    conversation_id: ConversationId,
    sender_id: UserId,
    sender_name: &'a str,
    sender_type: SenderType,
    content: &'a str,
    message_type: MessageType,
    status: MessageStatus,
    created_at: Timestamp,
    edited_at: Option<Timestamp>,
    is_deleted: bool,
    files: &'a [FileRef],
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'a ConversationChange>,
}

/// Writes the body of a new message. False if it is none, or cannot be read.
fn put_message(out: &mut Vec<u8>, entry: &Entry) -> bool {
    if entry.kind != Kind::MessageNew {
        return false;
    }
    let Ok(body) = serde_json::from_slice::<MessageBody>(&entry.body) else {
        return false;
    };
    let message = Shown {
        id: body.message_id.unwrap_or(entry.id),
        conversation_id: body.conversation_id,
        sender_id: body.sender_id,
        sender_name: &body.sender_name,
        sender_type: body.sender_type,
        content: &body.content,
        message_type: body.message_type,
        status: MessageStatus::Sent,
        created_at: body.created_at.unwrap_or(entry.at),
        edited_at: None,
        is_deleted: false,
        files: &body.files,
        change: body.change.as_ref(),
    };
    // A Vec takes every write.
    let written = serde_json::to_writer(out, &message);
    debug_assert!(written.is_ok(), "messages are writable as JSON");
    true
}
