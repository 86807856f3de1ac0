//! `command.complete`: a recipient is done with a command.
//!
//! Naturally idempotent: the first final state of a command counts, and asking for the same
//! one again gets the first answer. A broadcast is completed by each recipient for themselves, in
//! their own log, so two who complete it have nothing to do with each other.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use shared::{
    domain::{Code, CommandState, Kind, MessageId, Position, Refusal, Timestamp, Topic, UserId},
    redis::{Append, Appended, IdempotencyKey},
};

use super::{
    Asker, Reply,
    broadcast::{self, Sent, remembers},
    end, find, record,
};
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
    let user = caller.user;
    let at = match locate(app, user, id).await? {
        Located::At(position) => {
            let state = CommandState::Completed;
            append(app, end::of_direct(app, id, user, state, position)).await?
        }
        Located::Completed(at) => at,
        Located::Broadcast(sent) => complete_broadcast(app, user, &sent).await?,
    };
    let payload = json!({ "commandId": id, "completedAt": at });
    Ok(Reply::acknowledge("command.completed", Json::of(&payload)))
}

async fn append(app: &App, append: Append) -> Result<Timestamp, Refusal> {
    match app
        .store
        .append_from_reserve(append)
        .await
        .map_err(|error| store_refusal(&error))?
    {
        Appended::New { at, .. } | Appended::Duplicate { at, .. } => Ok(at),
        Appended::Conflict { .. } => Err(has_ended()),
        Appended::Delivered | Appended::Outdated => {
            Err(Refusal::new(Code::Internal, "internal error"))
        }
    }
}

enum Located {
    /// In the log of its one recipient.
    At(Position),
    /// Done before, says the record.
    Completed(Timestamp),
    /// One for many.
    Broadcast(Sent),
}

/// Where the command stands: usually still in Redis.
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
    if let Some(sent) = broadcast::recent(app, id).await? {
        return Ok(Located::Broadcast(sent));
    }
    // Ended, or older than what is searched. The first final state decides below, so what
    // the record says may lag.
    let command = find::stored(app, id).await?;
    if command.body.recipient_id.is_none() {
        return Ok(Located::Broadcast(Sent::stored(command)));
    }
    if command.body.recipient_id != Some(recipient) {
        return Err(find::not_found());
    }
    match (command.state, command.completed_at) {
        (CommandState::Completed, Some(at)) => Ok(Located::Completed(at)),
        (state, _) if state.is_final() => Err(has_become(state)),
        _ => Ok(Located::At(command.position)),
    }
}

/// Appends to the recipient's log, or finds when that was done.
async fn complete_broadcast(app: &App, user: UserId, sent: &Sent) -> Result<Timestamp, Refusal> {
    let completion = end::completed_by(app, sent, user);
    let reaches = sent.reaches(app, user).await?;
    let decided_by_key = reaches && sent.is_in_log && sent.is_young(app);
    if decided_by_key || remembers(app, Topic::User(user), &completion.key).await? {
        return append(app, completion).await;
    }
    let row = record::state_of(app, user, sent.id).await?;
    if let Some(at) = row.and_then(|row| row.completed_at) {
        return Ok(at);
    }
    if !reaches && row.is_none() {
        return Err(find::not_found());
    }
    if let Some(state) = sent.ended {
        return Err(has_become(state));
    }
    let end = IdempotencyKey::end_of(sent.id, None);
    if !sent.is_in_log && remembers(app, Topic::Broadcast, &end).await? {
        return Err(has_ended());
    }
    append(app, completion).await
}

fn has_ended() -> Refusal {
    Refusal::new(Code::Conflict, "the command has ended")
}

fn has_become(state: CommandState) -> Refusal {
    Refusal::new(Code::Conflict, format!("the command is {state}"))
}
