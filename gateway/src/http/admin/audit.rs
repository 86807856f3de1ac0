//! `/admin/audit`: who did what.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::Value;
use shared::{
    domain::{Timestamp, UserId},
    postgres::Audited,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::http::{
    Api, Failure,
    list::{List, PageQuery},
    openapi::BearerRefusals,
    parameters::Asked,
    staff::Admin,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A line of the audit log.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AuditLine {
    id: String,
    /// Who; null at the command line.
    #[schema(value_type = Option<String>, format = Uuid)]
    actor: Option<UserId>,
    /// Method and route, or the name of a command of the process.
    #[schema(example = "PATCH /admin/users/{id}")]
    action: String,
    /// What it was done to.
    target: String,
    /// The arguments.
    #[schema(value_type = Object)]
    details: Value,
    /// `done`, or the code of the refusal.
    outcome: String,
    request_id: Option<String>,
    address: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

impl From<Audited> for AuditLine {
    fn from(line: Audited) -> Self {
        Self {
            id: line.id.to_string(),
            actor: line.what.actor,
            action: line.what.action,
            target: line.what.target,
            details: line.what.details,
            outcome: line.outcome,
            request_id: line.what.request_id,
            address: line.what.address,
            at: line.at,
        }
    }
}

/// What was done and what was refused, newest first. For administrators.
#[utoipa::path(
    get, path = "/audit", tag = "admin", security(("bearer" = [])), params(PageQuery),
    responses((status = 200, description = "The log", body = List<AuditLine>), BearerRefusals)
)]
async fn list(
    State(api): State<Arc<Api>>,
    _: Admin,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<List<AuditLine>>, Failure> {
    let (limit, before) = (page.limit()?, page.after::<i64>()?);
    let lines = api.app()?.postgres.audit_log(before, limit + 1).await?;
    Ok(Json(List::of(
        lines,
        limit,
        |line| line.id,
        AuditLine::from,
    )))
}
