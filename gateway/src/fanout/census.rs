//! How many sockets of this node speak what. Counted as they come and go, so that nobody has to look
//! at them all; said to the other nodes with every sign of life.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::dialect::DialectId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Census([AtomicU64; DialectId::COUNT]);

impl Census {
    pub(super) fn came(&self, dialect: DialectId) {
        self.0[dialect.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn went(&self, dialect: DialectId) {
        self.0[dialect.index()].fetch_sub(1, Ordering::Relaxed);
    }

    /// By the names of the dialects; those that nobody speaks, too.
    pub(super) fn counts(&self) -> [(&'static str, u64); DialectId::COUNT] {
        DialectId::ALL.map(|dialect| {
            let count = &self.0[dialect.index()];
            (dialect.name(), count.load(Ordering::Relaxed))
        })
    }
}
