//! `/categories`: what commands may be tagged with.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use shared::{
    domain::{Category, Timestamp},
    postgres::CategoryRecord,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, Failure, active::Active, list::List, openapi::BearerRefusals};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A category.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CategoryView {
    /// The tag that commands carry; it never changes.
    #[schema(value_type = String, example = "general")]
    name: Category,
    /// What people read.
    title: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Since when new commands may not carry it.
    #[schema(value_type = Option<String>, format = DateTime)]
    retired_at: Option<Timestamp>,
}

impl From<CategoryRecord> for CategoryView {
    fn from(category: CategoryRecord) -> Self {
        Self {
            name: category.name,
            title: category.title,
            created_at: category.created_at,
            retired_at: category.retired_at,
        }
    }
}

/// The server's categories, all on one page; retired ones among them, for older commands carry them.
#[utoipa::path(
    get, path = "", tag = "categories", security(("bearer" = [])),
    responses((status = 200, description = "By name", body = List<CategoryView>), BearerRefusals)
)]
async fn list(State(api): State<Arc<Api>>, _: Active) -> Result<Json<List<CategoryView>>, Failure> {
    let categories = api.app()?.directory.categories()?;
    Ok(Json(List {
        items: categories.iter().cloned().map(CategoryView::from).collect(),
        next_cursor: None,
    }))
}
