//! What is encoded at most once per dialect and node, whoever it goes to.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::dialect::{self, DialectId, Told};

/// See the module. Nothing is encoded until a socket of the dialect wants it.
#[derive(Debug, Default)]
pub(super) struct Frames([OnceLock<Bytes>; DialectId::COUNT]);

impl Frames {
    /// What all sockets of a dialect share of what is told.
    pub(super) fn of<'a>(&self, dialect: DialectId, told: impl FnOnce() -> Told<'a>) -> &Bytes {
        self.0[dialect.index()].get_or_init(|| dialect::shared(dialect, &told()))
    }
}
