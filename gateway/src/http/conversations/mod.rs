//! `/conversations`: made, listed, changed; who takes part; what is said.

mod messages;
mod participants;

use std::{str::FromStr, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use shared::{
    domain::{
        Code, ConversationChange, ConversationId, ConversationType, Refusal, Timestamp, UserId,
    },
    postgres::ConversationCursor,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Api, Failure,
    active::Active,
    body::Body,
    idempotency::Idempotent,
    list::{self, List, PageQuery},
    openapi::{BearerRefusals, ErrorAnswer},
    parameters::{Asked, At, bad, named},
};
use crate::{
    app::Bucket,
    commands::chat::{
        change::{self as changes, New},
        list::{self as views, ConversationView as View},
    },
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(own, create))
        .routes(routes!(one, rename))
        .routes(routes!(archive))
        .routes(routes!(unarchive))
        .merge(participants::routes())
        .merge(messages::routes())
}

/// A conversation for one of its participants.
#[derive(ToSchema)]
#[schema(as = Conversation)]
#[expect(dead_code, reason = "describes what is written by the command")]
struct ConversationView {
    #[schema(format = Uuid)]
    id: String,
    /// `DIRECT` or `GROUP`.
    #[schema(rename = "type")]
    kind: String,
    title: Option<String>,
    #[schema(format = Uuid, rename = "createdBy")]
    created_by: String,
    #[schema(format = DateTime, rename = "createdAt")]
    created_at: String,
    /// Archived ones can be read, and not be written to.
    #[schema(rename = "isArchived")]
    is_archived: bool,
    /// In a list the first 20, else the first 1000: `{userId, username, role, joinedAt,
    /// lastReadMessageId}`.
    #[schema(value_type = Vec<Object>)]
    participants: Vec<()>,
    #[schema(rename = "participantCount")]
    participant_count: u32,
    /// Messages of others that were not read; 1000 stands for more, too.
    #[schema(rename = "unreadCount")]
    unread_count: u32,
    /// A message as in the history.
    #[schema(value_type = Option<Object>, rename = "lastMessage")]
    last_message: Option<()>,
}

/// A place in the list of conversations.
struct Place(ConversationCursor);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.0.active_at.0, self.0.id)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once(':').ok_or(())?;
        let at: i64 = at.parse().map_err(|_| ())?;
        // What Postgres can tell, to the year 9999.
        let can_be = (0..=253_402_300_799_000).contains(&at);
        Ok(Self(ConversationCursor {
            active_at: can_be.then_some(Timestamp(at)).ok_or(())?,
            id: id.parse().map_err(|_| ())?,
        }))
    }
}

/// The caller's conversations, those first in which something was said last.
#[utoipa::path(
    get, path = "", tag = "conversations", security(("bearer" = [])), params(PageQuery),
    responses((status = 200, description = "A page", body = List<ConversationView>), BearerRefusals)
)]
async fn own(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<List<View>>, Failure> {
    let (limit, after) = (page.limit()?, page.after::<Place>()?);
    let (items, next) = views::page(api.app()?, user, after.map(|it| it.0), limit).await?;
    Ok(Json(List {
        items,
        next_cursor: next.map(|next| list::encode(&Place(next))),
    }))
}

/// A conversation to be made.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewConversation {
    /// `DIRECT` or `GROUP`.
    #[serde(rename = "type")]
    #[schema(value_type = String, pattern = "^(DIRECT|GROUP)$")]
    kind: ConversationType,
    /// Who takes part beside the caller; of a `DIRECT` one, just one.
    #[schema(max_items = 1000)]
    participant_ids: Vec<String>,
    /// Of a `GROUP` only; 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    title: Option<String>,
}

/// Makes a conversation. Of two users there is one `DIRECT` one: whoever asks again gets that.
#[utoipa::path(
    post, path = "", tag = "conversations", security(("bearer" = [])), request_body = NewConversation,
    params(("Idempotency-Key" = Option<String>, Header, max_length = 64, description = "The same conversation for the same request again")),
    responses(
        (status = 200, description = "It was there", body = ConversationView),
        (status = 201, description = "It was made", body = ConversationView),
        (status = 404, description = "There is no such user (`not_found`)", body = ErrorAnswer),
        (status = 409, description = "The key was used for another request (`conflict`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn create(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    Idempotent(key): Idempotent,
    Body(new): Body<NewConversation>,
) -> Result<(StatusCode, Json<View>), Failure> {
    let participants = new.participant_ids.iter();
    let participants = participants.map(|id| id.parse::<UserId>());
    let participants = participants
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| bad("participantIds: not a user id"))?;
    let new = New {
        kind: new.kind,
        title: new.title,
        participants,
        // The same for every try.
        id: key.map(|key| ConversationId(Uuid::new_v5(&user.0, key.as_str().as_bytes()))),
    };
    let app = api.app()?;
    app.limiter.take(user, Bucket::Requests).await?;
    let made = changes::create(app, user, new).await?;
    let status = if made.is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(view(&api, user, made.id).await?)))
}

/// A conversation the caller takes part in.
#[utoipa::path(
    get, path = "/{id}", tag = "conversations", security(("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "The conversation's id")),
    responses(
        (status = 200, description = "The conversation", body = ConversationView),
        (status = 404, description = "There is no such conversation (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn one(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    At(id): At<String>,
) -> Result<Json<View>, Failure> {
    Ok(Json(view(&api, user, named(&id)?).await?))
}

/// What is other from now on.
#[derive(Deserialize, ToSchema)]
struct ConversationText {
    /// 1 to 200 characters, none of them a control character.
    #[schema(min_length = 1, max_length = 200)]
    title: String,
}

/// Gives a group another title. For its administrators.
#[utoipa::path(
    patch, path = "/{id}", tag = "conversations", security(("bearer" = [])), request_body = ConversationText,
    params(("id" = String, Path, format = Uuid, description = "The conversation's id")),
    responses(
        (status = 200, description = "The conversation as it is now", body = ConversationView),
        (status = 404, description = "There is no such conversation (`not_found`)", body = ErrorAnswer),
        (status = 409, description = "The conversation is a DIRECT one (`conflict`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn rename(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    At(id): At<String>,
    Body(text): Body<ConversationText>,
) -> Result<Json<View>, Failure> {
    let id: ConversationId = named(&id)?;
    changes::check_title(&text.title)?;
    let asked = ConversationChange::Renamed { title: text.title };
    change(&api, user, id, &[asked]).await?;
    Ok(Json(view(&api, user, id).await?))
}

/// Ends writing in a conversation; it can still be read. For administrators of a group, and for both
/// of a DIRECT one.
#[utoipa::path(
    post, path = "/{id}/archive", tag = "conversations", security(("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "The conversation's id")),
    responses(
        (status = 200, description = "The conversation as it is now", body = ConversationView),
        (status = 404, description = "There is no such conversation (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn archive(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    At(id): At<String>,
) -> Result<Json<View>, Failure> {
    let id: ConversationId = named(&id)?;
    change(&api, user, id, &[ConversationChange::Archived]).await?;
    Ok(Json(view(&api, user, id).await?))
}

/// Lets a conversation be written to again. For those who may archive it.
#[utoipa::path(
    post, path = "/{id}/unarchive", tag = "conversations", security(("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "The conversation's id")),
    responses(
        (status = 200, description = "The conversation as it is now", body = ConversationView),
        (status = 404, description = "There is no such conversation (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn unarchive(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    At(id): At<String>,
) -> Result<Json<View>, Failure> {
    let id: ConversationId = named(&id)?;
    change(&api, user, id, &[ConversationChange::Unarchived]).await?;
    Ok(Json(view(&api, user, id).await?))
}

/// Makes changes, as one request of the caller's allowance.
async fn change(
    api: &Api,
    user: UserId,
    id: ConversationId,
    asked: &[ConversationChange],
) -> Result<(), Failure> {
    let app = api.app()?;
    app.limiter.take(user, Bucket::Requests).await?;
    changes::change(app, user, id, asked).await?;
    Ok(())
}

/// The conversation as the caller sees it.
async fn view(api: &Api, user: UserId, id: ConversationId) -> Result<View, Refusal> {
    let app = api
        .app()
        .map_err(|_| Refusal::new(Code::Unavailable, "the node is starting"))?;
    views::one(app, user, id).await
}
