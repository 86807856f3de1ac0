//! Commands as the record knows them.

use super::{PgError, Postgres, rows};
use crate::domain::{CommandBody, CommandState, MessageId, Position, Timestamp, UserId};

/// A command and what became of it: of a direct one for its recipient, of a broadcast for all,
/// unless a question is about one user.
#[derive(Debug, Clone)]
pub struct StoredCommand {
    /// Its id.
    pub id: MessageId,
    /// As it was sent.
    pub body: CommandBody,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Its place in the recipient's log, or in the log of broadcasts.
    pub position: Position,
    /// How far it has come. A broadcast is pending until it ends for everybody.
    pub state: CommandState,
    /// When the first device confirmed it; nothing for a broadcast as a whole.
    pub delivered_at: Option<Timestamp>,
    /// When the recipient said it was done; nothing for a broadcast as a whole.
    pub completed_at: Option<Timestamp>,
}

/// A page of one user's final state, newest first; a rare state is found as fast as a common one.
/// The list of states is what the index is made of. Completing a broadcast can be written before
/// the broadcast itself: then it is not counted, or a page would be taken for the last one.
/// A broadcast that has expired since stands in the archive.
pub const ENDED_OF_USER: &str = r#"
    SELECT c.id, c.body, c.created_at, coalesce(a.epoch, c.epoch) AS epoch,
           coalesce(a."offset", c."offset") AS "offset", a.state, a.delivered_at, a.completed_at
    FROM command_assignments a, LATERAL (
        SELECT id, body, created_at, epoch, "offset" FROM commands WHERE id = a.command_id
        UNION ALL
        SELECT id, body, created_at, epoch, "offset" FROM commands_archive
        WHERE id = a.command_id AND recipient_id = '00000000-0000-0000-0000-000000000000'
        LIMIT 1
    ) AS c
    WHERE a.recipient_id = $1 AND a.state = $2 AND a.state IN ('completed', 'expired', 'cancelled')
      AND a.command_id >= $3 AND a.command_id < $4
    ORDER BY a.command_id DESC LIMIT $5"#;

/// A page of broadcasts that a user had and that expired, newest first. These rows have no end of
/// their own, so all that the user had are looked at, in the part of the queue's index where there
/// is no position; only as many commands are read as fit the page.
pub const EXPIRED_AFTER_RECEIPT: &str = r#"
    WITH had AS MATERIALIZED (
        SELECT command_id, delivered_at FROM command_assignments
        WHERE recipient_id = $1 AND state = $2 AND epoch IS NULL AND command_id >= $3 AND command_id < $4
    )
    SELECT c.id, c.body, c.created_at, c.epoch, c."offset", 'expired' AS state, it.delivered_at,
           NULL::timestamptz AS completed_at
    FROM (SELECT * FROM had ORDER BY command_id DESC OFFSET 0) AS it, LATERAL (
        SELECT id, body, created_at, epoch, "offset" FROM commands
        WHERE id = it.command_id AND ended = 'expired'
        UNION ALL
        SELECT id, body, created_at, epoch, "offset" FROM commands_archive
        WHERE id = it.command_id AND recipient_id = '00000000-0000-0000-0000-000000000000'
        LIMIT 1
    ) AS c
    ORDER BY it.command_id DESC LIMIT $5"#;

/// A page of what somebody has sent, newest first, without what is archived.
pub const SENT: &str = r#"
    WITH page AS MATERIALIZED (
        SELECT id, body, created_at, broadcast, epoch, "offset", ended FROM commands
        WHERE sender_id = $1 AND id >= $2 AND id < $3
        ORDER BY sender_id DESC, id DESC LIMIT $4
    )
    SELECT c.id, c.body, c.created_at, coalesce(a.epoch, c.epoch) AS epoch,
           coalesce(a."offset", c."offset") AS "offset", coalesce(a.state, c.ended, 'pending') AS state,
           a.delivered_at, a.completed_at
    FROM page c LEFT JOIN LATERAL (
        SELECT * FROM command_assignments
        WHERE command_id = c.id AND c.broadcast = 'user' AND sender_id IS NOT NULL LIMIT 1
    ) AS a ON true
    ORDER BY c.id DESC"#;

impl Postgres {
    /// The command with this id, archived or not.
    pub async fn command(&self, id: MessageId) -> Result<Option<StoredCommand>, PgError> {
        let row = sqlx::query(
            r#"SELECT c.id, c.body, c.created_at, coalesce(a.epoch, c.epoch) AS epoch,
                   coalesce(a."offset", c."offset") AS "offset",
                   coalesce(a.state, c.ended, 'pending') AS state, a.delivered_at, a.completed_at
               FROM commands c LEFT JOIN LATERAL (
                   SELECT * FROM command_assignments
                   WHERE command_id = $1 AND c.broadcast = 'user' AND sender_id IS NOT NULL LIMIT 1
               ) AS a ON true
               WHERE c.id = $1
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

    /// Commands that ended for a user in one way, newest first by their ids: before `before`,
    /// created at or after `since`. Of broadcasts those that the user completed, and as expired those
    /// that a device of theirs had confirmed. The state has to be final: nothing is found for another.
    pub async fn commands_in_state(
        &self,
        recipient: UserId,
        state: CommandState,
        since: Option<Timestamp>,
        before: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<StoredCommand>, PgError> {
        let rows = sqlx::query(ENDED_OF_USER)
            .bind(recipient.0)
            .bind(state.as_str())
            .bind(rows::since(since))
            .bind(rows::before(before))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        let mut found: Vec<StoredCommand> = rows
            .iter()
            .map(rows::stored_command)
            .collect::<Result<_, _>>()?;
        if state == CommandState::Expired {
            let whose = Archived::Recipient(recipient);
            found.extend(self.archived(whose, since, before, limit).await?);
            let rows = sqlx::query(EXPIRED_AFTER_RECEIPT)
                .bind(recipient.0)
                .bind(CommandState::Delivered.as_str())
                .bind(rows::since(since))
                .bind(rows::before(before))
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await?;
            for row in &rows {
                found.push(rows::stored_command(row)?);
            }
        }
        Ok(page(found, since, limit))
    }

    /// What somebody has sent, newest first by their ids: before `before`, created at or after
    /// `since`.
    pub async fn sent_commands(
        &self,
        sender: UserId,
        since: Option<Timestamp>,
        before: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<StoredCommand>, PgError> {
        let rows = sqlx::query(SENT)
            .bind(sender.0)
            .bind(rows::since(since))
            .bind(rows::before(before))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        let mut found: Vec<StoredCommand> = rows
            .iter()
            .map(rows::stored_command)
            .collect::<Result<_, _>>()?;
        let whose = Archived::Sender(sender);
        found.extend(self.archived(whose, since, before, limit).await?);
        Ok(page(found, since, limit))
    }

    async fn archived(
        &self,
        whose: Archived,
        since: Option<Timestamp>,
        before: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<StoredCommand>, PgError> {
        let (sql, user) = match whose {
            Archived::Recipient(user) => (
                r#"SELECT id, body, created_at, epoch, "offset", status AS state, delivered_at,
                          NULL::timestamptz AS completed_at
                   FROM commands_archive WHERE recipient_id = $1 AND id >= $2 AND id < $3
                   ORDER BY recipient_id DESC, id DESC LIMIT $4"#,
                user,
            ),
            Archived::Sender(user) => (
                r#"SELECT id, body, created_at, epoch, "offset", status AS state, delivered_at,
                          NULL::timestamptz AS completed_at
                   FROM commands_archive WHERE sender_id = $1 AND id >= $2 AND id < $3
                   ORDER BY sender_id DESC, id DESC LIMIT $4"#,
                user,
            ),
        };
        let rows = sqlx::query(sql)
            .bind(user.0)
            .bind(rows::since(since))
            .bind(rows::before(before))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(rows::stored_command).collect()
    }
}

/// Whose part of the archive is asked for.
#[derive(Clone, Copy)]
enum Archived {
    Recipient(UserId),
    Sender(UserId),
}

/// One page of what two tables gave. A command that moved to the archive between the two
/// questions counts once.
fn page(mut found: Vec<StoredCommand>, since: Option<Timestamp>, limit: u32) -> Vec<StoredCommand> {
    found.retain(|command| since.is_none_or(|since| command.created_at >= since));
    found.sort_by_key(|command| std::cmp::Reverse(command.id));
    found.dedup_by_key(|command| command.id);
    found.truncate(limit as usize);
    found
}
