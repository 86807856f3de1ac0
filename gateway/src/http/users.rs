//! Profiles. A sender needs a recipient's id: registering and logging in tell one's own, and people
//! hand theirs on; there is no search by name.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use serde::Serialize;
use shared::{
    domain::{Code, Refusal, UserId},
    postgres::User,
};

use super::{Api, Failure, bearer::Bearer};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/profile", get(own))
        .route("/{id}", get(other))
}

/// What everybody may see of a user.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    id: UserId,
    username: String,
    display_name: Option<String>,
}

impl From<User> for Profile {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            username: user.username,
            display_name: user.display_name,
        }
    }
}

async fn own(
    State(api): State<Arc<Api>>,
    Bearer(identity): Bearer,
) -> Result<Json<Profile>, Failure> {
    profile(&api, identity.user).await
}

async fn other(
    State(api): State<Arc<Api>>,
    Bearer(_): Bearer,
    Path(id): Path<String>,
) -> Result<Json<Profile>, Failure> {
    let id = id
        .parse()
        .map_err(|_| Refusal::new(Code::BadRequest, "a user id is a UUID"))?;
    profile(&api, id).await
}

async fn profile(api: &Api, id: UserId) -> Result<Json<Profile>, Failure> {
    let user = api.backend()?.postgres.user_by_id(id).await?;
    let user = user.ok_or_else(|| Refusal::new(Code::NotFound, "there is no such user"))?;
    Ok(Json(user.into()))
}
