//! `/users/preferences`: the same preferences as on the socket, by the same requests.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::domain::{Code, Refusal, UserId};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, Failure, active::Active, body::Body, openapi::BearerRefusals};
use crate::{
    commands::{self, Asker},
    dialect::{self, Request},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(get_own, put_own))
}

/// Which categories reach the user. An absent list is an empty one.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
struct Preferences {
    /// Commands with one of these do not reach the user.
    #[schema(max_items = 200)]
    blocked_categories: Vec<String>,
    /// Unless it is empty, only commands all of whose tags are on it do.
    #[schema(max_items = 200)]
    allowed_categories: Vec<String>,
}

/// The caller's preferences.
#[utoipa::path(
    get, path = "/preferences", tag = "users", security(("bearer" = [])),
    responses((status = 200, description = "The preferences", body = Preferences), BearerRefusals)
)]
async fn get_own(
    State(api): State<Arc<Api>>,
    Active(user): Active,
) -> Result<Json<Preferences>, Failure> {
    run(&api, user, "preferences.get", dialect::Body::EMPTY).await
}

/// Writes the caller's preferences as a whole; all of their devices hear it.
#[utoipa::path(
    put, path = "/preferences", tag = "users", security(("bearer" = [])), request_body = Preferences,
    responses((status = 200, description = "The preferences as they are now", body = Preferences), BearerRefusals)
)]
async fn put_own(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    Body(preferences): Body<Preferences>,
) -> Result<Json<Preferences>, Failure> {
    let body = json!(preferences).to_string();
    run(
        &api,
        user,
        "preferences.update",
        dialect::Body::parse_object(&body)?,
    )
    .await
}

async fn run(
    api: &Api,
    user: UserId,
    name: &str,
    body: dialect::Body,
) -> Result<Json<Preferences>, Failure> {
    let request = Request {
        id: None,
        name: name.into(),
        body,
    };
    let reply = commands::run(api.app()?, Asker::over_rest(user), &request).await?;
    let answer = serde_json::from_str(reply.payload.as_str()).map_err(|error| {
        tracing::error!(%error, name, "a request answered something else");
        Refusal::new(Code::Internal, "internal error")
    })?;
    Ok(Json(answer))
}
