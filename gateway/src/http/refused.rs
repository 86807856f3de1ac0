//! How a request is refused before any resource has seen it.

use std::time::Duration;

use axum::body::Body;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use serde::Serialize;
use shared::domain::{Code, Refusal};

/// A status, what the body says, and more headers.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) refusal: Refusal,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Outer<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inner<'a> {
    code: &'static str,
    message: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, refusal: Refusal) -> Self {
        Self {
            status,
            refusal,
            headers: Vec::new(),
        }
    }

    pub(super) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// The response; `request` names it in the log, too.
    pub(super) fn into_response(self, request: &str) -> Response<Body> {
        let body = Outer {
            error: Inner {
                code: self.refusal.code.as_str(),
                message: &self.refusal.message,
                request_id: request,
                retry_after_ms: self.refusal.retry_after.map(|wait| wait.as_millis() as u64),
            },
        };
        // Strings and numbers are always writable.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = self.refusal.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        headers.extend(self.headers);
        response
    }
}

/// The answer to sockets that come before Redis and Postgres have answered.
pub(super) fn starting(request: &str) -> Response<Body> {
    let refusal = Refusal::new(Code::Unavailable, "the node is starting");
    let refusal = refusal.retry_after(Duration::from_secs(1));
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, refusal).into_response(request)
}
