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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAGS: [&str; 5] = ["adult", "censored", "feet", "general", "mild"];

    /// What somebody thinks of a tag.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Says {
        Nothing,
        Blocked,
        Allowed,
        Both,
    }

    const OPINIONS: [Says; 4] = [Says::Nothing, Says::Blocked, Says::Allowed, Says::Both];

    fn preferences(opinions: &[Says]) -> Preferences {
        let list = |one: Says| {
            let is_listed = move |(_, says): &(_, &Says)| **says == one || **says == Says::Both;
            let tags = TAGS.iter().zip(opinions).filter(is_listed);
            tags.map(|(tag, _)| tag.parse().unwrap()).collect()
        };
        Preferences {
            blocked_categories: list(Says::Blocked),
            allowed_categories: list(Says::Allowed),
        }
    }

    fn tags(numbers: &[usize]) -> Vec<Category> {
        let tags = numbers.iter().map(|number| TAGS[*number].parse());
        tags.collect::<Result<_, _>>().unwrap()
    }

    /// The rule, as the protocol says it.
    fn reaches(opinions: &[Says], numbers: &[usize]) -> bool {
        let has_allow_list = opinions
            .iter()
            .any(|says| matches!(says, Says::Allowed | Says::Both));
        for number in numbers {
            match opinions[*number] {
                Says::Blocked | Says::Both => return false,
                Says::Nothing if has_allow_list => return false,
                Says::Nothing | Says::Allowed => {}
            }
        }
        true
    }

    #[test]
    fn every_opinion_of_two_tags_does_what_the_rule_says() {
        for first in OPINIONS {
            for second in OPINIONS {
                for elsewhere in [Says::Nothing, Says::Blocked, Says::Allowed] {
                    let opinions = [first, second, elsewhere];
                    let preferences = preferences(&opinions);
                    for numbers in [&[][..], &[0], &[1], &[0, 1], &[1, 0], &[0, 0]] {
                        assert_eq!(
                            preferences.admit(&tags(numbers)),
                            reaches(&opinions, numbers),
                            "{numbers:?} with {opinions:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_rule_in_a_few_words() {
        use Says::{Allowed, Blocked, Both, Nothing};
        let reaches =
            |opinions: [Says; 3], numbers: &[usize]| preferences(&opinions).admit(&tags(numbers));
        assert!(reaches([Nothing; 3], &[0, 1, 2]), "no opinion, no filter");
        assert!(
            !reaches([Blocked, Nothing, Nothing], &[1, 0]),
            "any blocked"
        );
        assert!(reaches([Allowed, Nothing, Nothing], &[0]));
        assert!(
            !reaches([Allowed, Nothing, Nothing], &[0, 1]),
            "not all allowed"
        );
        assert!(!reaches([Both, Allowed, Nothing], &[0, 1]), "blocked wins");
        assert!(
            reaches([Blocked, Allowed, Both], &[]),
            "nothing to judge by"
        );
    }

    proptest! {
        #[test]
        fn many_tags_do_what_the_rule_says(
            opinions in prop::collection::vec(prop::sample::select(&OPINIONS[..]), TAGS.len()),
            numbers in prop::collection::vec(0..TAGS.len(), 0..8),
        ) {
            let preferences = preferences(&opinions);
            prop_assert_eq!(preferences.admit(&tags(&numbers)), reaches(&opinions, &numbers));
            let is_open = opinions.iter().all(|says| *says == Says::Nothing);
            prop_assert_eq!(preferences.is_open(), is_open);
            let text = serde_json::to_string(&preferences).unwrap();
            prop_assert_eq!(serde_json::from_str::<Preferences>(&text).unwrap(), preferences);
        }
    }
}
