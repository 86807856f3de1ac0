//! `/admin/categories`: what commands may be tagged with.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    domain::{Category, Code, Digest, DirectoryChange, Refusal},
    postgres::{CategoryChange, Created, RequestKey},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::http::{
    Api, Failure,
    body::Body,
    categories::CategoryView,
    idempotency::Idempotent,
    list::List,
    openapi::{BearerRefusals, ErrorAnswer},
    parameters::{At, bad, named},
    staff::Admin,
};

const MAX_TITLE: usize = 64;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(change))
}

/// All categories as the record has them, on one page. For administrators.
#[utoipa::path(
    get, path = "/categories", tag = "admin", security(("bearer" = [])),
    responses((status = 200, description = "By name", body = List<CategoryView>), BearerRefusals)
)]
async fn list(State(api): State<Arc<Api>>, _: Admin) -> Result<Json<List<CategoryView>>, Failure> {
    let categories = api.app()?.postgres.categories().await?;
    Ok(Json(List {
        items: categories.into_iter().map(CategoryView::from).collect(),
        next_cursor: None,
    }))
}

/// A new category.
#[derive(Serialize, Deserialize, ToSchema)]
struct NewCategory {
    /// The tag; it never changes.
    #[schema(pattern = "^[a-z0-9_-]{1,32}$")]
    name: String,
    /// What people read; the name if absent.
    #[schema(min_length = 1, max_length = 64)]
    title: Option<String>,
}

fn check_title(title: &str) -> Result<(), Refusal> {
    let fits = title.chars().count() <= MAX_TITLE
        && !title.trim().is_empty()
        && !title.chars().any(char::is_control);
    if fits {
        Ok(())
    } else {
        Err(bad(
            "title: expected 1 to 64 characters, none of them a control character",
        ))
    }
}

/// Makes a category. For administrators.
#[utoipa::path(
    post, path = "/categories", tag = "admin", security(("bearer" = [])), request_body = NewCategory,
    params(("Idempotency-Key" = Option<String>, Header, max_length = 64, description = "The same answer for the same request again, for a day")),
    responses(
        (status = 201, description = "The category", body = CategoryView),
        (status = 409, description = "The name is taken, or the key was used for another request (`conflict`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn create(
    State(api): State<Arc<Api>>,
    staff: Admin,
    Idempotent(key): Idempotent,
    Body(new): Body<NewCategory>,
) -> Result<(StatusCode, Json<CategoryView>), Failure> {
    let name: Category = named(&new.name)?;
    let title = new.title.as_deref().unwrap_or(&new.name);
    check_title(title)?;
    let request = key.map(|key| RequestKey {
        scope: format!("{}:categories", staff.user),
        key: key.to_string(),
        digest: Digest::of(json!([name, title]).to_string().as_bytes()),
    });
    let audit = staff.audit_of(format!("categories/{name}"), json!({"title": title}));
    let postgres = &api.app()?.postgres;
    let conflict = |message| Refusal::new(Code::Conflict, message);
    let category = match postgres
        .create_category(&name, title, request.as_ref(), &audit)
        .await?
    {
        Created::Done(category) => category,
        Created::Taken => return Err(conflict("there is such a category").into()),
        Created::OtherRequest => {
            return Err(conflict("this key was used for another request").into());
        }
    };
    api.tell(DirectoryChange::Categories).await?;
    Ok((StatusCode::CREATED, Json(category.into())))
}

/// What to change; what is absent stays.
#[derive(Serialize, Deserialize, ToSchema)]
struct CategoryPatch {
    /// What people read.
    #[schema(min_length = 1, max_length = 64)]
    title: Option<String>,
    /// Whether new commands may not carry it.
    retired: Option<bool>,
}

/// Renames a category, retires it, or takes it back into use. For administrators.
#[utoipa::path(
    patch, path = "/categories/{name}", tag = "admin", security(("bearer" = [])), request_body = CategoryPatch,
    params(("name" = String, Path, pattern = "^[a-z0-9_-]{1,32}$", description = "The category's name")),
    responses(
        (status = 200, description = "The category as it is now", body = CategoryView),
        (status = 404, description = "There is no such category (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn change(
    State(api): State<Arc<Api>>,
    staff: Admin,
    At(name): At<String>,
    Body(change): Body<CategoryPatch>,
) -> Result<Json<CategoryView>, Failure> {
    let name: Category = named(&name)?;
    if let Some(title) = &change.title {
        check_title(title)?;
    }
    let audit = staff.audit(json!(change));
    let change = CategoryChange {
        title: change.title,
        retired: change.retired,
    };
    let postgres = &api.app()?.postgres;
    let category = postgres.change_category(&name, &change, &audit).await?;
    let no_such = || Refusal::new(Code::NotFound, "there is no such category");
    let category = category.ok_or_else(no_such)?;
    api.tell(DirectoryChange::Categories).await?;
    Ok(Json(category.into()))
}
