//! What is said in a conversation: history, and the same acts as over a socket.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::{
    domain::{Code, ConversationId, FileRef, MessageId, Refusal, UserId},
    postgres::HistoryFrom,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    commands::{
        self, Asker, Reply,
        chat::history::{self, HistoryCursor, MessageView},
    },
    dialect::{self, Request},
    http::{
        Api, Failure,
        active::Active,
        body::Body,
        idempotency::Idempotent,
        list::{self, List},
        openapi::{BearerRefusals, ErrorAnswer},
        parameters::{Asked, At, bad, named},
    },
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(page, send))
        .routes(routes!(edit, delete))
        .routes(routes!(read))
}

/// A message as it reads now.
#[derive(ToSchema)]
#[schema(as = Message)]
#[expect(dead_code, reason = "describes what is written by the command")]
struct Described {
    #[schema(format = Uuid)]
    id: String,
    #[schema(format = Uuid, rename = "conversationId")]
    conversation_id: String,
    #[schema(format = Uuid, rename = "senderId")]
    sender_id: String,
    #[schema(rename = "senderName")]
    sender_name: String,
    /// `USER`, `SYSTEM` or `BOT`.
    #[schema(rename = "senderType")]
    sender_type: String,
    /// Empty once it is deleted.
    content: String,
    /// `TEXT`, `FILE`, `IMAGE` or `SYSTEM`.
    #[schema(rename = "messageType")]
    message_type: String,
    /// `SENT`, `DELIVERED` or `READ`: what all who take part, except its sender, have done.
    status: String,
    #[schema(format = DateTime, rename = "createdAt")]
    created_at: String,
    #[schema(format = DateTime, rename = "editedAt")]
    edited_at: Option<String>,
    #[schema(rename = "isDeleted")]
    is_deleted: bool,
    #[schema(value_type = Vec<Object>)]
    files: Vec<()>,
    /// What changed, in a system message.
    #[schema(value_type = Option<Object>, required = false)]
    change: Option<()>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct History {
    /// A message: what was said before it, newest first.
    #[param(format = Uuid)]
    before: Option<String>,
    /// A message: what was said after it, oldest first.
    #[param(format = Uuid)]
    after: Option<String>,
    /// Most items of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `nextCursor` of the page before; goes on in the same direction.
    cursor: Option<String>,
}

impl History {
    fn from(&self) -> Result<HistoryFrom, Refusal> {
        let id = |text: &String| named::<MessageId>(text);
        match (&self.cursor, &self.before, &self.after) {
            (Some(cursor), None, None) => list::decode::<HistoryCursor>(cursor).map(|it| it.0),
            (None, Some(before), None) => Ok(HistoryFrom::Before(id(before)?)),
            (None, None, Some(after)) => Ok(HistoryFrom::After(id(after)?)),
            (None, None, None) => Ok(HistoryFrom::Newest),
            _ => Err(bad("before: only one of before, after and cursor")),
        }
    }
}

/// What was said, newest first, or, after a message, oldest first. What was accepted before the
/// request is in it, on every node.
#[utoipa::path(
    get, path = "/{id}/messages", tag = "conversations", security(("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "The conversation's id"), History),
    responses(
        (status = 200, description = "A page", body = List<Described>),
        (status = 404, description = "There is no such conversation (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn page(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    At(id): At<String>,
    Asked(asked): Asked<History>,
) -> Result<Json<List<MessageView>>, Failure> {
    let id: ConversationId = named(&id)?;
    let (from, limit) = (asked.from()?, list::limit(asked.limit)?);
    let page = history::page(api.app()?, user, id, from, limit).await?;
    Ok(Json(List {
        items: page.items,
        next_cursor: page.next.map(|next| list::encode(&next)),
    }))
}

/// Something to say.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewMessage {
    /// At most 16 KiB of UTF-8 without NUL; not empty.
    #[schema(max_length = 16384)]
    content: String,
    /// `TEXT`, `FILE` or `IMAGE`.
    #[schema(pattern = "^(TEXT|FILE|IMAGE)$")]
    message_type: Option<String>,
    #[serde(default)]
    #[schema(value_type = Vec<Object>, required = false)]
    files: Vec<FileRef>,
}

/// Says something: the same act as `chat.message` on a socket.
#[utoipa::path(
    post, path = "/{id}/messages", tag = "conversations", security(("bearer" = [])), request_body = NewMessage,
    params(
        ("id" = String, Path, format = Uuid, description = "The conversation's id"),
        ("Idempotency-Key" = Option<String>, Header, max_length = 64, description = "The same answer for the same request again"),
    ),
    responses(
        (status = 201, description = "The message", body = Described),
        (status = 404, description = "There is no such conversation (`not_found`)", body = ErrorAnswer),
        (status = 409, description = "The key was used for another request (`conflict`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn send(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    At(id): At<String>,
    Idempotent(key): Idempotent,
    Body(new): Body<NewMessage>,
) -> Result<(StatusCode, Json<MessageView>), Failure> {
    let id: ConversationId = named(&id)?;
    let mut body = json!({"conversationId": id, "message": new.content, "files": new.files});
    if let Some(kind) = new.message_type {
        body["messageType"] = kind.into();
    }
    let reply = run(&api, user, key, "chat.message", &body).await?;
    let message = shown(&api, id, &reply).await?;
    Ok((StatusCode::CREATED, Json(message)))
}

/// Another text.
#[derive(Deserialize, ToSchema)]
struct NewText {
    /// At most 16 KiB of UTF-8 without NUL; not empty.
    #[schema(max_length = 16384)]
    content: String,
}

/// Changes a message. For its sender, for a while, and for moderators.
#[utoipa::path(
    patch, path = "/{id}/messages/{messageId}", tag = "conversations", security(("bearer" = [])), request_body = NewText,
    params(
        ("id" = String, Path, format = Uuid, description = "The conversation's id"),
        ("messageId" = String, Path, format = Uuid, description = "The message's id"),
    ),
    responses(
        (status = 200, description = "The message as it is now", body = Described),
        (status = 404, description = "There is no such conversation or message (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn edit(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    At((id, message)): At<(String, String)>,
    Body(new): Body<NewText>,
) -> Result<Json<MessageView>, Failure> {
    let (id, message): (ConversationId, MessageId) = (named(&id)?, named(&message)?);
    let body = json!({"conversationId": id, "messageId": message, "message": new.content});
    let reply = run(&api, user, None, "message.edit", &body).await?;
    Ok(Json(shown(&api, id, &reply).await?))
}

/// Takes a message away. For its sender, for a while, for administrators of a group and for moderators.
#[utoipa::path(
    delete, path = "/{id}/messages/{messageId}", tag = "conversations", security(("bearer" = [])),
    params(
        ("id" = String, Path, format = Uuid, description = "The conversation's id"),
        ("messageId" = String, Path, format = Uuid, description = "The message's id"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is no such conversation or message (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn delete(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    At((id, message)): At<(String, String)>,
) -> Result<StatusCode, Failure> {
    let (id, message): (ConversationId, MessageId) = (named(&id)?, named(&message)?);
    let body = json!({"conversationId": id, "messageId": message});
    run(&api, user, None, "message.delete", &body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How far the caller has read.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReadUpTo {
    /// The last message that was read; everything before it counts as read, too.
    #[schema(format = Uuid)]
    up_to: String,
}

/// Says how far the caller has read: the same act as `mark.read` on a socket.
#[utoipa::path(
    post, path = "/{id}/read", tag = "conversations", security(("bearer" = [])), request_body = ReadUpTo,
    params(("id" = String, Path, format = Uuid, description = "The conversation's id")),
    responses(
        (status = 204, description = "It is known"),
        (status = 404, description = "There is no such conversation or message (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn read(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    At(id): At<String>,
    Body(upto): Body<ReadUpTo>,
) -> Result<StatusCode, Failure> {
    let id: ConversationId = named(&id)?;
    let upto: MessageId = named(&upto.up_to)?;
    let body = json!({"conversationId": id, "upTo": upto});
    run(&api, user, None, "mark.read", &body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks by the same way as a socket does.
async fn run(
    api: &Api,
    user: UserId,
    id: Option<shared::domain::ClientId>,
    name: &str,
    body: &Value,
) -> Result<Reply, Failure> {
    let request = Request {
        id,
        name: name.into(),
        body: dialect::Body::parse_object(&body.to_string())?,
    };
    Ok(commands::run(api.app()?, Asker::over_rest(user), &request).await?)
}

/// The message that a reply names, as it reads now.
async fn shown(api: &Api, id: ConversationId, reply: &Reply) -> Result<MessageView, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        message_id: MessageId,
    }
    let internal = || Refusal::new(Code::Internal, "internal error");
    let named: Named = serde_json::from_str(reply.payload.as_str()).map_err(|_| internal())?;
    let message = history::one(api.app()?, id, named.message_id).await?;
    Ok(message.ok_or_else(internal)?)
}
