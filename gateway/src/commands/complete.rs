//! `command.complete`: the recipient is done with a command.
//!
//! Naturally idempotent: the first final state of a command counts, and asking for the same
//! one again gets the first answer.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use shared::{
    domain::{
        Code, CommandState, CommandStatus, Digest, Kind, MessageId, Position, Refusal, Timestamp,
        Topic, UserId,
    },
    redis::{Append, Appended, IdempotencyKey},
};

use super::{Asker, Reply, find};
use crate::{
    app::App,
    dialect::{Json, Request},
    fanout::store_refusal,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ById {
    pub(super) command_id: String,
}

impl ById {
    pub(super) fn id(&self) -> Result<MessageId, Refusal> {
        let not_an_id = |_| Refusal::new(Code::BadRequest, "commandId: not a command id");
        self.command_id.parse().map_err(not_an_id)
    }
}

pub(super) async fn run(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let id = request.body.parse::<ById>()?.id()?;
    let position = match locate(app, caller.user, id).await? {
        Located::At(position) => position,
        Located::Completed(at) => return Ok(completed(id, at)),
    };
    let state = CommandState::Completed;
    let append = final_state(app, id, caller.user, state, position, None);
    match app
        .store
        .append_from_reserve(append)
        .await
        .map_err(|error| store_refusal(&error))?
    {
        Appended::New { at, .. } | Appended::Duplicate { at, .. } => Ok(completed(id, at)),
        Appended::Conflict { .. } => Err(Refusal::new(Code::Conflict, "the command has ended")),
        Appended::Delivered => Err(Refusal::new(Code::Internal, "internal error")),
    }
}

enum Located {
    At(Position),
    Completed(Timestamp),
}

/// Where the command stands in its recipient's log: usually still in Redis.
async fn locate(app: &Arc<App>, recipient: UserId, id: MessageId) -> Result<Located, Refusal> {
    let topic = Topic::User(recipient);
    let found = app
        .store
        .find(topic, id)
        .await
        .map_err(|error| store_refusal(&error))?;
    if let Some(entry) = found.filter(|entry| entry.kind == Kind::CommandNew) {
        return Ok(Located::At(entry.position));
    }
    // Ended, or older than what is searched. The first final state decides below, so what
    // the record says may lag.
    let command = find::stored(app, id).await?;
    if command.body.recipient_id != Some(recipient) {
        return Err(find::not_found());
    }
    match (command.state, command.completed_at) {
        (CommandState::Completed, Some(at)) => Ok(Located::Completed(at)),
        (state, _) if state.is_final() => Err(Refusal::new(
            Code::Conflict,
            format!("the command is {state}"),
        )),
        _ => Ok(Located::At(command.position)),
    }
}

/// The entry that ends a command, in its recipient's log, whoever ends it.
pub(super) fn final_state(
    app: &App,
    id: MessageId,
    recipient: UserId,
    status: CommandState,
    position: Position,
    unless_delivered: Option<Position>,
) -> Append {
    let body = CommandStatus {
        command_id: id,
        recipient_id: Some(recipient),
        status,
        broadcast: None,
        categories: Vec::new(),
        at: None,
    };
    Append {
        topic: Topic::User(recipient),
        kind: Kind::CommandStatus,
        body: serde_json::to_vec(&body).unwrap_or_default().into(),
        key: IdempotencyKey::end_of(id, Some(recipient)),
        digest: Digest::of(status.as_str().as_bytes()),
        durability: app.durability,
        remove: Some(position),
        unless_delivered,
    }
}

fn completed(id: MessageId, at: Timestamp) -> Reply {
    let payload = json!({ "commandId": id, "completedAt": at });
    Reply::acknowledge("command.completed", Json::of(&payload))
}
