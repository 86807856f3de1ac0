//! What users want to see.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Category;

/// Most categories on either list.
pub const MAX_PREFERENCES: usize = 200;

/// Which categories reach a user. As the body of an entry, and on the wire, the JSON of this
/// struct.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preferences {
    /// A command with any of these does not reach the user.
    pub blocked_categories: BTreeSet<Category>,
    /// Unless empty, a command reaches the user only if all of its tags are among these.
    pub allowed_categories: BTreeSet<Category>,
}

impl Preferences {
    /// The rule of filtering: none of the tags is blocked and, where there is an allow list,
    /// every tag is on it. A command without tags passes.
    pub fn admit(&self, tags: &[Category]) -> bool {
        let is_allowed =
            |tag| self.allowed_categories.is_empty() || self.allowed_categories.contains(tag);
        tags.iter()
            .all(|tag| is_allowed(tag) && !self.blocked_categories.contains(tag))
    }

    /// True if everything passes.
    pub fn is_open(&self) -> bool {
        self.blocked_categories.is_empty() && self.allowed_categories.is_empty()
    }
}
