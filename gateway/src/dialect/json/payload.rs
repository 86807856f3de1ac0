//! What clients are told of an entry or a signal, in any dialect that speaks of them in JSON.

use std::io::Write;

use serde::Serialize;
use shared::domain::{
    Broadcast, CommandState, CommandStatus, ConversationId, Entry, Kind, MessageId, Signal,
    Timestamp, Topic, Transition, UserId,
};

use super::put;

/// The name of an event, and what is said with it.
pub(in crate::dialect) struct Payload<'a> {
    name: &'static str,
    content: Content<'a>,
}

enum Content<'a> {
    /// The stored body, completed.
    Body(&'a Entry),
    State(State),
    Typing(Typing),
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typing {
    conversation_id: ConversationId,
    user_id: UserId,
}

impl<'a> Payload<'a> {
    /// What an entry tells. The stored body is copied as it is, not parsed and written again;
    /// only a command's state has a form of its own.
    pub(in crate::dialect) fn of(entry: &'a Entry) -> Self {
        let told = match entry.kind {
            Kind::CommandStatus => serde_json::from_slice::<CommandStatus>(&entry.body).ok(),
            _ => None,
        };
        told.map_or(
            Self {
                name: entry.kind.as_str(),
                content: Content::Body(entry),
            },
            |told| Self::of_state(entry, &told),
        )
    }

    /// Who may have had the command hears `command.expired`; its sender hears of every state by
    /// `command.status`, in an entry that a worker wrote and that brings its own time.
    fn of_state(entry: &Entry, told: &CommandStatus) -> Self {
        let expired = told.status == CommandState::Expired && told.at.is_none();
        Self {
            name: if expired {
                "command.expired"
            } else {
                entry.kind.as_str()
            },
            content: Content::State(State {
                command_id: told.command_id,
                recipient_id: told.recipient_id,
                status: (!expired).then_some(told.status),
                at: told.at.unwrap_or(entry.at),
                broadcast: told.broadcast,
            }),
        }
    }

    /// What happens now in a conversation.
    pub(in crate::dialect) fn of_signal(conversation: ConversationId, signal: &Signal) -> Self {
        Self {
            name: signal.kind.as_str(),
            content: Content::Typing(Typing {
                conversation_id: conversation,
                user_id: signal.user,
            }),
        }
    }

    /// The name of the event.
    pub(in crate::dialect) fn name(&self) -> &'static str {
        self.name
    }

    /// Writes the JSON object.
    pub(in crate::dialect) fn put(&self, out: &mut Vec<u8>) {
        match &self.content {
            Content::Body(entry) => put_body(out, entry),
            Content::State(state) => put(out, state),
            Content::Typing(typing) => put(out, typing),
        }
    }
}

/// What it is called that somebody appears otherwise.
pub(in crate::dialect) fn presence_event(transition: Transition) -> &'static str {
    match transition {
        Transition::Online => "presence.online",
        Transition::Offline => "presence.offline",
        Transition::Update => "presence.update",
    }
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
