//! How far participants of a conversation have received and read: what the status of a message is
//! derived from.

use sqlx::Row;
use uuid::Uuid;

use super::{PgError, Postgres, rows};
use crate::domain::{ConversationId, MessageId, MessageStatus, Position, Timestamp, UserId};

/// The two participants who are furthest behind: as a message's sender does not count, the second
/// one does where the first is the sender.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LowestPointers {
    /// Up to which message the two have read everything, and who they are; less than two in a
    /// conversation that has less participants.
    pub read: Vec<(MessageId, UserId)>,
    /// The same of what they have received.
    pub delivered: Vec<(MessageId, UserId)>,
}

/// Each half is two steps in its index.
pub const LOWEST_POINTERS: &str = "
    (SELECT true AS is_read, user_id, greatest(last_read, since) AS upto FROM conversation_participants
     WHERE conversation_id = $1 AND left_version IS NULL
     ORDER BY conversation_id, greatest(last_read, since) LIMIT 2)
    UNION ALL
    (SELECT false, user_id, greatest(last_delivered, since) FROM conversation_participants
     WHERE conversation_id = $1 AND left_version IS NULL
     ORDER BY conversation_id, greatest(last_delivered, since) LIMIT 2)";

/// The place is that of the last message that is surely not to be read.
const READING_START: &str = r#"
    SELECT p.after, m.epoch, m."offset" FROM (
        SELECT greatest(since, last_read, last_delivered, $3) AS after FROM conversation_participants
        WHERE conversation_id = $1 AND user_id = $2 AND left_version IS NULL
    ) AS p LEFT JOIN LATERAL (
        SELECT epoch, "offset" FROM (
            SELECT * FROM message_of(p.after) WHERE conversation_id = $1
            UNION ALL SELECT * FROM messages_between($1, $4, p.after, true, 1)
        ) AS found ORDER BY epoch DESC, "offset" DESC LIMIT 1
    ) AS m ON true"#;

impl LowestPointers {
    /// How far a message has come: what everybody who takes part now, except its sender, has done.
    pub fn status(&self, message: MessageId, sender: UserId) -> MessageStatus {
        let all_have = |lowest: &[(MessageId, UserId)]| {
            let other = lowest.iter().find(|(_, user)| *user != sender);
            other.is_some_and(|(upto, _)| *upto >= message)
        };
        if all_have(&self.read) {
            MessageStatus::Read
        } else if all_have(&self.delivered) {
            MessageStatus::Delivered
        } else {
            MessageStatus::Sent
        }
    }
}

/// Where somebody begins to read a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadingStart {
    /// They have every message up to this one, or are not to get it. There need be none with this id.
    pub after: MessageId,
    /// In the log, all that follows this one is behind this place.
    pub position: Position,
}

impl Postgres {
    /// Where a participant begins to read of whom no device has a cursor in a conversation: behind
    /// what was said before they joined or before `at`, and what they have received or read. `None`:
    /// they do not take part.
    pub async fn reading_start(
        &self,
        conversation: ConversationId,
        user: UserId,
        at: Timestamp,
    ) -> Result<Option<ReadingStart>, PgError> {
        let row = sqlx::query(READING_START)
            .bind(conversation.0)
            .bind(user.0)
            .bind(rows::first_id_of(at))
            .bind(Uuid::nil())
            .fetch_optional(&self.pool)
            .await?;
        let start = row.map(|row| {
            let epoch: Option<i64> = row.try_get("epoch")?;
            let offset: Option<i64> = row.try_get("offset")?;
            Ok(ReadingStart {
                after: MessageId(row.try_get("after")?),
                position: Position {
                    epoch: epoch.unwrap_or_default() as u64,
                    offset: offset.unwrap_or_default() as u64,
                },
            })
        });
        start.transpose()
    }

    /// Who is furthest behind in a conversation, as far as its log is written.
    pub async fn lowest_pointers(
        &self,
        conversation: ConversationId,
    ) -> Result<LowestPointers, PgError> {
        let rows = sqlx::query(LOWEST_POINTERS)
            .bind(conversation.0)
            .fetch_all(&self.pool)
            .await?;
        let mut found = LowestPointers::default();
        for row in &rows {
            let upto: Uuid = row.try_get("upto")?;
            let pointer = (MessageId(upto), UserId(row.try_get("user_id")?));
            if row.try_get("is_read")? {
                found.read.push(pointer);
            } else {
                found.delivered.push(pointer);
            }
        }
        // The order of the halves is not promised.
        found.read.sort_unstable();
        found.delivered.sort_unstable();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_does_not_count() {
        let (id, user) = (
            |n| MessageId(Uuid::from_u128(n)),
            |n| UserId(Uuid::from_u128(n)),
        );
        let lowest = LowestPointers {
            read: vec![(id(1), user(1)), (id(5), user(2))],
            delivered: vec![(id(3), user(1)), (id(7), user(3))],
        };
        assert_eq!(lowest.status(id(5), user(1)), MessageStatus::Read);
        assert_eq!(lowest.status(id(6), user(1)), MessageStatus::Delivered);
        assert_eq!(lowest.status(id(3), user(2)), MessageStatus::Delivered);
        assert_eq!(lowest.status(id(4), user(2)), MessageStatus::Sent);
        // Alone with oneself nobody has read anything.
        let alone = LowestPointers {
            read: vec![(id(9), user(1))],
            delivered: vec![],
        };
        assert_eq!(alone.status(id(1), user(1)), MessageStatus::Sent);
    }
}
