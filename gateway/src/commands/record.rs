//! What the record knows of a user and commands for many.

use std::collections::HashMap;

use shared::{
    domain::{CommandState, MessageId, Position, Refusal, Timestamp, UserId},
    postgres::RecipientState,
};
use uuid::Uuid;

use crate::{app::App, fanout::postgres_refusal};

/// How far the user has come with these commands. Nothing of one: none of their devices has
/// confirmed it.
pub(super) async fn states_of(
    app: &App,
    user: UserId,
    commands: &[MessageId],
) -> Result<HashMap<MessageId, CommandState>, Refusal> {
    let states = app.postgres.states_of(user, commands).await;
    states.map_err(|error| postgres_refusal(&error))
}

/// How far the user has come with one command, if any of their devices has confirmed it.
pub(super) async fn state_of(
    app: &App,
    user: UserId,
    command: MessageId,
) -> Result<Option<RecipientState>, Refusal> {
    // Recipients are listed by their ids, behind one of them.
    let before = user.0.as_u128().checked_sub(1);
    let after = before.map(|id| UserId(Uuid::from_u128(id)));
    let first = app.postgres.recipients_of(command, None, after, 1).await;
    let first = first.map_err(|error| postgres_refusal(&error))?;
    Ok(first.into_iter().find(|it| it.user == user))
}

/// A place in the log of broadcasts behind which everything stands that was sent at `at` or later.
/// Only saves reading what is older, so the record need not be there.
pub(super) async fn broadcasts_from(app: &App, at: Timestamp) -> Position {
    match app.postgres.last_broadcast_before(at).await {
        Ok(last) => last.unwrap_or(Position::START),
        Err(error) => {
            tracing::debug!(%error, "the record cannot tell where broadcasts of a time begin");
            Position::START
        }
    }
}
