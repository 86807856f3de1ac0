//! Who takes part in a conversation.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use shared::domain::{
    ConversationChange, ConversationId, ParticipantRole, Refusal, Timestamp, UserId,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{ConversationView, View, change, view};
use crate::http::{
    Api, Failure,
    active::Active,
    body::Body,
    openapi::{BearerRefusals, ErrorAnswer},
    parameters::{At, bad, named},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(add))
        .routes(routes!(remove, alter))
}

/// Somebody to bring in.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewParticipant {
    /// Who.
    #[schema(format = Uuid)]
    user_id: String,
    /// `ADMIN` or `MEMBER`; without, `MEMBER`.
    #[schema(value_type = Option<String>, pattern = "^(ADMIN|MEMBER)$")]
    role: Option<ParticipantRole>,
}

/// Brings somebody into a group; also somebody who has left it. For its administrators.
#[utoipa::path(
    post, path = "/{id}/participants", tag = "conversations", security(("bearer" = [])), request_body = NewParticipant,
    params(("id" = String, Path, format = Uuid, description = "The conversation's id")),
    responses(
        (status = 200, description = "The conversation as it is now", body = ConversationView),
        (status = 404, description = "There is no such conversation or user (`not_found`)", body = ErrorAnswer),
        (status = 409, description = "The conversation is a DIRECT one (`conflict`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn add(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    At(id): At<String>,
    Body(new): Body<NewParticipant>,
) -> Result<Json<View>, Failure> {
    let id: ConversationId = named(&id)?;
    let user_id: UserId = named(&new.user_id)?;
    let mut asked = vec![ConversationChange::Joined {
        user_ids: vec![user_id],
    }];
    if let Some(role @ ParticipantRole::Admin) = new.role {
        asked.push(ConversationChange::Role { user_id, role });
    }
    change(&api, user, id, &asked).await?;
    Ok(Json(view(&api, user, id).await?))
}

/// Leaves a group, or, for its administrators, takes somebody out of it.
#[utoipa::path(
    delete, path = "/{id}/participants/{userId}", tag = "conversations", security(("bearer" = [])),
    params(
        ("id" = String, Path, format = Uuid, description = "The conversation's id"),
        ("userId" = String, Path, format = Uuid, description = "Who: oneself to leave"),
    ),
    responses(
        (status = 204, description = "They take part no more"),
        (status = 404, description = "There is no such conversation or participant (`not_found`)", body = ErrorAnswer),
        (status = 409, description = "The conversation is a DIRECT one (`conflict`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn remove(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    At((id, user_id)): At<(String, String)>,
) -> Result<StatusCode, Failure> {
    let (id, user_id): (ConversationId, UserId) = (named(&id)?, named(&user_id)?);
    let asked = if user_id == user {
        ConversationChange::Left { user_id }
    } else {
        ConversationChange::Removed { user_id }
    };
    change(&api, user, id, &[asked]).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a participant may do from now on; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ParticipantChange {
    /// `ADMIN` or `MEMBER`.
    #[schema(value_type = Option<String>, pattern = "^(ADMIN|MEMBER)$")]
    role: Option<ParticipantRole>,
    /// Until when they may not write; null: they may again.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    muted_until: Mute,
}

/// Null is told from nothing.
#[derive(Default)]
enum Mute {
    /// As it was.
    #[default]
    Unchanged,
    /// They may write.
    Lifted,
    /// They may not until then.
    Until(String),
}

impl<'de> Deserialize<'de> for Mute {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let until = Option::<String>::deserialize(from)?;
        Ok(until.map_or(Self::Lifted, Self::Until))
    }
}

impl ParticipantChange {
    fn changes(self, user_id: UserId) -> Result<Vec<ConversationChange>, Refusal> {
        let mut asked = Vec::new();
        if let Some(role) = self.role {
            asked.push(ConversationChange::Role { user_id, role });
        }
        let until = match self.muted_until {
            Mute::Unchanged => None,
            Mute::Lifted => Some(None),
            Mute::Until(text) => {
                let until = Timestamp::parse(&text);
                Some(Some(
                    until.ok_or_else(|| bad("mutedUntil: not an RFC 3339 time"))?,
                ))
            }
        };
        if let Some(until) = until {
            asked.push(ConversationChange::Muted { user_id, until });
        }
        if asked.is_empty() {
            return Err(bad("role: missing"));
        }
        Ok(asked)
    }
}

/// Changes what somebody may do in a group. For its administrators.
#[utoipa::path(
    patch, path = "/{id}/participants/{userId}", tag = "conversations", security(("bearer" = [])), request_body = ParticipantChange,
    params(
        ("id" = String, Path, format = Uuid, description = "The conversation's id"),
        ("userId" = String, Path, format = Uuid, description = "Who"),
    ),
    responses(
        (status = 200, description = "The conversation as it is now", body = ConversationView),
        (status = 404, description = "There is no such conversation or participant (`not_found`)", body = ErrorAnswer),
        (status = 409, description = "The conversation is a DIRECT one, or has no other administrator (`conflict`)", body = ErrorAnswer),
        BearerRefusals,
    )
)]
async fn alter(
    State(api): State<Arc<Api>>,
    Active(user): Active,
    At((id, user_id)): At<(String, String)>,
    Body(wanted): Body<ParticipantChange>,
) -> Result<Json<View>, Failure> {
    let (id, user_id): (ConversationId, UserId) = (named(&id)?, named(&user_id)?);
    change(&api, user, id, &wanted.changes(user_id)?).await?;
    Ok(Json(view(&api, user, id).await?))
}
