//! A table in parts, each with a lock of its own.

use std::hash::{BuildHasher, Hash, RandomState};

use parking_lot::Mutex;

/// So many. A power of two, well above the number of threads.
pub(super) const PARTS: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Parts<T> {
    hasher: RandomState,
    parts: [Mutex<T>; PARTS],
}

impl<T: Default> Default for Parts<T> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            parts: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl<T> Parts<T> {
    /// Where everything about a key is.
    pub(super) fn of(&self, key: impl Hash) -> &Mutex<T> {
        &self.parts[self.hasher.hash_one(key) as usize % PARTS]
    }

    /// All of them, in an order that stays.
    pub(super) fn all(&self) -> &[Mutex<T>; PARTS] {
        &self.parts
    }
}
