//! Refusals as HTTP: `{"error": {"code", "message", "requestId", "retryAfterMs"?}}`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use shared::{
    auth::PasswordError,
    domain::{Code, Refusal},
    postgres::PgError,
    redis::StoreError,
};
use std::time::Duration;

/// A refusal on its way out. Its body is written by [`write()`], which knows the request's id.
#[derive(Debug, Clone)]
pub struct Failure {
    refusal: Refusal,
    status: StatusCode,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            Code::BadRequest | Code::UnknownType => StatusCode::BAD_REQUEST,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Conflict => StatusCode::CONFLICT,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { refusal, status }
    }
}

impl From<PgError> for Failure {
    fn from(error: PgError) -> Self {
        let away = matches!(error, PgError::Unavailable(_));
        tracing::warn!(error = %Chain(&error), "postgres could not be asked");
        Self::of_store(away)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::warn!(error = %Chain(&error), "redis could not be asked");
        Self::of_store(!matches!(error, StoreError::Unexpected(_)))
    }
}

impl From<PasswordError> for Failure {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => {
                Refusal::new(Code::RateLimited, "too many log-ins at the moment")
                    .retry_after(Duration::from_secs(1))
            }
            PasswordError::TooLong => Refusal::new(Code::BadRequest, "the password is too long"),
            PasswordError::Failed => {
                Refusal::new(Code::Internal, "the password could not be checked")
            }
        }
        .into()
    }
}

impl Failure {
    fn of_store(away: bool) -> Self {
        if away {
            let refusal = Refusal::new(
                Code::Unavailable,
                "a part of the service is away, try again",
            );
            refusal.retry_after(Duration::from_secs(1)).into()
        } else {
            Refusal::new(Code::Internal, "something went wrong on our side").into()
        }
    }
}

/// An error with its causes, for the log.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives a failure its body and headers; any other response stays as it is.
pub(super) fn write(response: Response, request_id: &str) -> Response {
    let Some(failure) = response.extensions().get::<Failure>() else {
        return response;
    };
    let Failure { refusal, status } = failure.clone();
    let mut error =
        json!({"code": refusal.code, "message": refusal.message, "requestId": request_id});
    if let Some(wait) = refusal.retry_after {
        error["retryAfterMs"] = json!(wait.as_millis() as u64);
    }
    let mut written = (status, Json(json!({"error": error}))).into_response();
    let headers = written.headers_mut();
    if let Some(wait) = refusal.retry_after {
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from(wait.as_millis().div_ceil(1000) as u64),
        );
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    written
}

/// For paths nobody serves.
pub(super) async fn not_found() -> Failure {
    Refusal::new(Code::NotFound, "there is nothing at this path").into()
}

/// For paths that are served, but not like this.
pub(super) async fn method_not_allowed() -> Failure {
    let refusal = Refusal::new(Code::BadRequest, "this path does not take this method");
    Failure {
        refusal,
        status: StatusCode::METHOD_NOT_ALLOWED,
    }
}
