//! `Idempotency-Key`: makes it safe to send a POST again.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use shared::domain::ClientId;

use super::{Api, Failure, parameters::bad};

const HEADER: &str = "idempotency-key";

/// The client's name for a request, if it gave one.
pub(super) struct Idempotent(pub(super) Option<ClientId>);

impl FromRequestParts<Arc<Api>> for Idempotent {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Failure> {
        let wrong = || bad("Idempotency-Key: expected 1 to 64 characters");
        let mut values = parts.headers.get_all(HEADER).iter();
        let key = match (values.next(), values.next()) {
            (None, _) => None,
            (Some(value), None) => {
                let text = value.to_str().map_err(|_| wrong())?;
                Some(text.parse().map_err(|_| wrong())?)
            }
            (Some(_), Some(_)) => return Err(bad("Idempotency-Key: stands there twice").into()),
        };
        Ok(Self(key))
    }
}
