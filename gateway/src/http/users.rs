//! Profiles. A sender needs a recipient's id: registering and logging in tell one's own, and people
//! hand theirs on; only administrators search by name.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use shared::{
    domain::{Code, DirectoryChange, Refusal, Timestamp, UserId},
    postgres::{NewProfile, User},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, Failure,
    active::Active,
    body::Body,
    openapi::{BearerRefusals, ErrorAnswer},
    parameters::{At, bad, named},
};
use crate::app::Bucket;

const MAX_NAME: usize = 64;
const MAX_BIO: usize = 1000;
/// SHA-256 in hexadecimal.
const HASH: usize = 64;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(own, put_own))
        .routes(routes!(other))
}

/// What everybody may see of a user.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Profile {
    #[schema(value_type = String, format = Uuid)]
    id: UserId,
    username: String,
    display_name: Option<String>,
    bio: Option<String>,
    /// The hash of the file with their picture.
    avatar: Option<String>,
    /// When they were last seen; only for who may see how they appear, and not while they are there.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen_at: Option<Timestamp>,
}

impl From<User> for Profile {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            username: user.username,
            display_name: user.display_name,
            bio: user.bio,
            avatar: user.avatar,
            last_seen_at: None,
        }
    }
}

/// What users see of themselves.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OwnProfile {
    #[serde(flatten)]
    profile: Profile,
    /// `user`, `moderator` or `admin`.
    role: &'static str,
    /// Whether one of the user's groups may send to everybody.
    may_allcast: bool,
}

impl From<User> for OwnProfile {
    fn from(user: User) -> Self {
        Self {
            role: user.role.as_str(),
            may_allcast: user.may_allcast,
            profile: user.into(),
        }
    }
}

/// What users say of themselves; what is absent or null is taken away.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ProfileText {
    /// Shown instead of the username; no control characters, not only blanks.
    #[schema(min_length = 1, max_length = 64)]
    display_name: Option<String>,
    /// Any text without NUL.
    #[schema(max_length = 1000)]
    bio: Option<String>,
    /// The hash of a file: SHA-256 in lower-case hexadecimal.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    avatar: Option<String>,
}

impl ProfileText {
    fn validate(self) -> Result<NewProfile, Refusal> {
        let is_name = |name: &str| {
            name.chars().count() <= MAX_NAME
                && !name.trim().is_empty()
                && !name.chars().any(char::is_control)
        };
        if self
            .display_name
            .as_deref()
            .is_some_and(|name| !is_name(name))
        {
            return Err(bad(
                "displayName: expected 1 to 64 characters, none of them a control character",
            ));
        }
        let is_bio = |bio: &str| bio.chars().count() <= MAX_BIO && !bio.contains('\0');
        if self.bio.as_deref().is_some_and(|bio| !is_bio(bio)) {
            return Err(bad("bio: expected at most 1000 characters without NUL"));
        }
        let is_hash = |hash: &str| {
            hash.len() == HASH
                && hash
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if self.avatar.as_deref().is_some_and(|hash| !is_hash(hash)) {
            return Err(bad("avatar: expected the hash of a file"));
        }
        Ok(NewProfile {
            display_name: self.display_name,
            bio: self.bio,
            avatar: self.avatar,
        })
    }
}

/// The caller's own profile.
#[utoipa::path(
    get, path = "/profile", tag = "users", security(("bearer" = [])),
    responses(
        (status = 200, description = "The profile", body = OwnProfile),
        (status = 404, description = "The user is gone (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn own(State(api): State<Arc<Api>>, Active(id): Active) -> Result<Json<OwnProfile>, Failure> {
    Ok(Json(user(&api, id).await?.into()))
}

/// Writes the caller's own profile as a whole.
#[utoipa::path(
    put, path = "/profile", tag = "users", security(("bearer" = [])), request_body = ProfileText,
    responses(
        (status = 200, description = "The profile as it is now", body = OwnProfile),
        (status = 404, description = "The user is gone (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn put_own(
    State(api): State<Arc<Api>>,
    Active(id): Active,
    Body(written): Body<ProfileText>,
) -> Result<Json<OwnProfile>, Failure> {
    let profile = written.validate()?;
    let app = api.app()?;
    app.limiter.take(id, Bucket::Requests).await?;
    let user = app.postgres.put_profile(id, &profile).await?;
    let user = user.ok_or_else(no_such_user)?;
    api.tell(DirectoryChange::User { user_id: id }).await?;
    Ok(Json(user.into()))
}

/// What everybody may see of a user.
#[utoipa::path(
    get, path = "/{id}", tag = "users", security(("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "The user's id")),
    responses(
        (status = 200, description = "The profile", body = Profile),
        (status = 404, description = "There is no such user (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn other(
    State(api): State<Arc<Api>>,
    Active(me): Active,
    At(id): At<String>,
) -> Result<Json<Profile>, Failure> {
    let id = named(&id)?;
    let mut profile = Profile::from(user(&api, id).await?);
    let fanout = &api.app()?.fanout;
    if !fanout.who_may_be_seen(&[(me, id)]).await?.is_empty() {
        // A profile is worth more than the time: without Redis it comes without.
        let found = fanout.presences_of(&[id]).await;
        profile.last_seen_at = found.iter().flatten().find_map(|it| it.last_seen_at);
    }
    Ok(Json(profile))
}

async fn user(api: &Api, id: UserId) -> Result<User, Failure> {
    let user = api.app()?.postgres.user_by_id(id).await?;
    Ok(user.ok_or_else(no_such_user)?)
}

pub(super) fn no_such_user() -> Refusal {
    Refusal::new(Code::NotFound, "there is no such user")
}
