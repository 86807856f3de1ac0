//! Commands as the record knows them.

use uuid::Uuid;

use super::{PgError, Postgres, rows};
use crate::domain::{CommandBody, CommandState, MessageId, Position, Timestamp, UserId};

/// A direct command and what became of it.
#[derive(Debug, Clone)]
pub struct StoredCommand {
    /// Its id.
    pub id: MessageId,
    /// As it was sent.
    pub body: CommandBody,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Its place in the recipient's log.
    pub position: Position,
    /// How far it has come.
    pub state: CommandState,
    /// When the first device confirmed it.
    pub delivered_at: Option<Timestamp>,
    /// When the recipient said it was done.
    pub completed_at: Option<Timestamp>,
}

/// A page of one state, newest first; a rare state is found as fast as a common one.
pub const ASSIGNED_IN_STATE: &str = r#"
    WITH page AS MATERIALIZED (
        SELECT command_id, epoch, "offset", state, delivered_at, completed_at
        FROM command_assignments
        WHERE recipient_id = $1 AND state = $2 AND command_id >= $3
          AND (epoch, "offset") < ($4, $5)
        ORDER BY epoch DESC, "offset" DESC LIMIT $6
    )
    SELECT c.id, c.body, c.created_at, p.epoch, p."offset", p.state, p.delivered_at, p.completed_at
    FROM page p, LATERAL (SELECT * FROM commands WHERE id = p.command_id OFFSET 0) AS c"#;

impl Postgres {
    /// The command with this id, archived or not.
    pub async fn command(&self, id: MessageId) -> Result<Option<StoredCommand>, PgError> {
        let row = sqlx::query(
            r#"SELECT c.id, c.body, c.created_at, a.epoch, a."offset", a.state, a.delivered_at, a.completed_at
               FROM commands c JOIN command_assignments a ON a.command_id = c.id
               WHERE c.id = $1 AND a.command_id = $1
               UNION ALL
               SELECT id, body, created_at, epoch, "offset", status, delivered_at, NULL
               FROM commands_archive WHERE id = $1
               LIMIT 1"#,
        )
        .bind(id.0)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(rows::stored_command).transpose()
    }

    /// Commands of a recipient in one state, in the order of the log, newest first: below `before`,
    /// created at or after `since`.
    pub async fn commands_in_state(
        &self,
        recipient: UserId,
        state: CommandState,
        since: Option<Timestamp>,
        before: Position,
        limit: u32,
    ) -> Result<Vec<StoredCommand>, PgError> {
        let mut found = self
            .assigned_in_state(recipient, state, since, before, limit)
            .await?;
        if state == CommandState::Expired {
            found.extend(self.archived(recipient, since, before, limit).await?);
        }
        found.retain(|command| since.is_none_or(|since| command.created_at >= since));
        found.sort_by_key(|command| std::cmp::Reverse(command.position));
        found.truncate(limit as usize);
        Ok(found)
    }

    async fn assigned_in_state(
        &self,
        recipient: UserId,
        state: CommandState,
        since: Option<Timestamp>,
        before: Position,
        limit: u32,
    ) -> Result<Vec<StoredCommand>, PgError> {
        let rows = sqlx::query(ASSIGNED_IN_STATE)
            .bind(recipient.0)
            .bind(state.as_str())
            .bind(since.map_or(Uuid::nil(), rows::first_id_about))
            .bind(before.epoch as i64)
            .bind(before.offset as i64)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(rows::stored_command).collect()
    }

    async fn archived(
        &self,
        recipient: UserId,
        since: Option<Timestamp>,
        before: Position,
        limit: u32,
    ) -> Result<Vec<StoredCommand>, PgError> {
        let rows = sqlx::query(
            r#"SELECT id, body, created_at, epoch, "offset", status AS state, delivered_at,
                      NULL::timestamptz AS completed_at
               FROM commands_archive
               WHERE recipient_id = $1 AND id >= $2 AND (epoch, "offset") < ($3, $4)
               ORDER BY epoch DESC, "offset" DESC LIMIT $5"#,
        )
        .bind(recipient.0)
        .bind(since.map_or(Uuid::nil(), rows::first_id_about))
        .bind(before.epoch as i64)
        .bind(before.offset as i64)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(rows::stored_command).collect()
    }
}
