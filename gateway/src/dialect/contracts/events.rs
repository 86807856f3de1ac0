//! The messages of the events dialect.

#![expect(dead_code, reason = "shapes are read by the derive, never made")]

use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    Dialect, Direction, Message, live,
    payloads::{Code, Id, Time},
    said,
};

pub(super) static DIALECT: Dialect = Dialect {
    name: "events",
    summary: "For front ends that write by REST and only listen.",
    subprotocol: "tidegate.events.v1",
    content_type: "application/json",
    envelope,
    messages: &[
        said::<EventTopics>("client.system.subscribe"),
        said::<EventTyping>("client.messenger.typing"),
        live::<EventMessageNew>("server.messenger.message_new"),
        live::<EventMessageRead>("server.messenger.message_read"),
        live::<EventTypist>("server.messenger.typing"),
        live::<EventPresence>("server.presence.update"),
        live::<EventPresences>("server.presence.batch"),
        live::<EventError>("server.system.error"),
    ],
};

/// `{"type", "data", "ts", "id"?}`.
fn envelope(message: &Message, data: &Value) -> Value {
    let mut required = vec!["type", "data"];
    if message.direction() == Direction::ToClient {
        required.push("ts");
    }
    json!({
        "type": "object",
        "properties": {
            "type": {"const": message.name},
            "data": data,
            "ts": {"type": "integer", "minimum": 0, "description": "Milliseconds since 1970."},
            "id": {"type": "string"},
        },
        "required": required,
    })
}

/// What is heard from now on, instead of what was heard before; `server.presence.batch` says when.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventTopics {
    pub topics: Vec<EventTopic>,
}

/// A conversation, or the presence of a user.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventTopic {
    pub kind: EventTopicKind,
    pub id: Id,
}

/// What is heard.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum EventTopicKind {
    Conversation,
    User,
}

/// Whether the sender of this types.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventTyping {
    pub conversation_id: Id,
    pub is_typing: bool,
}

/// Somebody said something: read it by REST.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventMessageNew {
    pub conversation_id: Id,
    pub message_id: Id,
    pub sender_id: Id,
    pub created_at: Time,
}

/// A participant has read a message: told of each that the receipt names.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventMessageRead {
    pub conversation_id: Id,
    pub message_id: Id,
    pub reader_id: Id,
    pub read_at: Time,
}

/// Whether somebody types.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventTypist {
    pub conversation_id: Id,
    pub user_id: Id,
    pub is_typing: bool,
}

/// A user came, went, or rests.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventPresence {
    pub user_id: Id,
    pub status: EventStatus,
    pub last_seen_at: Option<Time>,
}

/// How several users are: of nobody, the sign that a subscription is in force; behind it those whom
/// it names; and where much happens at once.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventPresences {
    pub users: Vec<EventUser>,
}

/// How a user is.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventUser {
    pub user_id: Id,
    pub status: EventStatus,
}

/// Whether a user is there.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum EventStatus {
    Online,
    Away,
    Offline,
}

/// A refusal.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EventError {
    /// For people.
    pub message: String,
    pub code: Option<Code>,
}
