//! Questions that commands ask of others, each in one place.

use std::sync::Arc;

use shared::domain::{Category, Preferences, Refusal, UserId};

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
