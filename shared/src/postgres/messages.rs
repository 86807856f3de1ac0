//! What was said, as the record has it.

use super::{PgError, Postgres, rows};
use crate::domain::{ConversationId, Entry, Position, Topic};

/// Messages of a conversation, in the order of its log. What was deleted is not told again.
pub const MESSAGES_BETWEEN: &str = r#"
    SELECT id, epoch, "offset", 'message.new' AS kind, body, created_at FROM messages
    WHERE conversation_id = $1 AND deleted_at IS NULL
      AND (epoch, "offset") > ($2, $3) AND (epoch, "offset") < ($4, $5)
    ORDER BY epoch, "offset" LIMIT $6"#;

impl Postgres {
    /// What left Redis: messages of the conversation's log in `(after, before)`, oldest first, as
    /// they read now.
    pub async fn messages_between(
        &self,
        conversation: ConversationId,
        after: Position,
        before: Position,
        limit: u32,
    ) -> Result<Vec<Entry>, PgError> {
        let rows = sqlx::query(MESSAGES_BETWEEN)
            .bind(conversation.0)
            .bind(after.epoch as i64)
            .bind(after.offset as i64)
            .bind(before.epoch as i64)
            .bind(before.offset as i64)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| rows::entry(row, Topic::Conversation(conversation)))
            .collect()
    }
}
