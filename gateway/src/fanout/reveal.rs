//! How what is said in conversations is made readable before a client sees it.

use std::sync::{Arc, OnceLock};

use shared::domain::{Entry, Kind};

use super::Fanout;

/// Makes the body of an entry readable; the application does, as it has the keys. Called once on a
/// node for each entry that somebody may get, where bells are heard: it must not take long.
pub type Reveal = Arc<dyn Fn(Entry) -> Entry + Send + Sync>;

/// What reveals, once somebody said so.
#[derive(Default)]
pub(super) struct Revealing(OnceLock<Reveal>);

impl Revealing {
    /// The entry as clients see it.
    pub(super) fn reveal(&self, entry: Entry) -> Entry {
        let is_message = matches!(entry.kind, Kind::MessageNew | Kind::MessageEdited);
        match self.0.get() {
            Some(reveal) if is_message => reveal(entry),
            _ => entry,
        }
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
