//! The entries that end a command. Whichever is first under its key counts.

use shared::{
    domain::{
        Broadcast, CommandState, CommandStatus, Digest, Kind, MessageId, Position, Topic, UserId,
    },
    redis::{Append, IdempotencyKey},
};

use super::broadcast::Sent;
use crate::app::App;

/// Ends a direct command, in its recipient's log, whoever ends it.
pub(super) fn of_direct(
    app: &App,
    id: MessageId,
    recipient: UserId,
    status: CommandState,
    position: Position,
) -> Append {
    Append {
        remove: Some(position),
        ..of_recipient(app, id, recipient, status, None)
    }
}

/// Says that a recipient completed a broadcast, in their own log. Others still have it.
pub(super) fn completed_by(app: &App, sent: &Sent, recipient: UserId) -> Append {
    let status = CommandState::Completed;
    of_recipient(app, sent.id, recipient, status, Some(sent.audience))
}

/// Takes a broadcast from everybody, in the log of broadcasts.
pub(super) fn cancelled(app: &App, sent: &Sent) -> Append {
    let told = CommandStatus {
        command_id: sent.id,
        recipient_id: None,
        status: CommandState::Cancelled,
        broadcast: Some(sent.audience),
        categories: sent.categories.clone(),
        at: None,
    };
    Append {
        remove: Some(sent.position),
        ..entry(app, Topic::Broadcast, &told)
    }
}

fn of_recipient(
    app: &App,
    id: MessageId,
    recipient: UserId,
    status: CommandState,
    broadcast: Option<Broadcast>,
) -> Append {
    let told = CommandStatus {
        command_id: id,
        recipient_id: Some(recipient),
        status,
        broadcast,
        categories: Vec::new(),
        at: None,
    };
    entry(app, Topic::User(recipient), &told)
}

fn entry(app: &App, topic: Topic, told: &CommandStatus) -> Append {
    Append::new(
        topic,
        Kind::CommandStatus,
        serde_json::to_vec(told).unwrap_or_default(),
        IdempotencyKey::end_of(told.command_id, told.recipient_id),
        Digest::of(told.status.as_str().as_bytes()),
        app.durability,
    )
}
