//! Contents of messages for whoever encrypts them with another key, day by day.

use sqlx::{AssertSqlSafe, Row};
use time::{Date, macros::format_description};
use uuid::Uuid;

use super::{PgError, Postgres};
use crate::domain::{ConversationId, MessageId};

/// A content as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptContent {
    /// Of which message.
    pub id: MessageId,
    /// In which conversation.
    pub conversation: ConversationId,
    /// As it is kept.
    pub content: String,
    /// The id of the key it is encrypted with.
    pub sealed: Option<String>,
}

/// What was found in a page of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptContents {
    /// Those that are not encrypted with the key asked for.
    pub other: Vec<KeptContent>,
    /// The last message looked at; nothing if there was none.
    pub last: Option<MessageId>,
}

impl Postgres {
    /// Days of which there are messages, or may be; the oldest first.
    pub async fn message_days(&self) -> Result<Vec<Date>, PgError> {
        let days = sqlx::query_scalar(
            "SELECT day FROM daily_partitions WHERE parent = 'messages' AND NOT detaching ORDER BY day",
        );
        Ok(days.fetch_all(&self.pool).await?)
    }

    /// Looks at so many messages of a day behind `after`, and answers the contents that are not
    /// encrypted with this key; without a key, those that are encrypted at all.
    pub async fn contents_not_of_key(
        &self,
        day: Date,
        key: Option<&str>,
        after: MessageId,
        limit: u32,
    ) -> Result<KeptContents, PgError> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "WITH page AS MATERIALIZED ( \
                 SELECT id, conversation_id, content, sealed FROM {} WHERE id > $1 ORDER BY id LIMIT $2 \
             ) SELECT id, conversation_id, content, sealed, \
                   content <> '' AND sealed IS DISTINCT FROM $3 AS is_other \
               FROM page ORDER BY id",
            table(day)
        )))
        .bind(after.0)
        .bind(i64::from(limit))
        .bind(key)
        .persistent(false)
        .fetch_all(&self.pool)
        .await?;
        let last = rows.last().map(|row| row.try_get("id")).transpose()?;
        let mut other = Vec::new();
        for row in &rows {
            if row.try_get("is_other")? {
                other.push(KeptContent {
                    id: MessageId(row.try_get("id")?),
                    conversation: ConversationId(row.try_get("conversation_id")?),
                    content: row.try_get("content")?,
                    sealed: row.try_get("sealed")?,
                });
            }
        }
        Ok(KeptContents {
            other,
            last: last.map(MessageId),
        })
    }

    /// Replaces contents of a day: each by its new self, unless it was changed in the meantime.
    /// Answers how many.
    pub async fn replace_contents(
        &self,
        day: Date,
        contents: &[(KeptContent, KeptContent)],
    ) -> Result<u64, PgError> {
        let mut sorted: Vec<_> = contents.iter().collect();
        sorted.sort_unstable_by_key(|(old, _)| old.id);
        // Nothing is joined in an order that a planner could choose.
        let done = sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO {} AS held (id, conversation_id, content, sealed) \
             SELECT found.id, found.conversation_id, new.content, new.sealed \
             FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS new(id, old, content, sealed), \
             LATERAL (SELECT * FROM {} WHERE id = new.id AND content = new.old FOR UPDATE) AS found \
             ON CONFLICT (id) DO UPDATE SET content = excluded.content, sealed = excluded.sealed",
            table(day),
            table(day)
        )))
        .bind(sorted.iter().map(|(old, _)| old.id.0).collect::<Vec<Uuid>>())
        .bind(sorted.iter().map(|(old, _)| old.content.as_str()).collect::<Vec<_>>())
        .bind(sorted.iter().map(|(_, new)| new.content.as_str()).collect::<Vec<_>>())
        .bind(sorted.iter().map(|(_, new)| new.sealed.as_deref()).collect::<Vec<_>>())
        .persistent(false)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

/// The name of a day's table.
fn table(day: Date) -> String {
    let day = day
        .format(format_description!("[year][month][day]"))
        .unwrap_or_default();
    format!("messages_{day}")
}
