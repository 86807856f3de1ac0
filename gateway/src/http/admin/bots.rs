//! `/admin/bots`: users that are programs, and the keys they get tokens with.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    auth::is_username,
    domain::{Code, DirectoryChange, Refusal, Timestamp, UserId},
    postgres::ApiKey,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::http::{
    Api, Failure,
    body::Body,
    key::Key,
    openapi::{BearerRefusals, ErrorAnswer},
    parameters::{At, bad, named},
    staff::Admin,
    users::no_such_user,
};

/// Longest title of a key, in characters.
const MAX_TITLE: usize = 64;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(keys, create_key))
        .routes(routes!(revoke))
}

/// A bot to be made.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewBot {
    /// 3 to 32 of `[A-Za-z0-9_.-]`.
    #[schema(pattern = "^[A-Za-z0-9_.-]{3,32}$")]
    username: String,
}

/// A bot and its first key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Bot {
    #[schema(value_type = String, format = Uuid)]
    user_id: UserId,
    username: String,
    #[schema(value_type = String, format = Uuid)]
    key_id: Uuid,
    /// Told this once; nobody can tell it again.
    api_key: String,
}

/// Makes a bot with a key. For administrators.
#[utoipa::path(
    post, path = "/bots", tag = "admin", security(("bearer" = [])), request_body = NewBot,
    responses(
        (status = 201, description = "The bot", body = Bot),
        (status = 409, description = "The name is taken (`conflict`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn create(
    State(api): State<Arc<Api>>,
    staff: Admin,
    Body(new): Body<NewBot>,
) -> Result<(StatusCode, Json<Bot>), Failure> {
    if !is_username(&new.username) {
        return Err(bad("username: expected 3 to 32 of [A-Za-z0-9_.-]").into());
    }
    let postgres = &api.app()?.postgres;
    let id = UserId(Uuid::now_v7());
    let line = staff.audit_of(format!("bots/{id}"), json!(new));
    let bot = postgres.create_bot(id, &new.username, &line).await?;
    let bot = bot.ok_or_else(|| Refusal::new(Code::Conflict, "the username is taken"))?;
    let made = make_key(&api, &staff, bot.id, "first").await?;
    let made = made.ok_or_else(no_such_user)?;
    let bot = Bot {
        user_id: bot.id,
        username: bot.username,
        key_id: made.id,
        api_key: made.api_key,
    };
    Ok((StatusCode::CREATED, Json(bot)))
}

/// A key of a bot, without the key itself.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct KeyView {
    #[schema(value_type = String, format = Uuid)]
    id: Uuid,
    title: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// From when on it counts no longer.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            title: key.title,
            created_at: key.created_at,
            revoked_at: key.revoked_at,
        }
    }
}

/// Keys of a bot.
#[derive(Serialize, ToSchema)]
struct Keys {
    items: Vec<KeyView>,
}

/// Keys of a bot, oldest first. For administrators.
#[utoipa::path(
    get, path = "/bots/{id}/keys", tag = "admin", security(("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "The bot's id")),
    responses((status = 200, description = "Its keys", body = Keys), BearerRefusals)
)]
async fn keys(
    State(api): State<Arc<Api>>,
    _: Admin,
    At(id): At<String>,
) -> Result<Json<Keys>, Failure> {
    let keys = api.app()?.postgres.api_keys(named(&id)?).await?;
    let items = keys.into_iter().map(KeyView::from).collect();
    Ok(Json(Keys { items }))
}

/// A key to be made.
#[derive(Serialize, Deserialize, ToSchema)]
struct NewKey {
    /// What people call it, 1 to 64 characters.
    #[schema(min_length = 1, max_length = 64)]
    title: String,
}

/// A key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MadeKey {
    #[schema(value_type = String, format = Uuid)]
    id: Uuid,
    /// Told this once; nobody can tell it again.
    api_key: String,
}

/// Makes one more key for a bot. For administrators.
#[utoipa::path(
    post, path = "/bots/{id}/keys", tag = "admin", security(("bearer" = [])), request_body = NewKey,
    params(("id" = String, Path, format = Uuid, description = "The bot's id")),
    responses(
        (status = 201, description = "The key", body = MadeKey),
        (status = 404, description = "There is no such bot (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn create_key(
    State(api): State<Arc<Api>>,
    staff: Admin,
    At(id): At<String>,
    Body(new): Body<NewKey>,
) -> Result<(StatusCode, Json<MadeKey>), Failure> {
    let id: UserId = named(&id)?;
    let length = new.title.chars().count();
    if !(1..=MAX_TITLE).contains(&length) || new.title.contains('\0') {
        return Err(bad("title: expected 1 to 64 characters without NUL").into());
    }
    let made = make_key(&api, &staff, id, &new.title).await?;
    Ok((StatusCode::CREATED, Json(made.ok_or_else(no_such_user)?)))
}

async fn make_key(
    api: &Api,
    staff: &Admin,
    bot: UserId,
    title: &str,
) -> Result<Option<MadeKey>, Failure> {
    let (id, key) = (Uuid::now_v7(), Key::random());
    let line = staff.audit_of(format!("bots/{bot}/keys/{id}"), json!({ "title": title }));
    let postgres = &api.app()?.postgres;
    let made = postgres
        .create_api_key(id, bot, &key.hash(), title, &line)
        .await?;
    Ok(made.then(|| MadeKey {
        id,
        api_key: key.reveal().to_owned(),
    }))
}

/// Revokes a key, and every token its bot has. For administrators.
#[utoipa::path(
    delete, path = "/bots/keys/{id}", tag = "admin", security(("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "The key's id")),
    responses(
        (status = 204, description = "It counts no longer"),
        (status = 404, description = "There is no such key (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn revoke(
    State(api): State<Arc<Api>>,
    staff: Admin,
    At(id): At<String>,
) -> Result<StatusCode, Failure> {
    let id: Uuid = id.parse().map_err(|_| bad("invalid key id"))?;
    let line = staff.audit(json!({}));
    let whose = api.app()?.postgres.revoke_api_key(id, &line).await?;
    let bot = whose.ok_or_else(|| Refusal::new(Code::NotFound, "there is no such key"))?;
    api.revoke_all_of(bot).await?;
    api.tell(DirectoryChange::User { user_id: bot }).await?;
    Ok(StatusCode::NO_CONTENT)
}
