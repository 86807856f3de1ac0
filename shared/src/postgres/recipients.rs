//! States of commands, user by user. A direct command has one recipient from the start; a
//! broadcast those from whom anything was heard.

use std::collections::HashMap;

use sqlx::Row;
use uuid::Uuid;

use super::{PgError, Postgres, rows};
use crate::domain::{CommandState, MessageId, Timestamp, UserId};

/// How far a command has come for one of its recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecipientState {
    /// Whose.
    pub user: UserId,
    /// How far.
    pub state: CommandState,
    /// When the first device confirmed it.
    pub delivered_at: Option<Timestamp>,
    /// When the recipient said it was done.
    pub completed_at: Option<Timestamp>,
}

/// For how many recipients a command is in which state. Each is counted once: who completed it
/// is not counted as delivered. Of a broadcast nobody is pending here: who has not confirmed it
/// has no row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecipientCounts {
    /// Confirmed by no device.
    pub pending: u64,
    /// Confirmed, and nothing more.
    pub delivered: u64,
    /// Done.
    pub completed: u64,
    /// Not done in time.
    pub expired: u64,
    /// Taken back.
    pub cancelled: u64,
}

/// Each by its key.
pub const STATES_OF: &str = "SELECT it.command_id, it.state FROM unnest($2::uuid[]) AS asked(id), LATERAL \
     (SELECT command_id, state FROM command_assignments \
      WHERE command_id = asked.id AND recipient_id = $1 OFFSET 0) AS it";

/// Along the key.
pub const RECIPIENTS_OF: &str = "SELECT recipient_id, state, delivered_at, completed_at FROM command_assignments \
     WHERE command_id = $1 AND recipient_id > $2 AND ($3::text IS NULL OR state = $3) \
     ORDER BY command_id, recipient_id LIMIT $4";

/// Along the key.
pub const RECIPIENT_COUNTS: &str =
    "SELECT state, count(*) AS count FROM command_assignments WHERE command_id = $1 GROUP BY state";

impl Postgres {
    /// The user's states of these commands. Absent: nothing is known, which for a broadcast means
    /// that none of their devices has confirmed it.
    pub async fn states_of(
        &self,
        user: UserId,
        commands: &[MessageId],
    ) -> Result<HashMap<MessageId, CommandState>, PgError> {
        if commands.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = sqlx::query(STATES_OF)
            .bind(user.0)
            .bind(commands.iter().map(|id| id.0).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let state = rows::state(row.try_get("state")?)?;
                Ok((MessageId(row.try_get("command_id")?), state))
            })
            .collect()
    }

    /// Recipients of a command by their ids, behind `after`; in one state, or in any.
    pub async fn recipients_of(
        &self,
        command: MessageId,
        state: Option<CommandState>,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<RecipientState>, PgError> {
        let rows = sqlx::query(RECIPIENTS_OF)
            .bind(command.0)
            .bind(after.map_or(Uuid::nil(), |user| user.0))
            .bind(state.map(CommandState::as_str))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(RecipientState {
                    user: UserId(row.try_get("recipient_id")?),
                    state: rows::state(row.try_get("state")?)?,
                    delivered_at: rows::time(row, "delivered_at")?,
                    completed_at: rows::time(row, "completed_at")?,
                })
            })
            .collect()
    }

    /// For how many recipients the command is in which state.
    pub async fn recipient_counts(&self, command: MessageId) -> Result<RecipientCounts, PgError> {
        let rows = sqlx::query(RECIPIENT_COUNTS)
            .bind(command.0)
            .fetch_all(&self.pool)
            .await?;
        let mut counts = RecipientCounts::default();
        for row in rows {
            let count: i64 = row.try_get("count")?;
            *match rows::state(row.try_get("state")?)? {
                CommandState::Pending => &mut counts.pending,
                CommandState::Delivered => &mut counts.delivered,
                CommandState::Completed => &mut counts.completed,
                CommandState::Expired => &mut counts.expired,
                CommandState::Cancelled => &mut counts.cancelled,
            } = count as u64;
        }
        Ok(counts)
    }
}
