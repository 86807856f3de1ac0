//! `command.create`: a command for another user, or for many.
//!
//! One atomic step in Redis checks the idempotency key, appends to the recipient's log and
//! rings. A command for many is no more work: it is stored once, in the log of broadcasts that
//! every node follows, and whom it reaches is decided where it is delivered.
//!
//! The key is the sender and the client's id, and lives in the partition of the log, since only
//! what is in one partition can be one step. So a client that uses an id again *for another
//! recipient*, or for many, is not found out by Redis: on the same node
//! [`crate::app::ReusedIds`] remembers and answers `conflict`; on another node the second command
//! is a command of its own. Nothing is lost or doubled by that, only a client's mistake goes
//! unnoticed; a second step in the sender's partition would cost every command a round trip to
//! notice it.
//!
//! A retry may come when what was good is so no more: the command's time has passed, a category
//! was retired. It gets the first answer all the same, so in that case, and only then, the key is
//! looked up before the request is refused. Not so a sender who has lost the right to send.

#[cfg(test)]
mod fuzz;
mod valid;

use std::sync::Arc;

use serde_json::json;
use shared::{
    domain::{Code, CommandBody, Kind, MessageId, Refusal},
    postgres::UserStatus,
    redis::{Append, Appended, IdempotencyKey},
};
use uuid::Uuid;

use super::{Asker, Reply};
use crate::{
    app::{App, Bucket, Profile},
    dialect::{Json, Request},
    fanout::store_refusal,
};
pub(super) use valid::LIFETIME;
use valid::{Audience, Create, Valid, bad};

pub(super) async fn run(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let now = app.store.clock().now();
    let valid = request.body.parse::<Create<'_>>()?.validate(now)?;
    let sender = may_send(app, caller, valid.audience).await?;
    let topic = valid.audience.topic();
    let reused = request
        .id
        .as_ref()
        .map(|id| app.reused_ids.slot(caller.user, id));
    if reused.as_ref().is_some_and(|it| it.is_for_another(topic)) {
        return Err(other_body());
    }

    let key = key_of(caller, request);
    if let Some(refusal) = objection(app, &valid) {
        let remembered = app.store.remembers(topic, &key).await;
        if !remembered.map_err(|error| store_refusal(&error))? {
            return Err(refusal);
        }
    }
    app.limiter
        .take(caller.user, bucket(valid.audience))
        .await?;
    let (digest, durability) = (valid.digest(), valid.durability(app.durability));
    let body = CommandBody {
        expires_at: valid.expires_at(now),
        command_type: valid.command_type,
        content: valid.content,
        data: valid.data.map(ToOwned::to_owned),
        sender_id: caller.user,
        sender_name: sender.name.clone(),
        broadcast: valid.audience.broadcast(),
        recipient_id: valid.audience.recipient(),
        categories: valid.categories,
        files: Vec::new(),
    };
    let body = serde_json::to_vec(&body).map_err(|_| bad("not representable"))?;
    let append = Append::new(topic, Kind::CommandNew, body, key, digest, durability);
    match app
        .store
        .append(append)
        .await
        .map_err(|error| store_refusal(&error))?
    {
        Appended::New { id, .. } | Appended::Duplicate { id, .. } => {
            // Not at `info`: a line takes a fifth of the time of everything else.
            tracing::debug!(event = "publish", command = %id, to = %topic, "command accepted");
            if let Some(slot) = reused {
                slot.remember(topic);
            }
            Ok(accepted(id))
        }
        Appended::Conflict { .. } => Err(other_body()),
        Appended::Delivered | Appended::Outdated => {
            Err(Refusal::new(Code::Internal, "internal error"))
        }
    }
}

/// Who sends, if they may send to this audience.
async fn may_send(app: &App, caller: &Asker, audience: Audience) -> Result<Arc<Profile>, Refusal> {
    let sender = match audience {
        Audience::User(recipient) => {
            let (sender, recipient) =
                tokio::try_join!(app.users.get(caller.user), app.users.get(recipient))?;
            if sender.status != UserStatus::Banned && recipient.status == UserStatus::Banned {
                return Err(Refusal::new(Code::NotFound, "no such user"));
            }
            sender
        }
        // The right counts, or counts no longer, as soon as it was given or taken.
        Audience::Allcast if !caller.may_allcast() => app.users.get_fresh(caller.user).await?,
        Audience::Category | Audience::Allcast => app.users.get(caller.user).await?,
    };
    if sender.status == UserStatus::Banned {
        return Err(Refusal::new(Code::Forbidden, "banned"));
    }
    if audience == Audience::Allcast && !(caller.may_allcast() || sender.may_allcast) {
        return Err(Refusal::new(
            Code::Forbidden,
            "broadcast: only members of a group with that right may allcast",
        ));
    }
    Ok(sender)
}

/// What speaks against the request now, though it need not have when it was first made.
fn objection(app: &App, valid: &Valid<'_>) -> Option<Refusal> {
    if valid.is_late {
        return Some(bad("expiresAt: not in the future"));
    }
    app.directory.check_tags(&valid.categories).err()
}

/// What it counts against, beside what all requests do.
fn bucket(audience: Audience) -> Bucket {
    match audience {
        Audience::User(_) => Bucket::Commands,
        Audience::Category | Audience::Allcast => Bucket::Broadcasts,
    }
}

/// Under which a second try of the caller is recognised.
pub(super) fn key_of(caller: &Asker, request: &Request) -> IdempotencyKey {
    IdempotencyKey(match &request.id {
        Some(id) => format!("{}:{id}", caller.user),
        None => format!("once:{}", Uuid::from_u128(rand::random())),
    })
}

fn accepted(id: MessageId) -> Reply {
    let payload = json!({ "commandId": id, "status": "pending" });
    Reply::acknowledge("command.accepted", Json::of(&payload))
}

pub(super) fn other_body() -> Refusal {
    Refusal::new(Code::Conflict, "this id was used for another request")
}
