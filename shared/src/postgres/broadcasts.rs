//! The log of broadcasts beyond what Redis still holds.

use uuid::Uuid;

use super::{PgError, Postgres, rows};
use crate::domain::{Entry, Position, Timestamp, Topic};

/// Broadcasts that have not ended, and events of their log, in its order. Each half has an index
/// in that order and stops at the limit by itself.
pub const BROADCASTS_BETWEEN: &str = r#"
    WITH page AS MATERIALIZED (
        SELECT id, epoch, "offset", 'command.new' AS kind, body, created_at FROM commands
        WHERE broadcast <> 'user' AND ended IS NULL
          AND (epoch, "offset") > ($1, $2) AND (epoch, "offset") < ($3, $4)
        ORDER BY epoch, "offset" LIMIT $5
    ), happened AS MATERIALIZED (
        SELECT id, epoch, "offset", kind, body, created_at FROM user_events
        WHERE user_id = $6 AND (epoch, "offset") > ($1, $2) AND (epoch, "offset") < ($3, $4)
        ORDER BY epoch, "offset" LIMIT $5
    )
    SELECT * FROM page UNION ALL SELECT * FROM happened
    ORDER BY epoch, "offset" LIMIT $5"#;

/// Walked backwards from the end of the day in question, no further: ids bound the days.
pub const LAST_BROADCAST_BEFORE: &str = r#"
    WITH sent AS MATERIALIZED (
        SELECT epoch, "offset" FROM commands
        WHERE broadcast <> 'user' AND epoch IS NOT NULL AND id < $1 AND created_at < $2
        ORDER BY epoch DESC, "offset" DESC LIMIT 1
    ), happened AS MATERIALIZED (
        SELECT epoch, "offset" FROM user_events
        WHERE user_id = $3 AND id < $1 AND created_at < $2
        ORDER BY epoch DESC, "offset" DESC LIMIT 1
    )
    SELECT * FROM sent UNION ALL SELECT * FROM happened
    ORDER BY epoch DESC, "offset" DESC LIMIT 1"#;

impl Postgres {
    /// What left Redis: entries of the log of broadcasts in `(after, before)`, oldest first,
    /// without broadcasts that have ended.
    pub async fn broadcasts_between(
        &self,
        after: Position,
        before: Position,
        limit: u32,
    ) -> Result<Vec<Entry>, PgError> {
        let rows = sqlx::query(BROADCASTS_BETWEEN)
            .bind(after.epoch as i64)
            .bind(after.offset as i64)
            .bind(before.epoch as i64)
            .bind(before.offset as i64)
            .bind(i64::from(limit))
            .bind(Uuid::nil())
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| rows::entry(row, Topic::Broadcast))
            .collect()
    }

    /// The place of the last entry of the log of broadcasts from before `at`, by the clock of
    /// Redis: where somebody begins who registered then. Nothing if the record has none that old.
    pub async fn last_broadcast_before(&self, at: Timestamp) -> Result<Option<Position>, PgError> {
        let row = sqlx::query(LAST_BROADCAST_BEFORE)
            .bind(rows::first_id_after(at))
            .bind(at.to_datetime())
            .bind(Uuid::nil())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.as_ref().map(rows::position).transpose()?)
    }
}
