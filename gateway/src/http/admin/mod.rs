//! `/admin`: what moderators and administrators do. Each change and each refusal has its line in the
//! audit log; what changes Postgres has it in the same transaction.

mod audit;
mod bots;
mod broadcast;
mod categories;
mod connections;
mod groups;
mod statistics;
mod users;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use super::Api;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .merge(users::routes())
        .merge(bots::routes())
        .merge(groups::routes())
        .merge(categories::routes())
        .merge(connections::routes())
        .merge(statistics::routes())
        .merge(broadcast::routes())
        .merge(audit::routes())
}
