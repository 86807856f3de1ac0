//! Events to JSON text frames.

use std::io::Write;

use bytes::Bytes;
use serde::Serialize;
use shared::domain::{ClientId, Entry, Refusal, Timestamp, UserId};

use super::{
    payload::{Payload, presence_event},
    put, topic_of,
    topics::Topics,
};
use crate::dialect::{Event, Feed, Told, frame::TextFrame};

/// Room for an envelope around a payload.
const ENVELOPE: usize = 256;

pub(super) fn encode(event: &Event<'_>) -> Bytes {
    match *event {
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
            frame("unsubscribed", to, &Topics::left(&subscribed.granted))
        }
        Event::Lost { interests } => frame("unsubscribed", None, &Topics::left(interests)),
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
        Told::Signal(conversation, signal) => {
            let payload = Payload::of_signal(conversation, signal);
            let mut frame = TextFrame::with_capacity(ENVELOPE);
            open(frame.payload(), payload.name(), None);
            payload.put(frame.payload());
            close(frame)
        }
        Told::Presence(presence, transition) => frame(presence_event(transition), None, presence),
        Told::Call(event) => {
            let mut frame = TextFrame::with_capacity(ENVELOPE + event.body.len());
            open(frame.payload(), event.kind.as_str(), None);
            frame.payload().extend_from_slice(&event.body);
            close(frame)
        }
    }
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

/// A durable entry.
fn entry_frame(entry: &Entry) -> Bytes {
    let payload = Payload::of(entry);
    let mut frame = TextFrame::with_capacity(ENVELOPE + entry.body.len());
    let out = frame.payload();
    let topic = topic_of(Feed::of(entry.topic));
    // A Vec takes every write.
    let _ = write!(
        out,
        "{{\"type\":\"{}\",\"id\":\"{}\",\"topic\":\"{topic}\",\"epoch\":{},\"offset\":{},\"payload\":",
        payload.name(),
        entry.id,
        entry.position.epoch,
        entry.position.offset,
    );
    payload.put(out);
    close(frame)
}
