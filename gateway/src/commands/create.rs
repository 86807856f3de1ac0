//! `command.create`: a command for another user.
//!
//! One atomic step in Redis checks the idempotency key, appends to the recipient's log and
//! rings. The key is the sender and the client's id, and lives in the recipient's partition,
//! since only what is in one partition can be one step. So a client that uses an id again *for
//! another recipient* is not found out by Redis: on the same node [`crate::app::ReusedIds`]
//! remembers and answers `conflict`; on another node the second command is a command of its
//! own. Nothing is lost or doubled by that, only a client's mistake goes unnoticed; a
//! second step in the sender's partition would cost every command a round trip to notice it.
//!
//! A retry may come when the command's time has passed. It gets the first answer all the same,
//! so in that case, and only then, the key is looked up before the request is refused.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use shared::{
    domain::{
        Broadcast, Category, Code, CommandBody, CommandType, Digest, Durability, FileRef, Kind,
        MAX_CATEGORIES, MAX_CONTENT_BYTES, MessageId, Refusal, Timestamp, Topic, UserId,
    },
    postgres::UserStatus,
    redis::{Append, Appended, IdempotencyKey},
};
use uuid::Uuid;

use super::{Asker, Reply};
use crate::{
    app::App,
    dialect::{Json, Request},
    fanout::store_refusal,
};

/// How long a command is worth delivering unless its sender says less.
const LIFETIME: Duration = Duration::from_hours(14 * 24);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Create<'a> {
    command_type: CommandType,
    content: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default = "user_broadcast")]
    broadcast: String,
    target_user: Option<String>,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    files: Vec<FileRef>,
    expires_at: Option<String>,
    durability: Option<Durability>,
}

fn user_broadcast() -> String {
    Broadcast::User.as_str().to_owned()
}

/// A request that keeps all rules.
#[derive(Debug)]
pub(super) struct Valid<'a> {
    command_type: CommandType,
    content: String,
    data: Option<&'a RawValue>,
    recipient: UserId,
    categories: Vec<Category>,
    /// Only if the client said so.
    expires_at: Option<Timestamp>,
    /// That time has passed: good only as a retry of what was accepted before.
    is_late: bool,
    durability: Option<Durability>,
}

/// What makes two requests the same, whatever the order of their fields. Without what the
/// server adds, which differs from one try to the next.
#[derive(Serialize)]
struct Canonical<'a> {
    command_type: CommandType,
    content: &'a str,
    data: Option<&'a RawValue>,
    recipient: UserId,
    categories: &'a [Category],
    expires_at: Option<Timestamp>,
}

fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::BadRequest, message)
}

impl<'a> Create<'a> {
    /// Holds the request to the rules; `now` is Redis' time of day.
    pub(super) fn validate(self, now: Timestamp) -> Result<Valid<'a>, Refusal> {
        match self.broadcast.as_str() {
            "user" => {}
            "category" | "allcast" => return Err(bad("broadcast: not served yet")),
            _ => return Err(bad("broadcast: expected user, category or allcast")),
        }
        let recipient = self.target_user.ok_or_else(|| bad("targetUser: missing"))?;
        let recipient = recipient
            .parse()
            .map_err(|_| bad("targetUser: not a user id"))?;
        if self.content.len() > MAX_CONTENT_BYTES {
            let message = format!("content: more than {MAX_CONTENT_BYTES} bytes");
            return Err(Refusal::new(Code::TooLarge, message));
        }
        if self.content.contains('\0') {
            return Err(bad("content: contains NUL"));
        }
        if self.categories.len() > MAX_CATEGORIES {
            return Err(bad(format!("categories: more than {MAX_CATEGORIES}")));
        }
        let categories = self
            .categories
            .iter()
            .map(|tag| tag.parse())
            .collect::<Result<Vec<Category>, _>>()
            .map_err(|_| bad("categories: a tag is 1 to 32 of [a-z0-9_-]"))?;
        if !self.files.is_empty() {
            return Err(bad("files: not served yet"));
        }
        let expires_at = self.expires_at.map(|text| {
            Timestamp::parse(&text).ok_or_else(|| bad("expiresAt: not an RFC 3339 time"))
        });
        let expires_at = expires_at.transpose()?;
        if expires_at.is_some_and(|at| at > expiry(now)) {
            return Err(bad("expiresAt: more than 14 days ahead"));
        }
        Ok(Valid {
            command_type: self.command_type,
            content: self.content,
            data: self.data,
            recipient,
            categories,
            expires_at,
            is_late: expires_at.is_some_and(|at| at <= now),
            durability: self.durability,
        })
    }
}

fn expiry(now: Timestamp) -> Timestamp {
    Timestamp(now.0 + LIFETIME.as_millis() as i64)
}

impl Valid<'_> {
    /// A request may ask for more than the deployment's level, never for less.
    fn durability(&self, least: Durability) -> Durability {
        self.durability.map_or(least, |asked| asked.max(least))
    }

    pub(super) fn digest(&self) -> Digest {
        let canonical = Canonical {
            command_type: self.command_type,
            content: &self.content,
            data: self.data,
            recipient: self.recipient,
            categories: &self.categories,
            expires_at: self.expires_at,
        };
        Digest::of(&serde_json::to_vec(&canonical).unwrap_or_default())
    }
}

pub(super) async fn run(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let now = app.store.clock().now();
    let valid = request.body.parse::<Create<'_>>()?.validate(now)?;
    let (sender, recipient) =
        tokio::try_join!(app.users.get(caller.user), app.users.get(valid.recipient),)?;
    if sender.status == UserStatus::Banned {
        return Err(Refusal::new(Code::Forbidden, "banned"));
    }
    if recipient.status == UserStatus::Banned {
        return Err(Refusal::new(Code::NotFound, "no such user"));
    }
    let reused = request
        .id
        .as_ref()
        .map(|id| app.reused_ids.slot(caller.user, id));
    if reused
        .as_ref()
        .is_some_and(|slot| slot.is_for_another(valid.recipient))
    {
        return Err(other_body());
    }

    let recipient_id = valid.recipient;
    let topic = Topic::User(recipient_id);
    let digest = valid.digest();
    let durability = valid.durability(app.durability);
    let key = IdempotencyKey(match &request.id {
        Some(id) => format!("{}:{id}", caller.user),
        None => format!("once:{}", Uuid::from_u128(rand::random())),
    });
    if valid.is_late {
        let remembered = app.store.remembers(topic, &key).await;
        if !remembered.map_err(|error| store_refusal(&error))? {
            return Err(bad("expiresAt: not in the future"));
        }
    }
    let body = CommandBody {
        command_type: valid.command_type,
        content: valid.content,
        data: valid.data.map(ToOwned::to_owned),
        sender_id: caller.user,
        sender_name: sender.name.clone(),
        broadcast: Broadcast::User,
        recipient_id: Some(recipient_id),
        categories: valid.categories,
        files: Vec::new(),
        expires_at: valid.expires_at.unwrap_or(expiry(now)),
    };
    let append = Append {
        topic,
        kind: Kind::CommandNew,
        body: serde_json::to_vec(&body)
            .map_err(|_| bad("not representable"))?
            .into(),
        key,
        digest,
        durability,
        remove: None,
        unless_delivered: None,
    };
    match app
        .store
        .append(append)
        .await
        .map_err(|error| store_refusal(&error))?
    {
        Appended::New { id, .. } | Appended::Duplicate { id, .. } => {
            // Not at `info`: a line takes a fifth of the time of everything else.
            tracing::debug!(command = %id, recipient = %recipient_id, "command accepted");
            if let Some(slot) = reused {
                slot.remember(recipient_id);
            }
            Ok(accepted(id))
        }
        Appended::Conflict { .. } => Err(other_body()),
        Appended::Delivered => Err(Refusal::new(Code::Internal, "internal error")),
    }
}

fn accepted(id: MessageId) -> Reply {
    let payload = json!({ "commandId": id, "status": "pending" });
    Reply::acknowledge("command.accepted", Json::of(&payload))
}

fn other_body() -> Refusal {
    Refusal::new(Code::Conflict, "this id was used for another request")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_only_ask_for_more_durability() {
        use Durability::{Durable, Memory, Stored};
        let level = |asked, least| {
            let valid = Valid {
                command_type: CommandType::Message,
                content: String::new(),
                data: None,
                recipient: UserId(Uuid::nil()),
                categories: Vec::new(),
                expires_at: None,
                is_late: false,
                durability: asked,
            };
            valid.durability(least)
        };
        assert_eq!(level(None, Durable), Durable);
        assert_eq!(level(Some(Memory), Durable), Durable);
        assert_eq!(level(Some(Memory), Memory), Memory);
        assert_eq!(level(Some(Durable), Memory), Durable);
        assert_eq!(level(Some(Durable), Stored), Stored);
        assert_eq!(level(Some(Stored), Durable), Stored);
    }
}
