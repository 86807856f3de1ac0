//! `command.cancel`: the sender takes a command back, as long as nobody confirmed it.

use std::sync::Arc;

use serde_json::json;
use shared::{
    domain::{Code, CommandState, MessageId, Refusal, Timestamp, UserId},
    redis::Appended,
};

use super::{
    Asker, Reply,
    complete::{ById, final_state},
    find,
};
use crate::{
    app::App,
    dialect::{Json, Request},
    fanout::store_refusal,
};

pub(super) async fn run(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let id = request.body.parse::<ById>()?.id()?;
    // Only the record knows whose log a command is in.
    let command = find::stored(app, id).await?;
    let recipient = command.body.recipient_id.ok_or_else(find::not_found)?;
    if command.body.sender_id != caller.user {
        return Err(if recipient == caller.user {
            Refusal::new(Code::Forbidden, "only the sender may cancel a command")
        } else {
            find::not_found()
        });
    }
    match command.state {
        CommandState::Pending | CommandState::Cancelled => {}
        state => {
            return Err(Refusal::new(
                Code::Conflict,
                format!("the command is {state}"),
            ));
        }
    }
    // Also of one that is cancelled already: the key brings back the first answer.
    let position = command.position;
    let state = CommandState::Cancelled;
    let append = final_state(app, id, recipient, state, position, Some(position));
    match app
        .store
        .append_from_reserve(append)
        .await
        .map_err(|error| store_refusal(&error))?
    {
        Appended::New { at, .. } | Appended::Duplicate { at, .. } => {
            Ok(cancelled(id, recipient, at))
        }
        Appended::Conflict { .. } => Err(Refusal::new(Code::Conflict, "the command has ended")),
        Appended::Delivered => Err(Refusal::new(Code::Conflict, "the command is delivered")),
    }
}

fn cancelled(id: MessageId, recipient: UserId, at: Timestamp) -> Reply {
    let payload = json!({
        "commandId": id,
        "recipientId": recipient,
        "status": CommandState::Cancelled,
        "at": at,
    });
    Reply::acknowledge("command.status", Json::of(&payload))
}
