//! A user's log beyond what Redis still holds.

use sqlx::{Row, postgres::PgRow};

use super::{PgError, Postgres, messages, rows};
use crate::domain::{CommandState, Entry, Kind, MessageId, Position, Timestamp, Topic, UserId};

/// Commands that are pending, those that are delivered, events, and copies of messages, in the order
/// of the log. Each quarter has an index in that order and stops at the limit by itself, so none is
/// read further than needed. A copy's body is the row of its message: one that is not here is not
/// here any more or, while the copy is young, not yet. LATERAL … OFFSET 0: each command is
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
    ), copied AS MATERIALIZED (
        SELECT i.id, i.epoch, i."offset", i.kind, m.message AS body, i.created_at
        FROM inbox i LEFT JOIN LATERAL (
            SELECT row_to_json(found)::text AS message FROM message_of(i.message_id) AS found
        ) AS m ON true
        WHERE i.user_id = $1 AND (i.epoch, i."offset") > ($2, $3) AND (i.epoch, i."offset") < ($4, $5)
          AND (m.message IS NOT NULL OR i.created_at > now() - interval '1 hour')
        ORDER BY i.epoch, i."offset" LIMIT $6
    )
    SELECT c.id, p.epoch, p."offset", 'command.new' AS kind, c.body, c.created_at
    FROM page p, LATERAL (SELECT * FROM commands WHERE id = p.command_id OFFSET 0) AS c
    UNION ALL
    SELECT id, epoch, "offset", kind, body, created_at FROM happened
    UNION ALL
    SELECT id, epoch, "offset", kind, body, created_at FROM copied
    ORDER BY epoch, "offset" LIMIT $6"#;

impl Postgres {
    /// What left Redis: entries of the user's log in `(after, before)`, oldest first, without
    /// commands that have ended. Messages come as they read now, and what was deleted as that.
    /// [`PgError::Unavailable`] if one is not written yet: its conversation is in another partition
    /// than the user's log.
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
        rows.iter().map(|row| entry(row, user)).collect()
    }
}

fn entry(row: &PgRow, user: UserId) -> Result<Entry, PgError> {
    let kind: &str = row.try_get("kind")?;
    let Ok(kind @ (Kind::MessageNew | Kind::MessageEdited | Kind::MessageDeleted)) = kind.parse()
    else {
        return rows::entry(row, Topic::User(user));
    };
    let message: Option<&str> = row.try_get("body")?;
    let message = message.ok_or(PgError::Unavailable(sqlx::Error::RowNotFound))?;
    let (kind, body) = messages::read(message)?.as_copy(kind)?;
    Ok(Entry {
        topic: Topic::User(user),
        position: rows::position(row)?,
        id: MessageId(row.try_get("id")?),
        kind,
        at: Timestamp::from_datetime(row.try_get("created_at")?),
        body: body.into(),
    })
}
