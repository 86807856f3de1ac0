//! `/admin/users`: who there is, and what they may do.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    domain::{Code, DirectoryChange, Refusal, Timestamp, UserId},
    postgres::{Role, User, UserChange, UserChanged, UserStatus},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::http::{
    Api, Failure,
    body::Body,
    list::{self, List},
    openapi::{BearerRefusals, ErrorAnswer},
    parameters::{Asked, At, bad, named},
    staff::Moderator,
    users::no_such_user,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(change))
}

/// A user as moderators see them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UserView {
    #[schema(value_type = String, format = Uuid)]
    id: UserId,
    username: String,
    display_name: Option<String>,
    #[schema(value_type = RoleName)]
    role: &'static str,
    #[schema(value_type = StatusName)]
    status: &'static str,
    /// Whether one of the user's groups may send to everybody.
    may_allcast: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            username: user.username,
            display_name: user.display_name,
            role: user.role.as_str(),
            status: user.status.as_str(),
            may_allcast: user.may_allcast,
            created_at: user.created_at,
        }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum RoleName {
    User,
    Moderator,
    Admin,
}

#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum StatusName {
    Active,
    Banned,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Search {
    /// How the username begins, whatever its case.
    #[param(max_length = 32)]
    query: Option<String>,
    /// Most items of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Users by name. For moderators.
#[utoipa::path(
    get, path = "/users", tag = "admin", security(("bearer" = [])), params(Search),
    responses((status = 200, description = "In the order of their names", body = List<UserView>), BearerRefusals)
)]
async fn list(
    State(api): State<Arc<Api>>,
    _: Moderator,
    Asked(search): Asked<Search>,
) -> Result<Json<List<UserView>>, Failure> {
    let limit = list::limit(search.limit)?;
    let after: Option<String> = search.cursor.as_deref().map(list::decode).transpose()?;
    let prefix = search.query.unwrap_or_default();
    if prefix.contains('\0') {
        return Err(bad("query: contains NUL").into());
    }
    let postgres = &api.app()?.postgres;
    let users = postgres.users(&prefix, after.as_deref(), limit + 1).await?;
    let place = |user: &User| user.username.to_ascii_lowercase();
    Ok(Json(List::of(users, limit, place, UserView::from)))
}

/// What to change; what is absent stays.
#[derive(Deserialize, ToSchema)]
struct UserPatch {
    role: Option<RoleName>,
    status: Option<StatusName>,
}

impl UserPatch {
    fn plain(&self) -> UserChange {
        UserChange {
            role: self.role.map(|role| match role {
                RoleName::User => Role::User,
                RoleName::Moderator => Role::Moderator,
                RoleName::Admin => Role::Admin,
            }),
            status: self.status.map(|status| match status {
                StatusName::Active => UserStatus::Active,
                StatusName::Banned => UserStatus::Banned,
            }),
        }
    }
}

/// Changes a role, bans or unbans. Moderators may ban and unban plain users, administrators
/// everything; nobody may change themselves, and an active administrator always remains. The sockets
/// of a banned user close with 4403 on every node.
#[utoipa::path(
    patch, path = "/users/{id}", tag = "admin", security(("bearer" = [])), request_body = UserPatch,
    params(("id" = String, Path, format = Uuid, description = "The user's id")),
    responses(
        (status = 200, description = "The user as they are now", body = UserView),
        (status = 404, description = "There is no such user (`not_found`)", body = ErrorAnswer),
        (status = 409, description = "It is the last administrator (`conflict`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn change(
    State(api): State<Arc<Api>>,
    staff: Moderator,
    At(id): At<String>,
    Body(change): Body<UserPatch>,
) -> Result<Json<UserView>, Failure> {
    let id: UserId = named(&id)?;
    let details = json!({"role": change.role, "status": change.status});
    let plain = change.plain();
    let forbidden = |message| Refusal::new(Code::Forbidden, message);
    if id == staff.user {
        let refusal = forbidden("nobody changes their own role or status");
        return Err(staff.refuse(&api, &details, refusal).await);
    }
    let is_admin = staff.role == Role::Admin;
    if !is_admin && plain.role.is_some() {
        let refusal = forbidden("only administrators change roles");
        return Err(staff.refuse(&api, &details, refusal).await);
    }
    let allows = |user: &User| is_admin || user.role == Role::User;
    let audit = staff.audit(details.clone());
    let postgres = &api.app()?.postgres;
    let user = match postgres.change_user(id, plain, allows, &audit).await? {
        UserChanged::Done(user) => user,
        UserChanged::NoUser => return Err(no_such_user().into()),
        UserChanged::Forbidden => {
            let refusal = forbidden("moderators change plain users only");
            return Err(staff.refuse(&api, &details, refusal).await);
        }
        UserChanged::LastAdmin => {
            let refusal = Refusal::new(Code::Conflict, "it is the last administrator");
            return Err(staff.refuse(&api, &details, refusal).await);
        }
    };
    api.tell(DirectoryChange::User { user_id: id }).await?;
    Ok(Json(user.into()))
}
