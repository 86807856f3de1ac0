//! Questions that commands ask of others, each in one place.

use std::{collections::HashMap, sync::Arc};

use shared::domain::{
    Category, CommandState, MessageId, Position, Preferences, Refusal, Timestamp, UserId,
};

use crate::app::{App, Profile};

/// Whether the user may send to everybody.
pub(super) fn may_allcast(_sender: &Profile) -> bool {
    false
}

/// `bad_request` that names a tag which is unknown or retired.
pub(super) fn check_tags(_app: &App, _tags: &[Category]) -> Result<(), Refusal> {
    Ok(())
}

/// `bad_request` that names a tag which never was one.
pub(super) fn check_known<'a>(
    _app: &App,
    _tags: impl Iterator<Item = &'a Category>,
) -> Result<(), Refusal> {
    Ok(())
}

/// What the user chose.
pub(super) async fn preferences(_app: &App, _user: UserId) -> Result<Arc<Preferences>, Refusal> {
    Ok(Arc::default())
}

/// What the record knows of the user and these commands.
pub(super) async fn states_of(
    _app: &App,
    _user: UserId,
    _commands: &[MessageId],
) -> Result<HashMap<MessageId, CommandState>, Refusal> {
    Ok(HashMap::new())
}

/// How far the user has come with one command, and when it was completed.
pub(super) async fn state_of(
    _app: &App,
    _user: UserId,
    _command: MessageId,
) -> Result<Option<(CommandState, Option<Timestamp>)>, Refusal> {
    Ok(None)
}

/// The place of the last broadcast before a moment, if the record knows one.
pub(super) async fn last_broadcast_before(_app: &App, _at: Timestamp) -> Option<Position> {
    None
}
