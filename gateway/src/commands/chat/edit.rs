//! `message.edit` and `message.delete`: by whoever sent it, for a while, or by a moderator.
//!
//! A moderator is a user with that role or above; what others wrote in a group its administrators
//! may delete, too, but not put other words into their mouth.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::json;
use shared::{
    domain::{
        Code, ConversationId, ConversationType, Digest, Kind, Members, MessageBody, MessageDeleted,
        MessageEdited, MessageId, ParticipantRole, Refusal, SenderType, Timestamp, Topic, UserId,
    },
    postgres::Role,
    redis::IdempotencyKey,
};
use tokio::time::Instant;

use super::{accepted, bad, content, entry};
use crate::{
    app::{App, conversations::may_write},
    commands::{Asker, Reply, create::key_of, find},
    dialect::{Json, Request},
    fanout::{postgres_refusal, store_refusal},
};

/// Pause before the record is asked again for a message that was only just accepted.
const ASK_AGAIN: Duration = Duration::from_millis(50);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edit {
    message_id: MessageId,
    /// Spares looking for it.
    conversation_id: Option<ConversationId>,
    message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delete {
    message_id: MessageId,
    conversation_id: Option<ConversationId>,
}

/// What has to be known of a message to change it.
struct Known {
    id: MessageId,
    conversation: ConversationId,
    sender: UserId,
    sender_type: SenderType,
    created_at: Timestamp,
    is_deleted: bool,
}

pub(in crate::commands) async fn edit(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let edit = request.body.parse::<Edit>()?;
    content::check("message", &edit.message, &[])?;
    let known = find(app, edit.message_id, edit.conversation_id).await?;
    let act = Act::of(app, caller, &known, What::Edit).await?;
    let digest = Digest::of(format!("{} {}", known.id, edit.message).as_bytes());
    let key = key_of(caller, request);
    let make = |members: &Members| {
        let (content, sealed) = app.texts.seal(known.conversation, &edit.message)?;
        let body = MessageEdited {
            message_id: known.id,
            conversation_id: known.conversation,
            edited_by: caller.user,
            content,
            sealed,
            edited_at: None,
            uncopied: app.conversations.is_uncopied(members),
        };
        entry(
            app,
            known.conversation,
            Kind::MessageEdited,
            &body,
            key.clone(),
            digest,
        )
    };
    let appended = app
        .conversations
        .append(known.conversation, |members| act.check(members), make)
        .await?;
    let done = accepted(&appended)?;
    let payload = json!({
        "messageId": known.id,
        "conversationId": known.conversation,
        "editedAt": done.at,
    });
    Ok(Reply::acknowledge("message.edited", Json::of(&payload)))
}

pub(in crate::commands) async fn delete(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let delete = request.body.parse::<Delete>()?;
    let known = find(app, delete.message_id, delete.conversation_id).await?;
    let act = Act::of(app, caller, &known, What::Delete).await?;
    if !act.is_moderator {
        // Whether it was deleted before is not for strangers.
        app.conversations
            .check_participant(known.conversation, caller.user)
            .await?;
    }
    // A message is deleted once, whoever asks how often.
    let (key, digest) = (deletion_of(known.id), Digest::of(known.id.0.as_bytes()));
    let make = |members: &Members| {
        let body = MessageDeleted {
            message_id: known.id,
            conversation_id: known.conversation,
            deleted_by: caller.user,
            deleted_at: None,
            uncopied: app.conversations.is_uncopied(members),
        };
        entry(
            app,
            known.conversation,
            Kind::MessageDeleted,
            &body,
            key.clone(),
            digest,
        )
    };
    let appended = app
        .conversations
        .append(known.conversation, |members| act.check(members), make)
        .await?;
    let done = accepted(&appended)?;
    let payload = json!({
        "messageId": known.id,
        "conversationId": known.conversation,
        "deletedAt": done.at,
    });
    Ok(Reply::acknowledge("message.deleted", Json::of(&payload)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Edit,
    Delete,
}

/// Somebody who wants to change a message.
struct Act<'a> {
    known: &'a Known,
    user: UserId,
    what: What,
    is_moderator: bool,
    /// Until when the sender may.
    until: Timestamp,
    now: Timestamp,
}

impl<'a> Act<'a> {
    async fn of(
        app: &Arc<App>,
        caller: &Asker,
        known: &'a Known,
        what: What,
    ) -> Result<Self, Refusal> {
        if known.sender_type == SenderType::System {
            return Err(Refusal::new(
                Code::Forbidden,
                "system messages are not changed",
            ));
        }
        let profile = app.users.get_fresh(caller.user).await?;
        let window = app.edit_window.as_millis() as i64;
        Ok(Self {
            known,
            user: caller.user,
            what,
            is_moderator: profile.role >= Role::Moderator,
            until: Timestamp(known.created_at.0 + window),
            now: app.store.clock().now(),
        })
    }

    fn check(&self, members: &Members) -> Result<(), Refusal> {
        if self.known.is_deleted {
            return Err(no_such_message());
        }
        if self.is_moderator {
            return Ok(());
        }
        let member = may_write(members, self.user, self.now)?;
        if self.known.sender != self.user {
            let manages =
                members.kind == ConversationType::Group && member.role == ParticipantRole::Admin;
            return if manages && self.what == What::Delete {
                Ok(())
            } else {
                Err(Refusal::new(
                    Code::Forbidden,
                    "the message is somebody else's",
                ))
            };
        }
        if self.now <= self.until {
            Ok(())
        } else {
            Err(Refusal::new(
                Code::Forbidden,
                "too late: the time to change the message is over",
            ))
        }
    }
}

/// The message: still in Redis if the client says where, else in the record.
async fn find(
    app: &Arc<App>,
    id: MessageId,
    conversation: Option<ConversationId>,
) -> Result<Known, Refusal> {
    if let Some(conversation) = conversation {
        let found = app.store.find(Topic::Conversation(conversation), id).await;
        let found = found.map_err(|error| store_refusal(&error))?;
        if let Some(entry) = found.filter(|entry| entry.kind == Kind::MessageNew) {
            let body: MessageBody = serde_json::from_slice(&entry.body)
                .map_err(|_| Refusal::new(Code::Internal, "internal error"))?;
            return Ok(Known {
                id,
                conversation,
                sender: body.sender_id,
                sender_type: body.sender_type,
                created_at: entry.at,
                is_deleted: is_deleted(app, conversation, id).await?,
            });
        }
    }
    let deadline = Instant::now() + find::wait_for(id, app.store.clock().now().0);
    loop {
        let found = app.postgres.message(id).await;
        let found = found.map_err(|error| postgres_refusal(&error))?;
        if let Some(message) = found {
            if conversation.is_some_and(|named| named != message.body.conversation_id) {
                return Err(bad("conversationId: the message is in another"));
            }
            let conversation = message.body.conversation_id;
            let is_deleted =
                message.deleted_at.is_some() || is_deleted(app, conversation, id).await?;
            return Ok(Known {
                id,
                conversation,
                sender: message.body.sender_id,
                sender_type: message.body.sender_type,
                created_at: message.created_at,
                is_deleted,
            });
        }
        if Instant::now() >= deadline {
            return Err(no_such_message());
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Under which a message is deleted.
fn deletion_of(id: MessageId) -> IdempotencyKey {
    IdempotencyKey(format!("delete:{id}"))
}

/// Whether a message was deleted: of what is young Redis knows, of what is old the record.
async fn is_deleted(
    app: &App,
    conversation: ConversationId,
    id: MessageId,
) -> Result<bool, Refusal> {
    let topic = Topic::Conversation(conversation);
    let remembered = app.store.remembers(topic, &deletion_of(id)).await;
    if remembered.map_err(|error| store_refusal(&error))? {
        return Ok(true);
    }
    let recorded = app.postgres.message(id).await;
    let recorded = recorded.map_err(|error| postgres_refusal(&error))?;
    Ok(recorded.is_some_and(|message| message.deleted_at.is_some()))
}

fn no_such_message() -> Refusal {
    Refusal::new(Code::NotFound, "no such message")
}
