//! How what is said in conversations is made readable before a client sees it.

use std::sync::{Arc, OnceLock};

use shared::domain::{Entry, Kind};

use super::{Fanout, shared_entry::SharedEntry};

/// Makes the body of an entry readable; the application does, as it has the keys. Called once on a
/// node for each entry that a socket gets, where bells are heard: it must not take long.
pub type Reveal = Arc<dyn Fn(Entry) -> Entry + Send + Sync>;

/// What reveals, once somebody said so.
#[derive(Default)]
pub(super) struct Revealing(OnceLock<Reveal>);

impl Revealing {
    /// An entry for many sockets, which is revealed when the first of them gets it.
    pub(super) fn share(&self, entry: Entry) -> Arc<SharedEntry> {
        let is_message = matches!(entry.kind, Kind::MessageNew | Kind::MessageEdited);
        let reveal = self.0.get().filter(|_| is_message);
        SharedEntry::of(entry, reveal.cloned())
    }
}

impl std::fmt::Debug for Revealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Revealing").finish_non_exhaustive()
    }
}

impl Fanout {
    /// Who reveals what is said; only the first counts. Until then bodies go out as they are kept,
    /// so this comes before the first socket.
    pub fn reveal_by(&self, reveal: Reveal) {
        let _ = self.hub.revealing().0.set(reveal);
    }
}
