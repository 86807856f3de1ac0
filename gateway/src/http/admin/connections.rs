//! `/admin/connections`: who is connected where.

use std::{str::FromStr, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use serde_json::json;
use shared::{
    domain::{Device, DirectoryChange, NodeId, Partition, SessionId, Timestamp, UserId},
    redis::{Connection, ConnectionsAfter},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::http::{
    Api, Failure,
    list::{PageQuery, encode},
    openapi::BearerRefusals,
    parameters::{Asked, At, named},
    staff::Moderator,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(end))
}

/// A session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectionView {
    #[schema(value_type = String, format = Uuid)]
    session_id: SessionId,
    #[schema(value_type = String, format = Uuid)]
    user_id: UserId,
    #[schema(value_type = String)]
    node: NodeId,
    #[schema(value_type = String)]
    device: Device,
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// What it speaks; empty if an earlier release opened it.
    dialect: String,
    /// Its client did nothing for long.
    idle: bool,
}

impl From<Connection> for ConnectionView {
    fn from(connection: Connection) -> Self {
        Self {
            session_id: connection.session,
            user_id: connection.user,
            node: connection.node,
            device: connection.device,
            since: connection.since,
            dialect: connection.dialect.into(),
            idle: connection.is_idle,
        }
    }
}

/// A gateway or worker.
#[derive(Serialize, ToSchema)]
struct NodeView {
    #[schema(value_type = String)]
    node: NodeId,
    /// Whether it has shown a sign of life lately.
    alive: bool,
    /// Sessions registered for it; those of a dead node wait to be cleared away.
    sessions: u64,
}

/// A page of sessions.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ConnectionPage {
    items: Vec<ConnectionView>,
    /// Where the list goes on; null at its end.
    next_cursor: Option<String>,
    /// Every node; on the first page only.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<NodeView>>,
}

/// `<partition>:<session>`
struct Place(ConnectionsAfter);

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (partition, session) = text.split_once(':').ok_or(())?;
        Ok(Self(ConnectionsAfter {
            partition: Partition(partition.parse().map_err(|_| ())?),
            session: Some(session.parse().map_err(|_| ())?),
        }))
    }
}

fn cursor(place: ConnectionsAfter) -> String {
    let session = place.session.map(|session| session.to_string());
    encode(&format!(
        "{}:{}",
        place.partition.0,
        session.unwrap_or_default()
    ))
}

/// Sessions of all nodes. For moderators.
#[utoipa::path(
    get, path = "/connections", tag = "admin", security(("bearer" = [])), params(PageQuery),
    responses((status = 200, description = "In an order that stays", body = ConnectionPage), BearerRefusals)
)]
async fn list(
    State(api): State<Arc<Api>>,
    _: Moderator,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<ConnectionPage>, Failure> {
    let (limit, after) = (page.limit()?, page.after::<Place>()?);
    let store = &api.app()?.store;
    let known = store.nodes().await?;
    let names: Vec<_> = known.iter().map(|(name, ..)| name.clone()).collect();
    let begin = after
        .as_ref()
        .map_or(ConnectionsAfter::START, |place| place.0);
    let (connections, next) = store.connections(&names, begin, limit).await?;
    let nodes = if after.is_none() {
        let counts = store.sessions_at(&names).await?;
        let nodes = known.into_iter().zip(counts);
        let view = |((node, _, alive), sessions)| NodeView {
            node,
            alive,
            sessions,
        };
        Some(nodes.map(view).collect())
    } else {
        None
    };
    Ok(Json(ConnectionPage {
        items: connections.into_iter().map(ConnectionView::from).collect(),
        next_cursor: next.map(cursor),
        nodes,
    }))
}

/// Ends a session, on whichever node it is; its socket closes. For moderators.
#[utoipa::path(
    delete, path = "/connections/{sessionId}", tag = "admin", security(("bearer" = [])),
    params(("sessionId" = String, Path, format = Uuid, description = "The session's id")),
    responses(
        (status = 202, description = "Every node is told; whoever has the session ends it"),
        BearerRefusals,
    )
)]
async fn end(
    State(api): State<Arc<Api>>,
    staff: Moderator,
    At(session): At<String>,
) -> Result<StatusCode, Failure> {
    let session_id: SessionId = named(&session)?;
    // First the line: nobody is thrown out without one.
    let audit = staff.audit(json!({}));
    api.app()?.postgres.audit(&audit, "done").await?;
    api.append_change(&DirectoryChange::Disconnect { session_id })
        .await??;
    Ok(StatusCode::ACCEPTED)
}
