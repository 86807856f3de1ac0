//! The one conversation of two users, made when the first of them writes to the other.

use std::sync::Arc;

use shared::{
    domain::{Code, ConversationId, ConversationType, Refusal, UserId},
    postgres::UserStatus,
};

use super::change::{self, New};
use crate::{app::App, commands::Asker};

/// The DIRECT conversation of the caller and another.
pub(super) async fn with(
    app: &Arc<App>,
    caller: &Asker,
    other: UserId,
) -> Result<ConversationId, Refusal> {
    if other == caller.user {
        return Err(super::bad("targetUser: that is yourself"));
    }
    if let Some(id) = app.conversations.pair(caller.user, other).await {
        return Ok(id);
    }
    let recipient = app.users.get(other).await?;
    if recipient.status == UserStatus::Banned {
        return Err(Refusal::new(Code::NotFound, "no such user"));
    }
    let new = New {
        kind: ConversationType::Direct,
        title: None,
        participants: vec![other],
        id: None,
    };
    let made = change::create(app, caller.user, new).await?;
    Ok(made.id)
}
