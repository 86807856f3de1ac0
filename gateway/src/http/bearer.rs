//! Who sent a request: `Authorization: Bearer`.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use shared::{
    auth::Identity,
    domain::{Code, Refusal},
};

use super::{Api, Failure};

/// The bearer of a token that is good and not withdrawn.
pub(super) struct Bearer(pub(super) Identity);

/// The token of the header, if it is a bearer's.
fn token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

impl FromRequestParts<Arc<Api>> for Bearer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Failure> {
        let token = token(&parts.headers).ok_or_else(|| {
            Refusal::new(
                Code::Unauthorized,
                "send a token: Authorization: Bearer <token>",
            )
        })?;
        Ok(Self(api.identify(token)?))
    }
}

impl Api {
    /// Whose token it is, if it is good and was not withdrawn. The same for REST and sockets.
    pub fn identify(&self, token: &str) -> Result<Identity, Refusal> {
        let identity = self.tokens.verify(token).map_err(|error| {
            tracing::info!(event = "denied", reason = %error, "token refused");
            Refusal::new(Code::Unauthorized, error.to_string())
        })?;
        (self.backend()?.admit)(&identity).inspect_err(|refusal| {
            if refusal.code == Code::Unauthorized {
                tracing::info!(event = "denied", user = %identity.user, reason = %refusal, "token refused");
            }
        })?;
        Ok(identity)
    }
}
