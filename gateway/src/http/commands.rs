//! `/commands`: the caller's queue and its history, and one command with what became of it.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use shared::{
    domain::{Code, CommandState, MessageId, Refusal, Timestamp, UserId},
    postgres::{RecipientCounts, RecipientState},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, Failure,
    active::Active,
    list::{self, List},
    openapi::{BearerRefusals, ErrorAnswer},
    parameters::{Asked, At, named},
};
use crate::{
    commands::{self, Asker, Seen},
    dialect::{self, Request},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(queue))
        .routes(routes!(one))
}

/// A state of a command.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CommandStatus {
    Pending,
    Delivered,
    Completed,
    Expired,
    Cancelled,
}

impl From<CommandStatus> for CommandState {
    fn from(state: CommandStatus) -> Self {
        match state {
            CommandStatus::Pending => Self::Pending,
            CommandStatus::Delivered => Self::Delivered,
            CommandStatus::Completed => Self::Completed,
            CommandStatus::Expired => Self::Expired,
            CommandStatus::Cancelled => Self::Cancelled,
        }
    }
}

#[derive(Deserialize, Serialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Queue {
    /// Only commands made at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(format = DateTime)]
    since: Option<String>,
    /// Only commands in this state; without, those that have not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<CommandStatus>,
    /// Most items of the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `nextCursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// A command in the caller's queue, as `command.queue` tells it on a socket.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Queued {
    #[schema(format = Uuid)]
    command_id: String,
    #[schema(format = DateTime)]
    created_at: String,
    status: CommandStatus,
    command_type: String,
    content: String,
    /// Anything the sender added.
    #[schema(value_type = Option<Object>, required = false)]
    data: Option<()>,
    #[schema(format = Uuid)]
    sender_id: String,
    sender_name: String,
    broadcast: String,
    categories: Vec<String>,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// What waits for the caller, or what became of it.
#[utoipa::path(
    get, path = "", tag = "commands", security(("bearer" = [])), params(Queue),
    responses(
        (status = 200, description = "What has not ended runs oldest first, what has ended newest first", body = List<Queued>),
        BearerRefusals,
    )
)]
async fn queue(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    Asked(query): Asked<Queue>,
) -> Result<Json<List<Box<RawValue>>>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        commands: Vec<Box<RawValue>>,
        next_cursor: Option<String>,
    }
    let request = Request {
        id: None,
        name: "command.queue".into(),
        body: dialect::Body::parse_object(&json!(query).to_string())?,
    };
    let reply = commands::run(api.app()?, Asker::over_rest(user), &request).await?;
    let answer: Answer = serde_json::from_str(reply.payload.as_str()).map_err(|error| {
        tracing::error!(%error, "command.queue answered something else");
        Refusal::new(Code::Internal, "internal error")
    })?;
    Ok(Json(List {
        items: answer.commands,
        next_cursor: answer.next_cursor,
    }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Recipients {
    /// Only recipients in this state.
    state: Option<CommandStatus>,
    /// Most recipients of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// A command and what became of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CommandView {
    #[schema(value_type = String, format = Uuid)]
    command_id: MessageId,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// For the recipient their own state; for the sender of a broadcast whether it ended for all.
    #[schema(value_type = CommandStatus)]
    status: CommandState,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    body: shared::domain::CommandBody,
    /// For the sender only.
    #[serde(skip_serializing_if = "Option::is_none")]
    recipients: Option<List<Recipient>>,
    /// For the sender only: recipients in each state.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
}

/// How far a command has come for a recipient.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Recipient {
    #[schema(value_type = String, format = Uuid)]
    user_id: UserId,
    #[schema(value_type = CommandStatus)]
    status: CommandState,
    #[schema(value_type = Option<String>, format = DateTime)]
    delivered_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    completed_at: Option<Timestamp>,
}

impl From<RecipientState> for Recipient {
    fn from(row: RecipientState) -> Self {
        Self {
            user_id: row.user,
            status: row.state,
            delivered_at: row.delivered_at,
            completed_at: row.completed_at,
        }
    }
}

/// Recipients in each state; one who completed a command is not counted as delivered.
#[derive(Serialize, ToSchema)]
struct Counts {
    /// Of a broadcast nobody: who has not confirmed it is not counted.
    pending: u64,
    delivered: u64,
    completed: u64,
    expired: u64,
    cancelled: u64,
}

impl From<RecipientCounts> for Counts {
    fn from(counts: RecipientCounts) -> Self {
        Self {
            pending: counts.pending,
            delivered: counts.delivered,
            completed: counts.completed,
            expired: counts.expired,
            cancelled: counts.cancelled,
        }
    }
}

/// A command: for its recipient with their state, for its sender with that of each recipient.
#[utoipa::path(
    get, path = "/{id}", tag = "commands", security(("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "The command's id"), Recipients),
    responses(
        (status = 200, description = "The command", body = CommandView),
        (status = 404, description = "There is none, or it is not for the caller (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn one(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    At(id): At<String>,
    Asked(page): Asked<Recipients>,
) -> Result<Json<CommandView>, Failure> {
    let id: MessageId = named(&id)?;
    let limit = list::limit(page.limit)?;
    let after = page.cursor.as_deref().map(list::decode).transpose()?;
    let app = api.app()?;
    let Seen { command, is_sender } = commands::look(app, user, id).await?;
    let (mut recipients, mut counts) = (None, None);
    if is_sender {
        let state = page.state.map(CommandState::from);
        let rows = app.postgres.recipients_of(id, state, after, limit + 1);
        let rows = rows.await?;
        recipients = Some(List::of(rows, limit, |row| row.user, Recipient::from));
        counts = Some(app.postgres.recipient_counts(id).await?.into());
    }
    Ok(Json(CommandView {
        command_id: command.id,
        created_at: command.created_at,
        status: command.state,
        recipients,
        counts,
        body: command.body,
    }))
}
