//! Bodies of requests: JSON of a bounded size that arrives in a bounded time.

use std::{sync::Arc, time::Duration};

use axum::extract::{FromRequest, Request};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use shared::domain::{Code, Refusal};
use tokio::time::timeout;

use super::{Api, Failure};

/// Longest wait for a body.
const PATIENCE: Duration = Duration::from_secs(10);

/// A JSON body. Its content type is not looked at; unknown fields are ignored.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Failure> {
        let most = api.settings.http.max_body.bytes();
        let body = Limited::new(request.into_body(), most).collect();
        let read = timeout(PATIENCE, body)
            .await
            .map_err(|_| Refusal::new(Code::BadRequest, "the body did not arrive in time"))?
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Refusal::new(Code::TooLarge, format!("a body has at most {most} bytes"))
                } else {
                    Refusal::new(Code::BadRequest, "the body could not be read")
                }
            })?;
        // The parser's message names the field or the place, and never quotes more than a word of a body; still, a
        // body may be a password, so only the kind of mistake goes back.
        let value = serde_json::from_slice(&read.to_bytes()).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let message = match error.classify() {
                serde_json::error::Category::Data => format!(
                    "a field is missing or of the wrong type (line {line}, column {column})"
                ),
                _ => format!("the body is not JSON (line {line}, column {column})"),
            };
            Refusal::new(Code::BadRequest, message)
        })?;
        Ok(Self(value))
    }
}
