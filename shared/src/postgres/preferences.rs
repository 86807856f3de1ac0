//! What users chose to see.

use std::collections::BTreeSet;

use sqlx::{Row, postgres::PgRow};

use super::{PgError, Postgres, rows};
use crate::domain::{Category, Position, Preferences, UserId};

impl Postgres {
    /// What the user chose last, and the place of that choice in their log. Nothing if they never
    /// chose.
    pub async fn preferences(
        &self,
        user: UserId,
    ) -> Result<Option<(Position, Preferences)>, PgError> {
        let row = sqlx::query(
            r#"SELECT blocked, allowed, epoch, "offset" FROM user_preferences WHERE user_id = $1"#,
        )
        .bind(user.0)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let preferences = Preferences {
                blocked_categories: categories(&row, "blocked")?,
                allowed_categories: categories(&row, "allowed")?,
            };
            Ok((rows::position(&row)?, preferences))
        })
        .transpose()
    }
}

fn categories(row: &PgRow, column: &str) -> Result<BTreeSet<Category>, PgError> {
    let tags: Vec<String> = row.try_get(column)?;
    tags.iter()
        .map(|tag| tag.parse().map_err(|_| rows::unreadable("category", tag)))
        .collect()
}
