//! `/admin/connections/stats`: how many are connected, and how. Made of what every node says of itself
//! every few seconds and of one user's own record, so it costs the same however many there are.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use shared::domain::{NodeId, UserId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::connections::ConnectionView;
use crate::http::{
    Api, Failure,
    openapi::BearerRefusals,
    parameters::{Asked, named},
    staff::Moderator,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(statistics))
}

/// Whose sessions are wanted, too.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct StatisticsQuery {
    /// A user.
    #[param(value_type = Option<String>, format = Uuid)]
    user_id: Option<String>,
}

/// Sockets by the names of the dialects they speak.
type Speaking = BTreeMap<String, u64>;

/// A gateway.
#[derive(Serialize, ToSchema)]
struct NodeStatistics {
    #[schema(value_type = String)]
    node: NodeId,
    /// Whether it has shown a sign of life lately.
    alive: bool,
    /// Its sockets, as it said a few seconds ago.
    sockets: u64,
    /// The same by dialect.
    dialects: Speaking,
}

/// What is known of one user.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UserStatistics {
    #[schema(value_type = String, format = Uuid)]
    user_id: UserId,
    /// Their sessions by dialect.
    dialects: Speaking,
    /// Their sessions, oldest first; also those of a dead node that wait to be cleared away.
    sessions: Vec<ConnectionView>,
}

/// How many are connected.
#[derive(Serialize, ToSchema)]
struct Statistics {
    /// Sockets of all nodes.
    sockets: u64,
    /// The same by dialect.
    dialects: Speaking,
    /// Every gateway that has told of its sockets lately.
    nodes: Vec<NodeStatistics>,
    /// The user that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserStatistics>,
}

/// How many sockets there are, by node and by dialect; on request the sessions of one user. For
/// moderators.
#[utoipa::path(
    get, path = "/connections/stats", tag = "admin", security(("bearer" = [])),
    params(StatisticsQuery),
    responses((status = 200, description = "As of some seconds ago", body = Statistics), BearerRefusals)
)]
async fn statistics(
    State(api): State<Arc<Api>>,
    _: Moderator,
    Asked(query): Asked<StatisticsQuery>,
) -> Result<Json<Statistics>, Failure> {
    let user: Option<UserId> = query.user_id.as_deref().map(named).transpose()?;
    let store = &api.app()?.store;
    let known = store.nodes().await?;
    let names: Vec<_> = known.iter().map(|(name, ..)| name.clone()).collect();
    let said = store.sockets_at(&names).await?;
    let mut dialects = Speaking::new();
    let mut nodes = Vec::new();
    for ((node, _, alive), speaking) in known.into_iter().zip(said) {
        if speaking.is_empty() {
            // A worker, or a gateway that is gone.
            continue;
        }
        let speaking: Speaking = speaking
            .into_iter()
            .map(|(name, count)| (name.into(), count))
            .collect();
        for (name, count) in &speaking {
            *dialects.entry(name.clone()).or_default() += count;
        }
        nodes.push(NodeStatistics {
            node,
            alive,
            sockets: speaking.values().sum(),
            dialects: speaking,
        });
    }
    let user = match user {
        None => None,
        Some(user_id) => {
            let sessions = store.sessions_of(user_id).await?;
            let mut dialects = Speaking::new();
            for session in &sessions {
                *dialects.entry(session.dialect.to_string()).or_default() += 1;
            }
            Some(UserStatistics {
                user_id,
                dialects,
                sessions: sessions.into_iter().map(ConnectionView::from).collect(),
            })
        }
    };
    Ok(Json(Statistics {
        sockets: dialects.values().sum(),
        dialects,
        nodes,
        user,
    }))
}
