//! Who sent a request, if they may take part.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use shared::domain::{Code, Refusal, UserId};

use super::{Api, Failure, bearer::Bearer};

/// The bearer of a good token who is not banned.
pub(super) struct Active(pub(super) UserId);

impl FromRequestParts<Arc<Api>> for Active {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Failure> {
        let Bearer(identity) = Bearer::from_request_parts(parts, api).await?;
        if api.app()?.users.is_banned(identity.user) {
            return Err(banned().into());
        }
        Ok(Self(identity.user))
    }
}

pub(super) fn banned() -> Refusal {
    Refusal::new(Code::Forbidden, "the user is banned")
}
