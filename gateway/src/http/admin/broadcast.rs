//! `/admin/broadcast`: a command for many, by the same request as on a socket.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use shared::{
    domain::{Broadcast, Code, CommandType, Durability},
    postgres::Audit,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    commands::{self, Asker},
    dialect::{self, Request},
    http::{
        Api, Failure,
        body::Body,
        idempotency::Idempotent,
        openapi::{BearerRefusals, ErrorAnswer},
        parameters::bad,
        staff::Moderator,
    },
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(send))
}

/// A command for many.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewBroadcast {
    /// `category` or `allcast`.
    #[schema(value_type = String, pattern = "^(category|allcast)$")]
    broadcast: Broadcast,
    /// `message`, `task` or `system`.
    #[schema(value_type = String, pattern = "^(message|task|system)$")]
    command_type: CommandType,
    /// At most 16 KiB of UTF-8 without NUL.
    #[schema(max_length = 16384)]
    content: String,
    /// Anything, passed on as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    data: Option<Box<RawValue>>,
    /// Tags; at least one for `category`.
    #[serde(default)]
    #[schema(max_items = 16)]
    categories: Vec<String>,
    /// At most two weeks ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// `memory`, `durable` or `stored`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^(memory|durable|stored)$")]
    durability: Option<Durability>,
}

/// The command.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    #[schema(format = Uuid)]
    command_id: String,
    /// `pending`.
    status: String,
}

/// Sends a command to everybody, or to everybody whom its categories reach. Administrators need no
/// group for `allcast`. For moderators.
#[utoipa::path(
    post, path = "/broadcast", tag = "admin", security(("bearer" = [])), request_body = NewBroadcast,
    params(("Idempotency-Key" = Option<String>, Header, max_length = 64, description = "The same answer for the same request again")),
    responses(
        (status = 202, description = "Accepted", body = Accepted),
        (status = 409, description = "The key was used for another request (`conflict`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn send(
    State(api): State<Arc<Api>>,
    staff: Moderator,
    Idempotent(key): Idempotent,
    Body(new): Body<NewBroadcast>,
) -> Result<(StatusCode, Json<Accepted>), Failure> {
    if new.broadcast == Broadcast::User {
        return Err(bad("broadcast: expected category or allcast").into());
    }
    let body = serde_json::to_string(&new).map_err(|_| bad("the body cannot be read"))?;
    let request = Request {
        id: key,
        name: "command.create".into(),
        body: dialect::Body::parse_object(&body)?,
    };
    let asker = Asker {
        staff: Some(staff.role),
        ..Asker::over_rest(staff.user)
    };
    let details = json!({"broadcast": new.broadcast, "categories": new.categories});
    let app = api.app()?;
    let reply = match commands::run(app, asker, &request).await {
        Ok(reply) => reply,
        Err(refusal) if refusal.code == Code::Forbidden => {
            return Err(staff.refuse(&api, &details, refusal).await);
        }
        Err(refusal) => {
            if refusal.code == Code::Unavailable {
                // It may be out, or get there yet.
                let line = staff.audit(details);
                written_down(app, &line, Code::Unavailable.as_str()).await;
            }
            return Err(refusal.into());
        }
    };
    let accepted: Accepted = serde_json::from_str(reply.payload.as_str()).map_err(|error| {
        tracing::error!(%error, "command.create answered something else");
        shared::domain::Refusal::new(Code::Internal, "internal error")
    })?;
    let line = staff.audit_of(format!("commands/{}", accepted.command_id), details);
    written_down(app, &line, "done").await;
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

/// The command is out, or may be: a line that cannot be written does not take it back.
async fn written_down(app: &App, line: &Audit, outcome: &str) {
    if let Err(error) = app.postgres.audit(line, outcome).await {
        tracing::error!(%error, ?line, outcome, "a broadcast is not in the audit log");
    }
}
