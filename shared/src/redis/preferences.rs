//! What users chose to see, kept beside their cursors so that opening a session costs no
//! question to Postgres. Redis may have lost it, or never had it: then the record is asked once.

use super::{error::StoreError, keys, reply, store::Store};
use crate::domain::{Position, Preferences, Topic, UserId};

/// The field of the user's hash.
const FIELD: &str = "=";

/// What Redis knows of a user's preferences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Nothing: the record has to be asked.
    Nothing,
    /// The user has chosen nothing, as the record told.
    Unchosen,
    /// What they chose.
    Chosen(Preferences),
}

impl Store {
    /// What Redis knows of a user's preferences.
    pub async fn preferences(&self, user: UserId) -> Result<Known, StoreError> {
        let key = keys::user(self.partition_of(Topic::User(user)), &user.to_string());
        let answer = self.command("HGET", &key, vec![FIELD.into()]).await?;
        if answer.is_null() {
            return Ok(Known::Nothing);
        }
        Ok(understand(reply::text(&answer)?))
    }

    /// Remembers what the record told, unless Redis has learnt something newer meanwhile.
    pub async fn keep_preferences(
        &self,
        user: UserId,
        recorded: Option<&(Position, Preferences)>,
    ) -> Result<(), StoreError> {
        let value = match recorded {
            None => "-".to_owned(),
            Some((position, preferences)) => {
                let json = serde_json::to_string(preferences)
                    .map_err(|error| StoreError::unexpected(error.to_string()))?;
                format!("{position} {json}")
            }
        };
        let key = keys::user(self.partition_of(Topic::User(user)), &user.to_string());
        self.command("HSETNX", &key, vec![FIELD.into(), value.into()])
            .await?;
        Ok(())
    }
}

/// `<epoch>:<offset> <JSON>`, `-`, or nothing. What cannot be read is as good as lost.
pub(super) fn understand(value: &str) -> Known {
    match value.split_once(' ') {
        None if value == "-" => Known::Unchosen,
        None => Known::Nothing,
        Some((_, json)) => serde_json::from_str(json).map_or(Known::Nothing, Known::Chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_asked_for_again() {
        assert_eq!(understand(""), Known::Nothing);
        assert_eq!(understand("-"), Known::Unchosen);
        assert_eq!(understand("7:1 {}"), Known::Nothing);
        let chosen = understand(r#"7:1 {"blockedCategories":["adult"],"allowedCategories":[]}"#);
        let Known::Chosen(preferences) = chosen else {
            panic!("{chosen:?}");
        };
        assert!(!preferences.admit(&["adult".parse().unwrap()]));
    }
}
