//! `command.cancel`: the sender takes a command back. A direct one as long as nobody confirmed
//! it; a broadcast at any time, from everybody who does not have it yet.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use shared::{
    domain::{Broadcast, Code, CommandState, MessageId, Refusal, Timestamp, Topic, UserId},
    postgres::StoredCommand,
    redis::{Append, Appended, StoreError},
};

use super::{
    Asker, Reply,
    broadcast::{self, Sent, remembers},
    complete::ById,
    end, find, record,
};
use crate::{
    app::App,
    dialect::{Json, Request},
    fanout::{postgres_refusal, store_refusal},
};

/// Longest wait for a confirmation to reach Postgres.
const WRITE_BEHIND: Duration = Duration::from_secs(2);

/// What the sender is told, as in the entries of their log.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cancelled {
    command_id: MessageId,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_id: Option<UserId>,
    status: CommandState,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    broadcast: Option<Broadcast>,
}

pub(super) async fn run(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let id = request.body.parse::<ById>()?.id()?;
    if let Some(sent) = broadcast::recent(app, id).await? {
        return of_broadcast(app, caller.user, &sent).await;
    }
    // Only the record knows whose log a direct command is in.
    let command = find::stored(app, id).await?;
    match command.body.recipient_id {
        Some(recipient) => of_direct(app, caller.user, recipient, &command).await,
        None => of_broadcast(app, caller.user, &Sent::stored(command)).await,
    }
}

async fn of_direct(
    app: &App,
    user: UserId,
    recipient: UserId,
    command: &StoredCommand,
) -> Result<Reply, Refusal> {
    if command.body.sender_id != user {
        return Err(if recipient == user {
            not_yours()
        } else {
            find::not_found()
        });
    }
    if !matches!(
        command.state,
        CommandState::Pending | CommandState::Cancelled
    ) {
        return Err(has_become(command.state));
    }
    // Also of one that is cancelled already: the key brings back the first answer.
    let position = command.position;
    let status = CommandState::Cancelled;
    let append = end::of_direct(app, command.id, recipient, status, position);
    let guarded = Append {
        unless_delivered: Some(position),
        ..append.clone()
    };
    let at = match append_end(app, guarded).await? {
        Some(at) => at,
        None if was_passed_over(app, recipient, command).await? => {
            append_end(app, append).await?.ok_or_else(internal)?
        }
        None => return Err(has_become(CommandState::Delivered)),
    };
    Ok(answer(&Cancelled {
        command_id: command.id,
        recipient_id: Some(recipient),
        status,
        at,
        broadcast: None,
    }))
}

/// Devices confirm also what their user's preferences kept from them. Whether a command behind which
/// they have come was among that, the record knows once it has the confirmation, and for good:
/// only the first to go past it tells.
async fn was_passed_over(
    app: &App,
    recipient: UserId,
    command: &StoredCommand,
) -> Result<bool, Refusal> {
    if command.body.categories.is_empty() {
        return Ok(false);
    }
    let written = app.store.all_stored(Topic::User(recipient), WRITE_BEHIND);
    written.await.map_err(|error| match error {
        StoreError::Unknown(_) => {
            let message = "whether the command was delivered is not known yet";
            Refusal::new(Code::Unavailable, message).retry_after(WRITE_BEHIND)
        }
        error => store_refusal(&error),
    })?;
    let found = app.postgres.command(command.id).await;
    let found = found.map_err(|error| postgres_refusal(&error))?;
    match found.map(|command| command.state) {
        // Cancelled meanwhile: the key brings back the first answer.
        Some(CommandState::Pending | CommandState::Cancelled) => Ok(true),
        Some(state) => Err(has_become(state)),
        None => Err(find::not_found()),
    }
}

async fn of_broadcast(app: &App, user: UserId, sent: &Sent) -> Result<Reply, Refusal> {
    if sent.sender != user {
        let is_theirs =
            sent.reaches(app, user).await? || record::state_of(app, user, sent.id).await?.is_some();
        return Err(if is_theirs {
            not_yours()
        } else {
            find::not_found()
        });
    }
    let append = end::cancelled(app, sent);
    let at = match sent.ended {
        None => append_end(app, append).await?.ok_or_else(internal)?,
        // Brings back the first answer.
        Some(CommandState::Cancelled) if remembers(app, append.topic, &append.key).await? => {
            append_end(app, append).await?.ok_or_else(internal)?
        }
        Some(state) => return Err(has_become(state)),
    };
    Ok(answer(&Cancelled {
        command_id: sent.id,
        recipient_id: None,
        status: CommandState::Cancelled,
        at,
        broadcast: Some(sent.audience),
    }))
}

/// When the command was cancelled. `None`: it is guarded, and a device has come past it.
async fn append_end(app: &App, append: Append) -> Result<Option<Timestamp>, Refusal> {
    match app
        .store
        .append_from_reserve(append)
        .await
        .map_err(|error| store_refusal(&error))?
    {
        Appended::New { at, .. } | Appended::Duplicate { at, .. } => Ok(Some(at)),
        Appended::Conflict { .. } => Err(Refusal::new(Code::Conflict, "the command has ended")),
        Appended::Delivered => Ok(None),
        Appended::Outdated => Err(internal()),
    }
}

fn internal() -> Refusal {
    Refusal::new(Code::Internal, "internal error")
}

fn not_yours() -> Refusal {
    Refusal::new(Code::Forbidden, "only the sender may cancel a command")
}

fn has_become(state: CommandState) -> Refusal {
    Refusal::new(Code::Conflict, format!("the command is {state}"))
}

fn answer(cancelled: &Cancelled) -> Reply {
    Reply::acknowledge("command.status", Json::of(cancelled))
}
