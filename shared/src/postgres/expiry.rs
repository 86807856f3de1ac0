//! Commands nobody completed in time: found, archived, forgotten.

use sqlx::Row;
use uuid::Uuid;

use super::{PgError, Postgres, rows};
use crate::domain::{Broadcast, Category, MessageId, Position, Timestamp, UserId};

/// A direct command whose time is over and which has not ended.
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

/// A broadcast whose time is over and which has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueBroadcast {
    /// Which.
    pub id: MessageId,
    /// Whom it is for.
    pub broadcast: Broadcast,
    /// Its tags.
    pub categories: Vec<Category>,
    /// Where it stands in the log of broadcasts.
    pub position: Position,
    /// When its time was over.
    pub expires_at: Timestamp,
}

/// What a sweep would find in Postgres alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sweepable {
    /// Direct commands that expired and go to the archive.
    pub archive_direct: u64,
    /// The same of broadcasts.
    pub archive_broadcasts: u64,
    /// Archived commands that are forgotten.
    pub forget_archived: u64,
    /// When the oldest of these was archived.
    pub oldest_archived: Option<Timestamp>,
    /// Revocations that name no living token any more.
    pub forget_revocations: u64,
}

/// In the order of their partial index.
pub const DUE_COMMANDS: &str = r#"
    SELECT command_id, recipient_id, epoch, "offset", expires_at FROM command_assignments
    WHERE state IN ('pending', 'delivered') AND expires_at IS NOT NULL
      AND expires_at <= $1 AND (expires_at, command_id) > ($2, $3)
    ORDER BY expires_at, command_id LIMIT $4"#;

/// In the order of their partial index.
pub const DUE_BROADCASTS: &str = r#"
    SELECT id, broadcast, categories, epoch, "offset", expires_at FROM commands
    WHERE broadcast <> 'user' AND ended IS NULL
      AND expires_at <= $1 AND (expires_at, id) > ($2, $3)
    ORDER BY expires_at, id LIMIT $4"#;

/// Planned anew each time: a plan from a day when the tables were empty would not fit.
pub const ARCHIVE_EXPIRED: &str = r#"WITH due AS MATERIALIZED (
        SELECT command_id, recipient_id FROM command_assignments
        WHERE state = 'expired' AND expires_at IS NOT NULL
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
    ON CONFLICT DO NOTHING"#;

/// As above.
pub const ARCHIVE_EXPIRED_BROADCASTS: &str = r#"WITH due AS MATERIALIZED (
        SELECT id FROM commands WHERE broadcast <> 'user' AND ended = 'expired'
        ORDER BY expires_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
    ), command AS (
        DELETE FROM commands c USING due WHERE c.id = due.id RETURNING c.*
    )
    INSERT INTO commands_archive (id, recipient_id, sender_id, command_type, broadcast, categories,
        body, epoch, "offset", created_at, expires_at)
    SELECT id, $2, sender_id, command_type, broadcast, categories, body, epoch, "offset", created_at,
        expires_at
    FROM command ON CONFLICT DO NOTHING"#;

/// Planned anew each time, as above.
pub const SWEEPABLE: &str = "SELECT \
    (SELECT count(*) FROM command_assignments \
     WHERE state = 'expired' AND expires_at IS NOT NULL) AS archive_direct, \
    (SELECT count(*) FROM commands WHERE broadcast <> 'user' AND ended = 'expired') AS archive_broadcasts, \
    (SELECT count(*) FROM commands_archive WHERE archived_at < $2) AS forget_archived, \
    (SELECT min(archived_at) FROM commands_archive WHERE archived_at < $2) AS oldest_archived, \
    (SELECT count(*) FROM revocations WHERE expires_at < $1) AS forget_revocations";

impl Postgres {
    /// Direct commands, pending or delivered, whose time is over at `now`, the longest overdue first.
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
        let rows = sqlx::query(DUE_COMMANDS)
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

    /// Broadcasts that have not ended and whose time is over at `now`, the longest overdue first.
    /// `after` continues behind the last one of the page before.
    pub async fn due_broadcasts(
        &self,
        now: Timestamp,
        after: Option<&DueBroadcast>,
        limit: u32,
    ) -> Result<Vec<DueBroadcast>, PgError> {
        let (after_time, after_id) = after.map_or((Timestamp(0), Uuid::nil()), |due| {
            (due.expires_at, due.id.0)
        });
        let rows = sqlx::query(DUE_BROADCASTS)
            .bind(now.to_datetime())
            .bind(after_time.to_datetime())
            .bind(after_id)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(DueBroadcast {
                    id: MessageId(row.try_get("id")?),
                    broadcast: rows::broadcast(row.try_get("broadcast")?)?,
                    categories: rows::categories(row, "categories")?,
                    position: rows::position(row)?,
                    expires_at: Timestamp::from_datetime(row.try_get("expires_at")?),
                })
            })
            .collect()
    }

    /// Moves up to `limit` expired direct commands to the archive; returns how many.
    pub async fn archive_expired(&self, limit: u32) -> Result<u64, PgError> {
        let done = sqlx::query(ARCHIVE_EXPIRED)
            .bind(i64::from(limit))
            // Planned anew each time: a plan from a day when the tables were empty would not fit.
            .persistent(false)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }

    /// Moves up to `limit` expired broadcasts to the archive; returns how many. What is known of
    /// their recipients goes with the day.
    pub async fn archive_expired_broadcasts(&self, limit: u32) -> Result<u64, PgError> {
        let done = sqlx::query(ARCHIVE_EXPIRED_BROADCASTS)
            .bind(i64::from(limit))
            .bind(Uuid::nil())
            // As above.
            .persistent(false)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }

    /// What a sweep at `now` would find, if archived commands are forgotten that were archived
    /// before `old`. Changes nothing.
    pub async fn sweepable(&self, now: Timestamp, old: Timestamp) -> Result<Sweepable, PgError> {
        let row = sqlx::query(SWEEPABLE)
            .bind(now.to_datetime())
            .bind(old.to_datetime())
            .persistent(false)
            .fetch_one(&self.pool)
            .await?;
        let count = |name| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(name)? as u64);
        Ok(Sweepable {
            archive_direct: count("archive_direct")?,
            archive_broadcasts: count("archive_broadcasts")?,
            forget_archived: count("forget_archived")?,
            oldest_archived: rows::time(&row, "oldest_archived")?,
            forget_revocations: count("forget_revocations")?,
        })
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
