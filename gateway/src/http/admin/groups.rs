//! `/admin/groups`: groups, their rights and their members.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    domain::{Code, DirectoryChange, GroupName, Refusal, Timestamp, UserId},
    postgres::{Group, MemberChange, Membership},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::http::{
    Api, Failure,
    body::Body,
    list::{List, PageQuery},
    openapi::{BearerRefusals, ErrorAnswer},
    parameters::{Asked, At, named},
    staff::Admin,
    users::no_such_user,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(put))
        .routes(routes!(members))
        .routes(routes!(add, remove))
}

/// A group and its rights.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct GroupView {
    #[schema(value_type = String)]
    name: GroupName,
    /// Whether its members may send to everybody.
    may_allcast: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        Self {
            name: group.name,
            may_allcast: group.may_allcast,
            created_at: group.created_at,
        }
    }
}

/// All groups by name. For administrators.
#[utoipa::path(
    get, path = "/groups", tag = "admin", security(("bearer" = [])), params(PageQuery),
    responses((status = 200, description = "By name", body = List<GroupView>), BearerRefusals)
)]
async fn list(
    State(api): State<Arc<Api>>,
    _: Admin,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<List<GroupView>>, Failure> {
    let (limit, after) = (page.limit()?, page.after::<String>()?);
    let groups = api
        .app()?
        .postgres
        .groups(after.as_deref(), limit + 1)
        .await?;
    Ok(Json(List::of(
        groups,
        limit,
        |group| group.name.clone(),
        GroupView::from,
    )))
}

/// A group's rights.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Rights {
    /// Whether its members may send to everybody.
    may_allcast: bool,
}

/// Makes a group or changes its rights. For administrators.
#[utoipa::path(
    put, path = "/groups/{name}", tag = "admin", security(("bearer" = [])), request_body = Rights,
    params(("name" = String, Path, pattern = "^[a-z0-9_-]{1,64}$", description = "The group's name")),
    responses((status = 200, description = "The group as it is now", body = GroupView), BearerRefusals)
)]
async fn put(
    State(api): State<Arc<Api>>,
    staff: Admin,
    At(name): At<String>,
    Body(rights): Body<Rights>,
) -> Result<Json<GroupView>, Failure> {
    let name: GroupName = named(&name)?;
    let audit = staff.audit(json!(rights));
    let postgres = &api.app()?.postgres;
    let group = postgres
        .put_group(&name, rights.may_allcast, &audit)
        .await?;
    api.tell(DirectoryChange::Groups).await?;
    Ok(Json(group.into()))
}

/// Somebody in a group.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Member {
    #[schema(value_type = String, format = Uuid)]
    user_id: UserId,
    username: String,
    #[schema(value_type = String, format = DateTime)]
    assigned_at: Timestamp,
}

impl From<Membership> for Member {
    fn from(member: Membership) -> Self {
        Self {
            user_id: member.user,
            username: member.username,
            assigned_at: member.assigned_at,
        }
    }
}

/// Who is in a group. For administrators.
#[utoipa::path(
    get, path = "/groups/{name}/members", tag = "admin", security(("bearer" = [])),
    params(("name" = String, Path, pattern = "^[a-z0-9_-]{1,64}$", description = "The group's name"), PageQuery),
    responses(
        (status = 200, description = "By id", body = List<Member>),
        (status = 404, description = "There is no such group (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn members(
    State(api): State<Arc<Api>>,
    _: Admin,
    At(name): At<String>,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<List<Member>>, Failure> {
    let name: GroupName = named(&name)?;
    let (limit, after) = (page.limit()?, page.after::<UserId>()?);
    let members = api.app()?.postgres.members(&name, after, limit + 1).await?;
    let members = members.ok_or_else(no_such_group)?;
    Ok(Json(List::of(
        members,
        limit,
        |member| member.user,
        Member::from,
    )))
}

/// Puts a user into a group. For administrators.
#[utoipa::path(
    put, path = "/groups/{name}/members/{userId}", tag = "admin", security(("bearer" = [])),
    params(
        ("name" = String, Path, pattern = "^[a-z0-9_-]{1,64}$", description = "The group's name"),
        ("userId" = String, Path, format = Uuid, description = "The user's id"),
    ),
    responses(
        (status = 204, description = "The user is in the group"),
        (status = 404, description = "There is no such group or user (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn add(
    State(api): State<Arc<Api>>,
    staff: Admin,
    At((name, user)): At<(String, String)>,
) -> Result<StatusCode, Failure> {
    let (name, user): (GroupName, UserId) = (named(&name)?, named(&user)?);
    let audit = staff.audit(json!({}));
    let done = api.app()?.postgres.add_member(&name, user, &audit).await?;
    changed(&api, user, done).await
}

/// Takes a user out of a group. For administrators.
#[utoipa::path(
    delete, path = "/groups/{name}/members/{userId}", tag = "admin", security(("bearer" = [])),
    params(
        ("name" = String, Path, pattern = "^[a-z0-9_-]{1,64}$", description = "The group's name"),
        ("userId" = String, Path, format = Uuid, description = "The user's id"),
    ),
    responses(
        (status = 204, description = "The user is not in the group any more"),
        (status = 404, description = "The user is not in such a group (`not_found`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn remove(
    State(api): State<Arc<Api>>,
    staff: Admin,
    At((name, user)): At<(String, String)>,
) -> Result<StatusCode, Failure> {
    let (name, user): (GroupName, UserId) = (named(&name)?, named(&user)?);
    let audit = staff.audit(json!({}));
    let done = api
        .app()?
        .postgres
        .remove_member(&name, user, &audit)
        .await?;
    changed(&api, user, done).await
}

async fn changed(api: &Api, user: UserId, done: MemberChange) -> Result<StatusCode, Failure> {
    match done {
        MemberChange::Done => {}
        MemberChange::NoGroup => return Err(no_such_group().into()),
        MemberChange::NoUser => return Err(no_such_user().into()),
        MemberChange::NoMember => {
            let message = "the user is not in such a group";
            return Err(Refusal::new(Code::NotFound, message).into());
        }
    }
    api.tell(DirectoryChange::User { user_id: user }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn no_such_group() -> Refusal {
    Refusal::new(Code::NotFound, "there is no such group")
}
