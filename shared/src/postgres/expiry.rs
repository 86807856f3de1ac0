//! Commands nobody completed in time: found, archived, forgotten.

use sqlx::Row;
use uuid::Uuid;

use super::{PgError, Postgres, rows};
use crate::domain::{MessageId, Position, Timestamp, UserId};

/// A command whose time is over and which has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueCommand {
    /// Which.
    pub id: MessageId,
    /// Whose.
    pub recipient: UserId,
    /// Where it stands in the recipient's log.
    pub position: Position,
    /// When its time was over.
    pub expires_at: Timestamp,
}

impl Postgres {
    /// Commands, pending or delivered, whose time is over at `now`, the longest overdue first.
    /// `after` continues behind the last one of the page before.
    pub async fn due_commands(
        &self,
        now: Timestamp,
        after: Option<&DueCommand>,
        limit: u32,
    ) -> Result<Vec<DueCommand>, PgError> {
        let (after_time, after_id) = after.map_or((Timestamp(0), Uuid::nil()), |due| {
            (due.expires_at, due.id.0)
        });
        let rows = sqlx::query(
            r#"SELECT command_id, recipient_id, epoch, "offset", expires_at FROM command_assignments
               WHERE state IN ('pending', 'delivered')
                 AND expires_at <= $1 AND (expires_at, command_id) > ($2, $3)
               ORDER BY expires_at, command_id LIMIT $4"#,
        )
        .bind(now.to_datetime())
        .bind(after_time.to_datetime())
        .bind(after_id)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(DueCommand {
                    id: MessageId(row.try_get("command_id")?),
                    recipient: UserId(row.try_get("recipient_id")?),
                    position: rows::position(row)?,
                    expires_at: Timestamp::from_datetime(row.try_get("expires_at")?),
                })
            })
            .collect()
    }

    /// Moves up to `limit` expired direct commands to the archive; returns how many.
    pub async fn archive_expired(&self, limit: u32) -> Result<u64, PgError> {
        let done = sqlx::query(
            r#"WITH due AS MATERIALIZED (
                   SELECT command_id, recipient_id FROM command_assignments
                   WHERE state = 'expired'
                   ORDER BY expires_at, command_id LIMIT $1 FOR UPDATE SKIP LOCKED
               ), assignment AS (
                   DELETE FROM command_assignments a USING due
                   WHERE a.command_id = due.command_id AND a.recipient_id = due.recipient_id
                   RETURNING a.*
               ), command AS (
                   DELETE FROM commands c USING due WHERE c.id = due.command_id RETURNING c.*
               )
               INSERT INTO commands_archive (id, recipient_id, sender_id, command_type, broadcast, categories,
                   body, epoch, "offset", created_at, expires_at, delivered_at)
               SELECT c.id, a.recipient_id, c.sender_id, c.command_type, c.broadcast, c.categories,
                   c.body, a.epoch, a."offset", c.created_at, c.expires_at, a.delivered_at
               FROM assignment a JOIN command c ON c.id = a.command_id
               ON CONFLICT DO NOTHING"#,
        )
        .bind(i64::from(limit))
        // Planned anew each time: a plan from a day when the tables were empty would not fit.
        .persistent(false)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }

    /// Forgets up to `limit` commands archived before `before`; returns how many.
    pub async fn forget_archived(&self, before: Timestamp, limit: u32) -> Result<u64, PgError> {
        let done = sqlx::query(
            "DELETE FROM commands_archive WHERE (id, recipient_id) IN \
             (SELECT id, recipient_id FROM commands_archive WHERE archived_at < $1 \
              ORDER BY archived_at LIMIT $2)",
        )
        .bind(before.to_datetime())
        .bind(i64::from(limit))
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}
