//! `chat.message`: a message to a conversation, or to somebody with whom there may be none yet.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    domain::{
        Code, ConversationId, Digest, Durability, FileRef, Kind, Members, MessageBody, MessageType,
        Refusal, SenderType, UserId,
    },
    postgres::UserStatus,
};

use super::{accepted, bad, content, direct, entry};
use crate::{
    app::{App, Profile, conversations::may_write},
    commands::{Asker, Reply, create::key_of, create::other_body},
    dialect::{Json, Request},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chat {
    conversation_id: Option<String>,
    target_user: Option<String>,
    message: String,
    message_type: Option<Said>,
    #[serde(default)]
    files: Vec<FileRef>,
    durability: Option<Durability>,
}

/// What a client calls its message. `private` and `broadcast` are a text: whom it reaches is a
/// matter of the conversation.
#[derive(Debug, Clone, Copy, Deserialize)]
enum Said {
    #[serde(rename = "private", alias = "broadcast", alias = "TEXT")]
    Text,
    #[serde(rename = "FILE")]
    File,
    #[serde(rename = "IMAGE")]
    Image,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Conversation(ConversationId),
    User(UserId),
}

impl Chat {
    fn target(&self) -> Result<Target, Refusal> {
        match (&self.conversation_id, &self.target_user) {
            (Some(id), None) => {
                let id = id
                    .parse()
                    .map_err(|_| bad("conversationId: not a conversation id"))?;
                Ok(Target::Conversation(id))
            }
            (None, Some(user)) => {
                let user = user.parse().map_err(|_| bad("targetUser: not a user id"))?;
                Ok(Target::User(user))
            }
            (None, None) => Err(bad("conversationId: missing")),
            (Some(_), Some(_)) => Err(bad("targetUser: a message has one destination")),
        }
    }

    fn message_type(&self) -> MessageType {
        match self.message_type {
            None | Some(Said::Text) => MessageType::Text,
            Some(Said::File) => MessageType::File,
            Some(Said::Image) => MessageType::Image,
        }
    }

    /// What two tries have in common, whatever the order of fields.
    fn digest(&self) -> Digest {
        #[derive(Serialize)]
        struct Canonical<'a> {
            message: &'a str,
            message_type: MessageType,
            files: &'a [FileRef],
        }
        let canonical = Canonical {
            message: &self.message,
            message_type: self.message_type(),
            files: &self.files,
        };
        Digest::of(&serde_json::to_vec(&canonical).unwrap_or_default())
    }
}

pub(in crate::commands) async fn run(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let message = request.body.parse::<Chat>()?;
    let target = message.target()?;
    content::check("message", &message.message, &message.files)?;
    let sender = app.users.get(caller.user).await?;
    if sender.status == UserStatus::Banned {
        return Err(Refusal::new(Code::Forbidden, "banned"));
    }
    let conversation = match target {
        Target::Conversation(id) => id,
        Target::User(other) => Box::pin(direct::with(app, caller, other)).await?,
    };
    let reused = request
        .id
        .as_ref()
        .map(|id| app.reused_ids.slot(caller.user, id));
    let topic = shared::domain::Topic::Conversation(conversation);
    if reused.as_ref().is_some_and(|it| it.is_for_another(topic)) {
        return Err(other_body());
    }
    let (key, digest) = (key_of(caller, request), message.digest());
    let now = app.store.clock().now();
    let may = |members: &Members| may_write(members, caller.user, now).map(drop);
    let make = |members: &Members| {
        let body = body(app, caller.user, &sender, members, &message)?;
        let entry = entry(
            app,
            conversation,
            Kind::MessageNew,
            &body,
            key.clone(),
            digest,
        )?;
        let durability = message
            .durability
            .map_or(app.durability, |asked| asked.max(app.durability));
        Ok(shared::redis::Append {
            durability,
            ..entry
        })
    };
    let appended = app.conversations.append(conversation, may, make).await?;
    let accepted = accepted(&appended)?;
    if let Some(slot) = reused {
        slot.remember(topic);
    }
    // Not at `info`: a line takes a fifth of the time of everything else.
    tracing::debug!(event = "publish", id = %accepted.id, %conversation, "message accepted");
    let payload = json!({
        "messageId": accepted.id,
        "conversationId": conversation,
        "createdAt": accepted.at,
    });
    Ok(Reply::acknowledge("chat.accepted", Json::of(&payload)))
}

fn body(
    app: &App,
    user: UserId,
    sender: &Profile,
    members: &Members,
    message: &Chat,
) -> Result<MessageBody, Refusal> {
    let (content, sealed) = app.texts.seal(members.conversation, &message.message)?;
    Ok(MessageBody {
        message_id: None,
        created_at: None,
        conversation_id: members.conversation,
        sender_id: user,
        sender_name: sender.name.clone(),
        sender_type: if sender.is_bot {
            SenderType::Bot
        } else {
            SenderType::User
        },
        content,
        sealed,
        message_type: message.message_type(),
        files: message.files.clone(),
        uncopied: app.conversations.is_uncopied(members),
        change: None,
    })
}
