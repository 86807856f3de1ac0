//! What every request gets: an id, a span, a count, and its time taken.

use axum::{extract::Request, http::HeaderValue, middleware::Next, response::Response};
use shared::logging::{Ids, Name};
use tokio::time::Instant;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{
    failure,
    metrics::{Outcome, REQUEST_SECONDS, REQUESTS, Route},
};

/// The id of a request, among its extensions.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

const ID: &str = "x-request-id";

/// The request's id: the one it came with, if that can go into logs and headers, else a new one.
fn id(request: &Request) -> String {
    let given = request
        .headers()
        .get(ID)
        .and_then(|value| value.to_str().ok());
    let fits = |id: &&str| {
        (1..=64).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    given
        .filter(fits)
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// The outermost layer. Only the path is logged: a query may hold a token.
pub(super) async fn observe(mut request: Request, next: Next) -> Response {
    let id = id(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    let route = Route::of(request.uri().path());
    let span = tracing::info_span!("http", method = %request.method(), path = request.uri().path());
    let ids = Ids {
        request: Name::new(&id),
        ..Ids::default()
    };
    let began = Instant::now();
    let answered = async {
        let mut response = failure::write(next.run(request).await, &id);
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(ID, value);
        }
        let status = response.status().as_u16();
        REQUESTS.of((route, Outcome::of(status))).increment(1);
        REQUEST_SECONDS
            .of(route)
            .record(began.elapsed().as_secs_f64());
        tracing::debug!(
            status,
            ms = began.elapsed().as_secs_f64() * 1000.0,
            "answered"
        );
        response
    };
    ids.during(answered.instrument(span)).await
}
