//! A user's log beyond what Redis still holds.

use super::{PgError, Postgres, rows};
use crate::domain::{CommandState, Entry, Position, Topic, UserId};

/// Commands that are pending, those that are delivered, and events, in the order of the log. Each
/// third has an index in that order and stops at the limit by itself, so none is read further than
/// needed. LATERAL … OFFSET 0: each command is
/// found by its key, whatever the planner thinks of a partition that is still empty.
pub const ENTRIES_BETWEEN: &str = r#"
    WITH page AS MATERIALIZED (
        (SELECT command_id, epoch, "offset" FROM command_assignments
         WHERE recipient_id = $1 AND state = $7
           AND (epoch, "offset") > ($2, $3) AND (epoch, "offset") < ($4, $5)
         ORDER BY epoch, "offset" LIMIT $6)
        UNION ALL
        (SELECT command_id, epoch, "offset" FROM command_assignments
         WHERE recipient_id = $1 AND state = $8
           AND (epoch, "offset") > ($2, $3) AND (epoch, "offset") < ($4, $5)
         ORDER BY epoch, "offset" LIMIT $6)
        ORDER BY epoch, "offset" LIMIT $6
    ), happened AS MATERIALIZED (
        SELECT id, epoch, "offset", kind, body, created_at FROM user_events
        WHERE user_id = $1 AND (epoch, "offset") > ($2, $3) AND (epoch, "offset") < ($4, $5)
        ORDER BY epoch, "offset" LIMIT $6
    )
    SELECT c.id, p.epoch, p."offset", 'command.new' AS kind, c.body, c.created_at
    FROM page p, LATERAL (SELECT * FROM commands WHERE id = p.command_id OFFSET 0) AS c
    UNION ALL
    SELECT id, epoch, "offset", kind, body, created_at FROM happened
    ORDER BY epoch, "offset" LIMIT $6"#;

impl Postgres {
    /// What left Redis: entries of the user's log in `(after, before)`, oldest first, without
    /// commands that have ended.
    pub async fn entries_between(
        &self,
        user: UserId,
        after: Position,
        before: Position,
        limit: u32,
    ) -> Result<Vec<Entry>, PgError> {
        let rows = sqlx::query(ENTRIES_BETWEEN)
            .bind(user.0)
            .bind(after.epoch as i64)
            .bind(after.offset as i64)
            .bind(before.epoch as i64)
            .bind(before.offset as i64)
            .bind(i64::from(limit))
            .bind(CommandState::Pending.as_str())
            .bind(CommandState::Delivered.as_str())
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| rows::entry(row, Topic::User(user)))
            .collect()
    }
}
