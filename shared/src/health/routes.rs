//! `/live`, `/ready` and `/health`, the same on every listener.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::{Health, Status};

/// The three pages at the root, and `/health` also under `/api/v1`.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/health", get(report))
        .route("/api/v1/health", get(report))
        .with_state(health)
}

async fn live(State(health): State<Health>) -> Response {
    if health.is_live() {
        Json(json!({"status": "live"})).into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "stuck"})),
        )
            .into_response()
    }
}

/// Unready is 503, with the reasons; degraded is 200, with the reasons.
async fn ready(State(health): State<Health>) -> Response {
    let report = health.report();
    let reasons: Vec<_> = report
        .checks
        .iter()
        .filter(|check| check.status != Status::Ok)
        .map(|check| json!({"check": check.name, "status": check.status, "reason": check.reason}))
        .collect();
    match report.status {
        Status::Ok => Json(json!({"status": "ready"})).into_response(),
        Status::Degraded => Json(json!({"status": "degraded", "reasons": reasons})).into_response(),
        Status::Starting | Status::Failed => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "unready", "reasons": reasons})),
        )
            .into_response(),
    }
}

/// Always 200: the page is for people, its contents tell.
async fn report(State(health): State<Health>) -> Response {
    Json(health.report()).into_response()
}
