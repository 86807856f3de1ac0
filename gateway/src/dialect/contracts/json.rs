//! The messages of the JSON dialect.

use serde_json::{Value, json};

#[allow(clippy::wildcard_imports, reason = "a table of everything in there")]
use super::payloads::*;
use super::{Dialect, Form, Message, answer, entry, live, request, said};

pub(super) static DIALECT: Dialect = Dialect {
    name: "json",
    summary: "Everything over the socket.",
    subprotocol: "tidegate.json.v1",
    content_type: "application/json",
    envelope,
    messages: &[
        request::<Nothing>("ping", "pong").about("Asks for a sign of life."),
        request::<HeartbeatAsked>("heartbeat", "heartbeat"),
        request::<Authenticate>("authenticate", "auth.success"),
        request::<Subscribe>("subscribe", "subscribed"),
        request::<Subscribe>("unsubscribe", "unsubscribed").about("What a client hears no more."),
        said::<Ack>("ack"),
        request::<CommandCreate>("command.create", "command.accepted"),
        request::<CommandQueueAsked>("command.queue", "command.queue"),
        request::<CommandNamed>("command.complete", "command.completed")
            .about("The caller is done with a command."),
        request::<CommandNamed>("command.cancel", "command.status")
            .about("The sender takes a command back; a direct one before delivery."),
        request::<Nothing>("preferences.get", "preferences")
            .about("Asks for the choice of the user."),
        request::<PreferencesUpdate>("preferences.update", "preferences"),
        request::<ChatMessage>("chat.message", "chat.accepted"),
        request::<MessageEdit>("message.edit", "message.edited"),
        request::<MessageDelete>("message.delete", "message.deleted"),
        request::<Mark>("mark.delivered", "message.delivered")
            .about("The caller has these messages, or all up to one."),
        request::<Mark>("mark.read", "message.read")
            .about("The caller has read these messages, or all up to one."),
        request::<ConversationNamed>("typing.start", "typing.start")
            .about("The caller types; for 6 s unless it is said again."),
        request::<ConversationNamed>("typing.stop", "typing.stop")
            .about("The caller types no more."),
        request::<CallOffer>("call.offer", "call.ringing"),
        request::<CallAnswer>("call.answer", "call.answer"),
        request::<CallIce>("call.ice", "call.ice"),
        request::<CallHangup>("call.hangup", "call.ended"),
        // What comes by itself.
        live::<Connected>("connected"),
        live::<Draining>("server.draining"),
        entry::<CommandNew>("command.new"),
        entry::<CommandStatus>("command.status"),
        entry::<CommandExpired>("command.expired"),
        entry::<Preferences>("preferences").about("The user chose anew, on whatever device."),
        entry::<Notification>("notification"),
        entry::<MessageNew>("message.new"),
        entry::<MessageEdited>("message.edited"),
        entry::<MessageDeleted>("message.deleted"),
        entry::<Receipt>("message.delivered")
            .about("Somebody has these messages, or all up to one."),
        entry::<Receipt>("message.read")
            .about("Somebody has read these messages, or all up to one."),
        live::<Typing>("typing.start").about("Somebody types."),
        live::<Typing>("typing.stop").about("They do no more."),
        live::<Unsubscribed>("unsubscribed").about("The right to hear something was lost."),
        live::<Presence>("presence.update").about("A user appears otherwise."),
        live::<Presence>("presence.online").about("A user came."),
        live::<Presence>("presence.offline").about("A user went."),
        live::<CallIncoming>("call.incoming"),
        live::<CallOffered>("call.offer"),
        live::<CallAnswered>("call.answer"),
        live::<CallCandidate>("call.ice"),
        live::<CallEnded>("call.ended"),
        // What answers requests.
        answer::<Nothing>("pong").about("A sign of life."),
        answer::<HeartbeatAnswer>("heartbeat"),
        answer::<AuthSuccess>("auth.success"),
        answer::<Refused>("auth.failed").about("The token is not accepted."),
        answer::<Subscribed>("subscribed"),
        answer::<Unsubscribed>("unsubscribed"),
        answer::<CommandAccepted>("command.accepted"),
        answer::<CommandQueue>("command.queue"),
        answer::<CommandCompleted>("command.completed"),
        answer::<CommandStatus>("command.status").about("The command is cancelled."),
        answer::<Preferences>("preferences"),
        answer::<ChatAccepted>("chat.accepted"),
        answer::<MessageEditDone>("message.edited"),
        answer::<MessageDeleteDone>("message.deleted"),
        answer::<Receipt>("message.delivered").about("It is told."),
        answer::<Receipt>("message.read").about("It is told."),
        answer::<ConversationNamed>("typing.start").about("It is told."),
        answer::<ConversationNamed>("typing.stop").about("It is told."),
        answer::<CallNamed>("call.ringing")
            .about("The callee is told, or cannot be: then `call.ended` says why."),
        answer::<CallNamed>("call.answer").about("The call is taken."),
        answer::<CallNamed>("call.ice").about("It is told, or will be after the answer."),
        answer::<CallOver>("call.ended"),
        answer::<Refused>("error"),
    ],
};

/// `{"type", "payload"}`, and what the form of the message adds.
fn envelope(message: &Message, payload: &Value) -> Value {
    let client_id = || json!({"type": "string", "minLength": 1, "maxLength": 64});
    let mut required = vec!["type", "payload"];
    let mut fields = json!({"type": {"const": message.name}, "payload": payload});
    match message.form {
        Form::Request { .. } => {
            fields["id"] = client_id();
            fields["timestamp"] = json!({"type": "string"});
            // What has no required field may be left away as a whole.
            required.pop();
        }
        Form::Answer => fields["replyTo"] = client_id(),
        Form::Entry => {
            fields["id"] = json!({"$ref": "#/$defs/Id"});
            fields["topic"] = json!({"$ref": "#/$defs/Topic"});
            for number in ["epoch", "offset"] {
                fields[number] = json!({"type": "integer", "minimum": 0});
            }
            required.extend(["id", "topic", "epoch", "offset"]);
        }
        Form::Live => {}
    }
    json!({"type": "object", "properties": fields, "required": required})
}
