//! The description of what is said on sockets, served beside that of REST.

use std::sync::Arc;

use axum::Router;

use super::{Api, openapi::serving};
use crate::dialect::contracts;

/// Where the document is served.
const PATH: &str = "/api/v1/asyncapi.json";

/// What sockets say.
#[utoipa::path(
    get, path = "/api/v1/asyncapi.json", tag = "health",
    responses((status = 200, description = "AsyncAPI 3", body = Object))
)]
#[expect(dead_code, reason = "served by `served`; described here")]
pub(super) fn document() {}

/// Serves the document; written once.
pub(super) fn served() -> Router<Arc<Api>> {
    serving(PATH, contracts::asyncapi().to_string())
}
