//! Moderators and administrators. What they are is read from Postgres at each request: a role that
//! was taken away counts no longer, on no node. Whatever is refused to anybody is written down.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, MatchedPath},
    http::request::Parts,
};
use serde_json::{Value, json};
use shared::{
    domain::{Code, Digest, DirectoryChange, Durability, Kind, Refusal, Topic, UserId},
    postgres::{Audit, Role, UserStatus},
    redis::{Append, IdempotencyKey, StoreError},
};
use uuid::Uuid;

use super::{Api, Failure, Peer, active::banned, bearer::Bearer, request::RequestId};
use crate::app::Bucket;

/// Somebody with a role, and what they ask for.
pub(super) struct Staff<const ADMIN: bool> {
    pub(super) user: UserId,
    pub(super) role: Role,
    audit: Audit,
}

/// A moderator or an administrator.
pub(super) type Moderator = Staff<false>;
/// An administrator.
pub(super) type Admin = Staff<true>;

impl<const ADMIN: bool> FromRequestParts<Arc<Api>> for Staff<ADMIN> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Failure> {
        let Bearer(identity) = Bearer::from_request_parts(parts, api).await?;
        let app = api.app()?;
        // First, and whatever is asked: each question reads Postgres, each refusal writes there.
        app.limiter.take(identity.user, Bucket::Requests).await?;
        let user = app.postgres.user_by_id(identity.user).await?;
        let user = user.ok_or_else(|| Refusal::new(Code::Unauthorized, "the user is gone"))?;
        let staff = Self {
            user: user.id,
            role: user.role,
            audit: audit(parts, api, user.id),
        };
        if user.status == UserStatus::Banned {
            return Err(staff.refuse(api, &Value::Null, banned()).await);
        }
        let least = if ADMIN { Role::Admin } else { Role::Moderator };
        if user.role < least {
            let message = format!("only for the role {}", least.as_str());
            let refusal = Refusal::new(Code::Forbidden, message);
            return Err(staff.refuse(api, &Value::Null, refusal).await);
        }
        Ok(staff)
    }
}

fn audit(parts: &Parts, api: &Api, actor: UserId) -> Audit {
    let path = parts.extensions.get::<MatchedPath>();
    let path = path.map_or(parts.uri.path(), MatchedPath::as_str);
    let request = parts.extensions.get::<RequestId>();
    let peer = parts.extensions.get::<Peer>();
    Audit {
        actor: Some(actor),
        action: format!("{} {}", parts.method, below(path, "/api/v1")),
        // A nested router sees the rest of the path only.
        target: below(parts.uri.path(), "/").to_owned(),
        details: json!({}),
        request_id: request.map(|id| id.0.clone()),
        address: peer.map(|peer| api.client_address(peer.0, &parts.headers).to_string()),
    }
}

fn below<'a>(path: &'a str, prefix: &str) -> &'a str {
    path.strip_prefix(prefix).unwrap_or(path)
}

impl<const ADMIN: bool> Staff<ADMIN> {
    /// The line for the log of what is done now.
    pub(super) fn audit(&self, details: Value) -> Audit {
        Audit {
            details,
            ..self.audit.clone()
        }
    }

    /// The same about something that the path does not name.
    pub(super) fn audit_of(&self, target: String, details: Value) -> Audit {
        Audit {
            target,
            ..self.audit(details)
        }
    }

    /// Writes down what was refused, and refuses it.
    pub(super) async fn refuse(&self, api: &Api, details: &Value, refusal: Refusal) -> Failure {
        let details = if details.is_null() {
            json!({})
        } else {
            details.clone()
        };
        let line = self.audit(details);
        let written = async {
            let app = api.app()?;
            Ok::<_, Failure>(app.postgres.audit(&line, refusal.code.as_str()).await?)
        };
        match written.await {
            // What nobody would learn of is not refused quietly.
            Err(failure) => failure,
            Ok(()) => refusal.into(),
        }
    }
}

impl Api {
    /// Tells every node where to look. The record has changed already: who does not hear it looks
    /// there by itself before long, so a bell that is lost is no failure.
    pub(super) async fn tell(&self, change: DirectoryChange) -> Result<(), Failure> {
        if let Err(error) = self.append_change(&change).await? {
            tracing::warn!(%error, ?change, "nodes will learn of a change by looking");
        }
        Ok(())
    }

    /// Appends to the log of changes. `Err` inside: Redis did not take it.
    pub(super) async fn append_change(
        &self,
        change: &DirectoryChange,
    ) -> Result<Result<(), StoreError>, Failure> {
        let body = serde_json::to_vec(change).expect("a change is JSON");
        let digest = Digest::of(&body);
        let entry = Append::new(
            Topic::Directory,
            Kind::DirectoryChange,
            body,
            IdempotencyKey(format!("directory:{}", Uuid::now_v7())),
            digest,
            Durability::Memory,
        );
        let done = self.app()?.store.append_from_reserve(entry).await;
        Ok(done.map(|_| ()))
    }
}
