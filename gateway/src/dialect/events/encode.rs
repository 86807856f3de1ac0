//! What clients are told, as text frames.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::{
    clock::Clock,
    domain::{
        ClientId, ConversationId, Entry, Kind, MessageId, MessageReceipt, Presence, PresenceStatus,
        Refusal, Signal, SignalKind, Timestamp, UserId,
    },
};

use crate::dialect::{Told, frame::TextFrame};

/// Room for an event of this dialect; few are longer.
const EVENT: usize = 384;

/// What of a message's body is told.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    conversation_id: ConversationId,
    sender_id: UserId,
}

/// Where it can be read, and nothing of what it says.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageNew {
    conversation_id: ConversationId,
    message_id: MessageId,
    sender_id: UserId,
    created_at: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageRead {
    conversation_id: ConversationId,
    message_id: MessageId,
    reader_id: UserId,
    read_at: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typing {
    conversation_id: ConversationId,
    user_id: UserId,
    #[serde(rename = "isTyping")]
    goes_on: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PresenceUpdate {
    user_id: UserId,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct PresenceBatch {
    users: Vec<PresenceUpdate>,
}

/// Whether somebody is there. That they do not want to be disturbed this dialect has no word for.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Online,
    Away,
    Offline,
}

impl From<PresenceStatus> for Status {
    fn from(status: PresenceStatus) -> Self {
        match status {
            PresenceStatus::Online | PresenceStatus::Busy => Self::Online,
            PresenceStatus::Away => Self::Away,
            PresenceStatus::Offline => Self::Offline,
        }
    }
}

#[derive(Serialize)]
struct Error<'a> {
    message: &'a str,
    code: &'static str,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    r#type: &'static str,
    data: T,
    /// When it happened, in milliseconds since 1970.
    ts: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

/// What all sockets share of something; nothing of what this dialect has no event for.
pub(super) fn shared(told: &Told<'_>) -> Bytes {
    match *told {
        Told::Entry(entry) => of_entry(entry),
        Told::Signal(conversation, signal) => typing(conversation, signal),
        Told::Presence(presence, _) => {
            let update = PresenceUpdate {
                user_id: presence.user,
                status: presence.status.into(),
                last_seen_at: presence.last_seen_at,
            };
            frame("server.presence.update", update, now(), None)
        }
        Told::Call(_) => Bytes::new(),
    }
}

/// How several users appear.
pub(super) fn presences(present: &[&Presence]) -> Bytes {
    let users = present.iter().map(|presence| PresenceUpdate {
        user_id: presence.user,
        status: presence.status.into(),
        last_seen_at: None,
    });
    let users = users.collect();
    frame(
        "server.presence.batch",
        PresenceBatch { users },
        now(),
        None,
    )
}

fn of_entry(entry: &Entry) -> Bytes {
    let frames = match entry.kind {
        Kind::MessageNew => message_new(entry),
        Kind::MessageRead => message_read(entry),
        _ => None,
    };
    frames.unwrap_or_default()
}

fn message_new(entry: &Entry) -> Option<Bytes> {
    let said: Said = serde_json::from_slice(&entry.body).ok()?;
    let new = MessageNew {
        conversation_id: said.conversation_id,
        message_id: entry.id,
        sender_id: said.sender_id,
        created_at: entry.at,
    };
    let id = entry.id.to_string();
    let name = "server.messenger.message_new";
    Some(frame(name, new, entry.at, Some(&id)))
}

/// One event for each message that is named: all of them, or the last of those up to which
/// everything is read.
fn message_read(entry: &Entry) -> Option<Bytes> {
    let receipt: MessageReceipt = serde_json::from_slice(&entry.body).ok()?;
    let id = entry.id.to_string();
    let name = "server.messenger.message_read";
    let written = |message_id| {
        let read = MessageRead {
            conversation_id: receipt.conversation_id,
            message_id,
            reader_id: receipt.user_id,
            read_at: entry.at,
        };
        frame(name, read, entry.at, Some(&id))
    };
    let named = receipt.message_ids.iter().flatten().chain(&receipt.up_to);
    let mut frames = named.copied().map(written);
    let first = frames.next()?;
    let Some(second) = frames.next() else {
        return Some(first);
    };
    let mut all = first.to_vec();
    all.extend_from_slice(&second);
    frames.for_each(|frame| all.extend_from_slice(&frame));
    Some(all.into())
}

fn typing(conversation_id: ConversationId, signal: &Signal) -> Bytes {
    let typing = Typing {
        conversation_id,
        user_id: signal.user,
        goes_on: signal.kind == SignalKind::TypingStart,
    };
    frame("server.messenger.typing", typing, now(), None)
}

/// The sign that a subscription is in force: how nobody appears. Those whom it names follow.
pub(super) fn in_force(to: Option<&ClientId>) -> Bytes {
    let nobody = PresenceBatch { users: Vec::new() };
    let id = to.map(ClientId::as_str);
    frame("server.presence.batch", nobody, now(), id)
}

/// A refusal; `to` is the frame that is refused.
pub(super) fn error(to: Option<&ClientId>, refusal: &Refusal) -> Bytes {
    let error = Error {
        message: &refusal.message,
        code: refusal.code.as_str(),
    };
    let id = to.map(ClientId::as_str);
    frame("server.system.error", error, now(), id)
}

/// What is in no log has no time of its own: that of its frame is when it is written.
fn now() -> Timestamp {
    Clock::system().now()
}

fn frame(name: &'static str, data: impl Serialize, at: Timestamp, id: Option<&str>) -> Bytes {
    let mut frame = TextFrame::with_capacity(EVENT);
    let envelope = Envelope {
        r#type: name,
        data,
        ts: at.0,
        id,
    };
    // Our own types have string keys, and a Vec takes every write.
    let written = serde_json::to_writer(frame.payload(), &envelope);
    debug_assert!(written.is_ok(), "events are writable as JSON");
    frame.finish()
}
