//! Users and tokens: register, log in, refresh, log out.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use shared::{
    auth::{CLOCK_ERROR, Issued, MAX_LIFETIME, check_account, is_username},
    config::Secret,
    domain::{
        ClientId, Code, Digest, Durability, Kind, Refusal, Revocation, Timestamp, Topic, UserId,
    },
    postgres::{RequestKey, User, UserStatus},
    redis::{Append, IdempotencyKey, Store},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Api, Failure, Peer,
    bearer::Bearer,
    body::Body,
    idempotency::Idempotent,
    key::Key,
    openapi::{BearerRefusals, ErrorAnswer, Refusals},
};
use crate::config::Registration;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(token))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(logout_all))
}

/// A name and a password.
#[derive(Deserialize, ToSchema)]
struct Credentials {
    #[schema(pattern = "^[A-Za-z0-9_.-]{3,32}$")]
    username: String,
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 256)]
    password: Secret,
}

/// Hidden from the moment it is read.
fn secret<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

/// A new user.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Registered {
    #[schema(value_type = String, format = Uuid)]
    user_id: UserId,
    username: String,
}

/// A token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LoggedIn {
    token: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    #[schema(value_type = String, format = Uuid)]
    user_id: UserId,
}

impl From<Issued> for LoggedIn {
    fn from(issued: Issued) -> Self {
        Self {
            token: issued.token.expose().to_owned(),
            expires_at: issued.identity.expires_at,
            user_id: issued.identity.user,
        }
    }
}

fn slow_down(wait: Duration) -> Refusal {
    Refusal::new(Code::RateLimited, "too many attempts").retry_after(wait)
}

impl Api {
    /// Counts an attempt of this address.
    async fn attempt_from(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<(), Refusal> {
        let address = self.client_address(peer, headers).to_string();
        let taken = self.by_address.take(self.store(), address).await;
        taken.map_err(slow_down)
    }

    /// Counts an attempt on this account.
    async fn attempt_on(&self, username: &str) -> Result<(), Refusal> {
        let account = username.to_ascii_lowercase();
        let taken = self.by_account.take(self.store(), account).await;
        taken.map_err(slow_down)
    }

    /// The user of this name if the same request made them; `None` if nobody has it. A `conflict`
    /// if it is somebody else's.
    async fn registered(
        &self,
        credentials: &Credentials,
        request: Option<&RequestKey>,
    ) -> Result<Option<User>, Failure> {
        let postgres = &self.app()?.postgres;
        let Some((user, hash)) = postgres.user_by_name(&credentials.username).await? else {
            return Ok(None);
        };
        let was_done = match request {
            Some(request) => postgres.was_done(request).await?,
            None => false,
        };
        if was_done {
            // Tells whether a password is right, as logging in does.
            self.attempt_on(&credentials.username).await?;
            let password = credentials.password.clone();
            if self.passwords.verify(password, Some(hash)).await? {
                return Ok(Some(user));
            }
        }
        Err(taken().into())
    }

    fn store(&self) -> Option<&Store> {
        self.backend.get().map(|backend| &backend.app.store)
    }

    /// Makes tokens invalid on every node, and only returns when that will survive.
    async fn revoke(&self, revocation: &Revocation, key: String) -> Result<(), Failure> {
        let body = serde_json::to_vec(revocation).expect("a revocation is JSON");
        let digest = Digest::of(&body);
        let entry = Append::new(
            Topic::Revocations,
            Kind::Revocation,
            body,
            IdempotencyKey(key),
            digest,
            Durability::Durable,
        );
        self.app()?.store.append_from_reserve(entry).await?;
        Ok(())
    }

    /// Withdraws every token of a user that was issued up to this second, which it answers.
    pub(super) async fn revoke_all_of(&self, user: UserId) -> Result<i64, Failure> {
        let second = self.clock.unix_seconds();
        let longest = Timestamp((second + MAX_LIFETIME.as_secs() as i64) * 1000);
        let revocation = Revocation {
            user_id: user,
            token_id: None,
            issued_until: second,
            expires_at: self.remember_until(longest),
        };
        self.revoke(&revocation, format!("logout-all:{user}:{second}"))
            .await?;
        Ok(second)
    }

    /// A token's end for those who remember revocations: as late as any clock here may see it.
    fn remember_until(&self, end: Timestamp) -> Timestamp {
        let late = self.settings.auth.leeway + CLOCK_ERROR;
        Timestamp(end.0 + late.as_millis() as i64)
    }
}

/// Makes a user.
#[utoipa::path(
    post, path = "/register", tag = "auth", request_body = Credentials,
    params(("Idempotency-Key" = Option<String>, Header, max_length = 64, description = "The same answer for the same request again, for a day")),
    responses(
        (status = 201, description = "The user", body = Registered),
        (status = 403, description = "Registration is closed (`forbidden`)", body = ErrorAnswer),
        (status = 409, description = "The name is taken (`conflict`)", body = ErrorAnswer),
        Refusals,
    )
)]
async fn register(
    State(api): State<Arc<Api>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    Idempotent(key): Idempotent,
    Body(credentials): Body<Credentials>,
) -> Result<(StatusCode, Json<Registered>), Failure> {
    if api.settings.auth.registration == Registration::Closed {
        return Err(Refusal::new(Code::Forbidden, "registration is closed").into());
    }
    check_account(&credentials.username, &credentials.password)
        .map_err(|wrong| Refusal::new(Code::BadRequest, wrong))?;
    api.attempt_from(peer, &headers).await?;
    let request = key.map(|key| request_key(&credentials.username, &key));
    // Asked first, for hashing is what costs; the table decides.
    if let Some(user) = api.registered(&credentials, request.as_ref()).await? {
        return Ok(created(user));
    }
    let postgres = &api.app()?.postgres;
    let hash = api.passwords.hash(credentials.password.clone()).await?;
    let (id, name) = (UserId(Uuid::now_v7()), &credentials.username);
    let user = match &request {
        None => postgres.create_user(id, name, &hash).await?,
        Some(request) => postgres.create_user_as(id, name, &hash, request).await?,
    };
    if let Some(user) = user {
        tracing::info!(user = %user.id, "registered");
        return Ok(created(user));
    }
    // Somebody was faster, perhaps the same request.
    let before = api.registered(&credentials, request.as_ref()).await?;
    Ok(created(before.ok_or_else(taken)?))
}

/// Names the request among those for the same name: nobody comes across another's key. The password
/// is compared with that of the user, and kept nowhere else.
fn request_key(username: &str, key: &ClientId) -> RequestKey {
    let username = username.to_ascii_lowercase();
    RequestKey {
        digest: Digest::of(username.as_bytes()),
        scope: format!("POST /auth/register {username}"),
        key: key.to_string(),
    }
}

fn created(user: User) -> (StatusCode, Json<Registered>) {
    let registered = Registered {
        user_id: user.id,
        username: user.username,
    };
    (StatusCode::CREATED, Json(registered))
}

fn taken() -> Refusal {
    Refusal::new(Code::Conflict, "the username is taken")
}

/// Gives a token. An unknown user and a wrong password look alike, also in the time they take.
#[utoipa::path(
    post, path = "/login", tag = "auth", request_body = Credentials,
    responses(
        (status = 200, description = "A token", body = LoggedIn),
        (status = 401, description = "Wrong name or password (`unauthorized`)", body = ErrorAnswer),
        (status = 403, description = "The user is banned (`forbidden`)", body = ErrorAnswer),
        Refusals,
    )
)]
async fn login(
    State(api): State<Arc<Api>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    Body(credentials): Body<Credentials>,
) -> Result<Json<LoggedIn>, Failure> {
    api.attempt_from(peer, &headers).await?;
    let found = if is_username(&credentials.username) {
        api.attempt_on(&credentials.username).await?;
        api.app()?
            .postgres
            .user_by_name(&credentials.username)
            .await?
    } else {
        None
    };
    let (user, hash) = found.unzip();
    let fits = api.passwords.verify(credentials.password, hash).await?;
    let Some(user) = user.filter(|_| fits) else {
        tracing::info!(address = %api.client_address(peer, &headers), "log-in refused");
        return Err(Refusal::new(Code::Unauthorized, "wrong username or password").into());
    };
    check_status(user.status)?;
    tracing::info!(user = %user.id, "logged in");
    Ok(Json(api.tokens.issue(user.id).into()))
}

/// What a bot presents.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Presented {
    /// Its key.
    api_key: String,
}

/// Gives a bot a token.
#[utoipa::path(
    post, path = "/token", tag = "auth", request_body = Presented,
    responses(
        (status = 200, description = "A token", body = LoggedIn),
        (status = 401, description = "No such key, or it was revoked (`unauthorized`)", body = ErrorAnswer),
        (status = 403, description = "The bot is banned (`forbidden`)", body = ErrorAnswer),
        Refusals,
    )
)]
async fn token(
    State(api): State<Arc<Api>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    Body(presented): Body<Presented>,
) -> Result<Json<LoggedIn>, Failure> {
    api.attempt_from(peer, &headers).await?;
    let key = Key::presented(presented.api_key);
    let Some(bot) = api.app()?.postgres.api_key(&key.hash()).await? else {
        tracing::info!(address = %api.client_address(peer, &headers), "a key was refused");
        return Err(Refusal::new(Code::Unauthorized, "no such key").into());
    };
    check_status(bot.status)?;
    tracing::info!(user = %bot.id, "a bot got a token");
    Ok(Json(api.tokens.issue(bot.id).into()))
}

fn check_status(status: UserStatus) -> Result<(), Refusal> {
    match status {
        UserStatus::Active => Ok(()),
        UserStatus::Banned => Err(Refusal::new(Code::Forbidden, "the user is banned")),
    }
}

/// Gives a new token before the old one ends.
#[utoipa::path(
    post, path = "/refresh", tag = "auth", security(("bearer" = [])),
    responses((status = 200, description = "A token", body = LoggedIn), BearerRefusals)
)]
async fn refresh(
    State(api): State<Arc<Api>>,
    Bearer(identity): Bearer,
) -> Result<Json<LoggedIn>, Failure> {
    if !identity.ours {
        let message = "the token is not ours: get a new one where it came from";
        return Err(Refusal::new(Code::Forbidden, message).into());
    }
    let user = api.app()?.postgres.user_by_id(identity.user).await?;
    let user = user.ok_or_else(|| Refusal::new(Code::Unauthorized, "the user is gone"))?;
    check_status(user.status)?;
    Ok(Json(api.tokens.issue(user.id).into()))
}

/// Withdraws the token it is called with. Sockets opened with it close with 4401.
#[utoipa::path(
    post, path = "/logout", tag = "auth", security(("bearer" = [])),
    responses((status = 204, description = "The token is withdrawn"), BearerRefusals)
)]
async fn logout(
    State(api): State<Arc<Api>>,
    Bearer(identity): Bearer,
) -> Result<StatusCode, Failure> {
    let Some(token_id) = identity.token_id else {
        return Err(Refusal::new(Code::BadRequest, "the token has no id: use logout-all").into());
    };
    let key = format!("logout:{}:{token_id}", identity.user);
    let revocation = Revocation {
        user_id: identity.user,
        token_id: Some(token_id),
        issued_until: identity.issued_at,
        expires_at: api.remember_until(identity.expires_at),
    };
    api.revoke(&revocation, key).await?;
    tracing::info!(user = %identity.user, "logged out");
    Ok(StatusCode::NO_CONTENT)
}

/// Withdraws every token of the user, whoever issued it.
#[utoipa::path(
    post, path = "/logout-all", tag = "auth", security(("bearer" = [])),
    responses((status = 204, description = "Every token of the user is withdrawn"), BearerRefusals)
)]
async fn logout_all(
    State(api): State<Arc<Api>>,
    Bearer(identity): Bearer,
) -> Result<StatusCode, Failure> {
    let second = api.revoke_all_of(identity.user).await?;
    // Tokens count in seconds: one issued within this second would be withdrawn, too. The
    // answer waits until it is over, so that a log-in that follows it is good.
    let rest = (second + 1) * 1000 - api.clock.now().0;
    tokio::time::sleep(Duration::from_millis(rest.clamp(0, 1000) as u64)).await;
    tracing::info!(user = %identity.user, "logged out everywhere");
    Ok(StatusCode::NO_CONTENT)
}
