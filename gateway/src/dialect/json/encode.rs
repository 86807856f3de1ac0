//! Events to JSON text frames.

use std::io::Write;

use bytes::Bytes;
use serde::Serialize;
use shared::domain::{
    Broadcast, ClientId, CommandState, CommandStatus, ConversationId, Entry, Kind, MessageId,
    Refusal, Timestamp, Topic, UserId,
};

use super::{topic_of, topics::Topics};
use crate::dialect::{Event, Feed, Told, frame::TextFrame};

/// Room for an envelope around a payload.
const ENVELOPE: usize = 256;

pub(super) fn encode(event: &Event<'_>) -> Bytes {
    match *event {
        Event::Entry(entry) => entry_frame(entry),
        Event::Connected(connected) => frame("connected", None, connected),
        Event::AuthSuccess {
            to,
            user,
            expires_at,
        } => frame(
            "auth.success",
            to,
            &AuthSuccess {
                user_id: user,
                expires_at,
            },
        ),
        Event::AuthFailed { to, refusal } => frame("auth.failed", to, &Refused::from(refusal)),
        Event::Draining { reconnect_after } => {
            let reconnect_after_ms = reconnect_after.as_millis() as u64;
            frame("server.draining", None, &Draining { reconnect_after_ms })
        }
        Event::Reply {
            to, name, payload, ..
        } => {
            let mut frame = TextFrame::with_capacity(ENVELOPE + payload.as_str().len());
            open(frame.payload(), name, to);
            frame
                .payload()
                .extend_from_slice(payload.as_str().as_bytes());
            close(frame)
        }
        Event::Error { to, refusal } => frame("error", to, &Refused::from(refusal)),
        Event::Subscribed { to, subscribed } => frame("subscribed", to, &Topics::heard(subscribed)),
        Event::Unsubscribed { to, subscribed } => {
            frame("unsubscribed", to, &Topics::left(subscribed))
        }
        Event::Done | Event::Heartbeat => Bytes::new(),
    }
}

/// Whether an event is told at all. Requests without an id get no positive answer, unless that
/// is all they are for.
pub(super) fn is_told(event: &Event<'_>) -> bool {
    match event {
        Event::Reply { to, always, .. } => to.is_some() || *always,
        Event::Done | Event::Heartbeat => false,
        _ => true,
    }
}

pub(super) fn shared(told: &Told<'_>) -> Bytes {
    match *told {
        Told::Entry(entry) => entry_frame(entry),
        Told::Signal(conversation_id, signal) => frame(
            signal.kind.as_str(),
            None,
            &Typing {
                conversation_id,
                user_id: signal.user,
            },
        ),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typing {
    conversation_id: ConversationId,
    user_id: UserId,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthSuccess {
    user_id: UserId,
    expires_at: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Draining {
    reconnect_after_ms: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refused<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl<'a> From<&'a Refusal> for Refused<'a> {
    fn from(refusal: &'a Refusal) -> Self {
        Self {
            code: refusal.code.as_str(),
            message: &refusal.message,
            retry_after_ms: refusal.retry_after.map(|wait| wait.as_millis() as u64),
        }
    }
}

fn frame(name: &str, to: Option<&ClientId>, payload: &impl Serialize) -> Bytes {
    let mut frame = TextFrame::with_capacity(ENVELOPE);
    open(frame.payload(), name, to);
    put(frame.payload(), payload);
    close(frame)
}

fn open(out: &mut Vec<u8>, name: &str, to: Option<&ClientId>) {
    out.extend_from_slice(b"{\"type\":");
    put(out, name);
    if let Some(id) = to {
        out.extend_from_slice(b",\"replyTo\":");
        put(out, id.as_str());
    }
    out.extend_from_slice(b",\"payload\":");
}

fn close(mut frame: TextFrame) -> Bytes {
    frame.payload().push(b'}');
    frame.finish()
}

fn put(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Our own types have string keys, and a Vec takes every write.
    let written = serde_json::to_writer(&mut *out, value);
    debug_assert!(written.is_ok(), "payloads are writable as JSON");
}

/// A durable entry. The stored body is copied as it is, not parsed and written again: the
/// entry's own fields stand before it in the same object.
fn entry_frame(entry: &Entry) -> Bytes {
    let mut frame = TextFrame::with_capacity(ENVELOPE + entry.body.len());
    let out = frame.payload();
    match entry.kind {
        Kind::CommandStatus => put_status(out, entry),
        kind => {
            open_entry(out, entry, kind.as_str());
            put_body(out, entry);
        }
    }
    close(frame)
}

/// The stored body, with what the entry itself says put before it. A copy in a user's log brings
/// that with it.
fn put_body(out: &mut Vec<u8>, entry: &Entry) {
    let Entry { id, at, .. } = entry;
    let is_copy = matches!(entry.topic, Topic::User(_));
    // A Vec takes every write.
    let _ = match entry.kind {
        Kind::CommandNew => write!(out, "{{\"commandId\":\"{id}\",\"createdAt\":\"{at}\""),
        Kind::MessageNew if !is_copy => {
            write!(out, "{{\"messageId\":\"{id}\",\"createdAt\":\"{at}\"")
        }
        Kind::MessageEdited if !is_copy => write!(out, "{{\"editedAt\":\"{at}\""),
        Kind::MessageDeleted if !is_copy => write!(out, "{{\"deletedAt\":\"{at}\""),
        Kind::MessageDelivered | Kind::MessageRead => write!(out, "{{\"at\":\"{at}\""),
        _ => return out.extend_from_slice(&entry.body),
    };
    let fields = entry.body.strip_prefix(b"{").unwrap_or(b"}");
    if fields.first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(fields);
}

/// The envelope of an entry up to its payload.
fn open_entry(out: &mut Vec<u8>, entry: &Entry, name: &str) {
    let topic = topic_of(Feed::of(entry.topic));
    // A Vec takes every write.
    let _ = write!(
        out,
        "{{\"type\":\"{name}\",\"id\":\"{}\",\"topic\":\"{topic}\",\"epoch\":{},\"offset\":{},\"payload\":",
        entry.id, entry.position.epoch, entry.position.offset,
    );
}

/// What clients are told of a state. Not the categories: those are for who passes it on.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    command_id: MessageId,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<CommandState>,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    broadcast: Option<Broadcast>,
}

/// Who may have had the command hears `command.expired`; its sender hears of every state by
/// `command.status`, in an entry that a worker wrote and that brings its own time.
fn put_status(out: &mut Vec<u8>, entry: &Entry) {
    let Ok(told) = serde_json::from_slice::<CommandStatus>(&entry.body) else {
        open_entry(out, entry, entry.kind.as_str());
        return out.extend_from_slice(&entry.body);
    };
    let expired = told.status == CommandState::Expired && told.at.is_none();
    let name = if expired {
        "command.expired"
    } else {
        entry.kind.as_str()
    };
    open_entry(out, entry, name);
    put(
        out,
        &State {
            command_id: told.command_id,
            recipient_id: told.recipient_id,
            status: (!expired).then_some(told.status),
            at: told.at.unwrap_or(entry.at),
            broadcast: told.broadcast,
        },
    );
}
