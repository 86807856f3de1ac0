//! The bodies of the STOMP dialect: of SEND frames by their destination behind `/app/`, of MESSAGE
//! frames by their header `type`. Headers are described in docs/STOMP.md.

#![expect(dead_code, reason = "shapes are read by the derive, never made")]

use serde_json::Value;
use utoipa::ToSchema;

#[allow(clippy::wildcard_imports, reason = "a table of everything in there")]
use super::payloads::*;
use super::{Dialect, Message, answer, entry, live, request};

pub(super) static DIALECT: Dialect = Dialect {
    name: "stomp",
    summary: "For clients of message brokers. A payload is the body of a SEND or MESSAGE frame.",
    subprotocol: "v12.stomp",
    content_type: "application/json",
    envelope,
    messages: &[
        request::<ChatSend>("chat.send", "chat.ack"),
        request::<ChatTyping>("chat.typing", "typing.start"),
        request::<Mark>("chat.read", "message.read").about("The caller has read these messages, or all up to one."),
        request::<Nothing>("ping", "pong"),
        request::<HeartbeatAsked>("heartbeat", "heartbeat"),
        request::<Authenticate>("authenticate", "auth.success"),
        request::<CommandCreate>("command.create", "command.accepted"),
        request::<CommandQueueAsked>("command.queue", "command.queue"),
        request::<CommandNamed>("command.complete", "command.completed"),
        request::<CommandNamed>("command.cancel", "command.status"),
        request::<Nothing>("preferences.get", "preferences"),
        request::<PreferencesUpdate>("preferences.update", "preferences"),
        request::<ChatMessage>("chat.message", "chat.accepted"),
        request::<MessageEdit>("message.edit", "message.edited"),
        request::<MessageDelete>("message.delete", "message.deleted"),
        request::<Mark>("mark.delivered", "message.delivered"),
        request::<Mark>("mark.read", "message.read"),
        request::<ConversationNamed>("typing.start", "typing.start"),
        request::<ConversationNamed>("typing.stop", "typing.stop"),
        request::<CallOffer>("call.offer", "call.ringing"),
        request::<CallAnswer>("call.answer", "call.answer"),
        request::<CallIce>("call.ice", "call.ice"),
        request::<CallHangup>("call.hangup", "call.ended"),
        // What comes by itself.
        entry::<CommandNew>("command.new"),
        entry::<CommandStatus>("command.status"),
        entry::<CommandExpired>("command.expired"),
        entry::<Preferences>("preferences"),
        entry::<Notification>("notification"),
        entry::<StompMessage>("message.new"),
        entry::<MessageEdited>("message.edited"),
        entry::<MessageDeleted>("message.deleted"),
        entry::<Receipt>("message.delivered"),
        entry::<Receipt>("message.read"),
        live::<Typing>("typing.start"),
        live::<Typing>("typing.stop"),
        live::<StompRefused>("unsubscribed").about("The right to hear something was lost; the header `unsubscribed` names the subscription."),
        live::<Presence>("presence.update").about("A user appears otherwise."),
        live::<Presence>("presence.online").about("A user came."),
        live::<Presence>("presence.offline").about("A user went."),
        live::<CallIncoming>("call.incoming"),
        live::<CallOffered>("call.offer"),
        live::<CallAnswered>("call.answer"),
        live::<CallCandidate>("call.ice"),
        live::<CallEnded>("call.ended"),
        // What answers requests.
        answer::<ChatAck>("chat.ack"),
        answer::<Nothing>("pong"),
        answer::<HeartbeatAnswer>("heartbeat"),
        answer::<AuthSuccess>("auth.success"),
        answer::<CommandAccepted>("command.accepted"),
        answer::<CommandQueue>("command.queue"),
        answer::<CommandCompleted>("command.completed"),
        answer::<CommandStatus>("command.status"),
        answer::<Preferences>("preferences"),
        answer::<ChatAccepted>("chat.accepted"),
        answer::<MessageEditDone>("message.edited"),
        answer::<MessageDeleteDone>("message.deleted"),
        answer::<Receipt>("message.delivered"),
        answer::<Receipt>("message.read"),
        answer::<ConversationNamed>("typing.start"),
        answer::<ConversationNamed>("typing.stop"),
        answer::<CallNamed>("call.ringing").about("The callee is told, or cannot be: then `call.ended` says why."),
        answer::<CallNamed>("call.answer").about("The call is taken."),
        answer::<CallNamed>("call.ice").about("It is told, or will be after the answer."),
        answer::<CallOver>("call.ended"),
        answer::<StompRefused>("error"),
    ],
};

/// The body stands alone.
fn envelope(_: &Message, payload: &Value) -> Value {
    payload.clone()
}

/// A message to a conversation, or to a user.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ChatSend {
    /// This or `targetUser`.
    pub conversation_id: Option<Id>,
    pub target_user: Option<Id>,
    pub content: String,
    pub message_type: Option<SaidType>,
    #[schema(max_items = 10)]
    pub files: Option<Vec<FileRef>>,
    pub durability: Option<Durability>,
}

/// Whether somebody types.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ChatTyping {
    pub conversation_id: Id,
    pub is_typing: bool,
}

/// The message stands in the conversation's log.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ChatAck {
    pub message_id: Id,
    /// The SEND's `client-id`, else its receipt; null without either.
    #[schema(required = true)]
    pub client_id: Option<String>,
    pub status: MessageStatus,
}

/// How far a message has come.
#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
pub enum MessageStatus {
    Sent,
    Delivered,
    Read,
}

/// A refusal.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct StompRefused {
    pub code: Code,
    /// For people.
    pub message: String,
    /// When to try again.
    pub retry_after_ms: Option<u64>,
    /// That of the SEND, as in `chat.ack`.
    pub client_id: Option<String>,
}

/// A message, as in the history.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct StompMessage {
    pub id: Id,
    pub conversation_id: Id,
    pub sender_id: Id,
    pub sender_name: String,
    pub sender_type: SenderType,
    pub content: String,
    pub message_type: MessageType,
    pub status: MessageStatus,
    pub created_at: Time,
    #[schema(required = true)]
    pub edited_at: Option<Time>,
    pub is_deleted: bool,
    pub files: Vec<FileRef>,
    pub change: Option<Change>,
}
