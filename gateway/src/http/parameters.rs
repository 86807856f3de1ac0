//! What stands in a request's path and query, with refusals of our own shape.

use std::str::FromStr;

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::request::Parts,
};
use serde::de::DeserializeOwned;
use shared::domain::{Code, InvalidId, Refusal};

use super::Failure;

/// The query. Unknown parameters are ignored.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(bad(format!("query: {}", rejection.body_text())).into()),
        }
    }
}

/// What a path names, as text.
pub(super) struct At<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(path)) => Ok(Self(path)),
            Err(_) => Err(bad("the path cannot be read").into()),
        }
    }
}

/// An id or a name in a path.
pub(super) fn named<T: FromStr<Err = InvalidId>>(text: &str) -> Result<T, Refusal> {
    text.parse()
        .map_err(|error: InvalidId| bad(error.to_string()))
}

/// A refusal of a rule.
pub(super) fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::BadRequest, message)
}
