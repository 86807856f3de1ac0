//! REST, the health pages and the console page; and the listener they share with sockets.
//!
//! The listener is up before Redis and Postgres answer, so that `/ready` can say what it waits
//! for; until [`Api::connect`], whatever needs them is `unavailable`.

mod active;
mod admin;
mod admission;
mod asyncapi;
mod attempts;
mod auth;
mod bearer;
mod body;
mod categories;
mod commands;
mod conversations;
mod cors;
mod credentials;
mod failure;
mod idempotency;
mod key;
mod list;
pub mod metrics;
mod openapi;
mod origin;
mod page;
mod parameters;
mod preferences;
mod refused;
mod request;
mod serve;
mod staff;
pub mod upgrade;
mod users;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Router, http::HeaderMap, middleware};
use shared::{
    auth::{Identity, Networks, Passwords, TokenSettings, Tokens},
    clock::Clock,
    domain::{Code, Refusal},
    health::Health,
};

use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

pub use admission::Admission;
pub use failure::Failure;
pub use origin::Origins;
pub use serve::{Server, bind};
pub use upgrade::Door;

use crate::{
    app::{App, limiter::Limited},
    config::Settings,
};
use attempts::Attempts;

/// The peer's address, put into each request's extensions by the listener.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// What REST needs once the stores answer.
pub struct Backend {
    /// What commands run on.
    pub app: Arc<App>,
    /// Refuses tokens that were withdrawn, and all while that is not known.
    #[expect(
        clippy::type_complexity,
        reason = "a closure over what follows revocations"
    )]
    pub admit: Box<dyn Fn(&Identity) -> Result<(), Refusal> + Send + Sync>,
}

/// What the handlers share.
pub struct Api {
    settings: Arc<Settings>,
    tokens: Arc<Tokens>,
    passwords: Passwords,
    by_account: Attempts,
    by_address: Attempts,
    proxies: Networks,
    clock: Clock,
    backend: OnceLock<Backend>,
}

impl Api {
    /// Reads key files; the error names the setting.
    pub fn new(settings: Arc<Settings>, clock: Clock) -> Result<Arc<Self>, String> {
        let auth = &settings.auth;
        let tokens = TokenSettings {
            secret: auth.secret.clone(),
            key_id: auth.key_id.clone(),
            previous_secrets: auth.previous_secrets.clone(),
            trusted_issuers: auth.trusted_issuers.clone(),
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            ttl: auth.token_ttl,
            leeway: auth.leeway,
        };
        Ok(Arc::new(Self {
            tokens: Arc::new(Tokens::new(tokens, clock.clone())?),
            passwords: Passwords::new(auth.password_workers, auth.password_queue),
            by_account: Attempts::new(Limited::Account, auth.attempts_per_account),
            by_address: Attempts::new(Limited::Address, auth.attempts_per_address),
            proxies: Networks::parse(&settings.http.trusted_proxies)
                .map_err(|item| format!("http.trusted_proxies: {item} is no network"))?,
            clock,
            backend: OnceLock::new(),
            settings,
        }))
    }

    /// The tokens of this deployment: for upgrades and `authenticate`, too.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// What tokens are issued and judged by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// From now on requests that need the stores are answered. Only the first call counts.
    pub fn connect(&self, backend: Backend) {
        let _ = self.backend.set(backend);
    }

    fn backend(&self) -> Result<&Backend, Refusal> {
        let starting = || {
            Refusal::new(Code::Unavailable, "the node is starting")
                .retry_after(Duration::from_secs(1))
        };
        self.backend.get().ok_or_else(starting)
    }

    fn app(&self) -> Result<&Arc<App>, Refusal> {
        Ok(&self.backend()?.app)
    }

    /// Where a request really comes from.
    pub fn client_address(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let lines = headers.get_all("x-forwarded-for").iter();
        // A line that is no text hides the client: stop there, at the proxy.
        let lines: Vec<_> = lines.map(|line| line.to_str().unwrap_or("?")).collect();
        self.proxies
            .client(peer.ip().to_canonical(), lines.into_iter())
    }
}

/// Everything on the public listener but the upgrade, which the caller adds.
pub fn router(api: &Arc<Api>, health: Health) -> Router {
    let (rest, document) = routes().split_for_parts();
    let rest = rest
        .merge(openapi::served(&document))
        .merge(asyncapi::served())
        .with_state(api.clone())
        .fallback(failure::not_found)
        .method_not_allowed_fallback(failure::method_not_allowed);
    rest.merge(shared::health::router(health))
        .merge(page::routes(
            &api.settings.http.allowed_origins,
            &api.settings.http.nodes,
        ))
        .layer(middleware::from_fn_with_state(api.clone(), cors::answer))
        .layer(middleware::from_fn(request::observe))
}

/// The REST interface, described where it is served.
fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .nest("/api/v1/auth", auth::routes())
        .nest(
            "/api/v1/users",
            users::routes().merge(preferences::routes()),
        )
        .nest("/api/v1/categories", categories::routes())
        .nest("/api/v1/commands", commands::routes())
        .nest("/api/v1/conversations", conversations::routes())
        .nest("/api/v1/admin", admin::routes())
}

#[cfg(test)]
mod tests;
