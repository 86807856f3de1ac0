//! The statements for conversations: how far each has come, and each of its participants. All of it
//! moves forward only, so the order of batches does not matter.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use time::Date;
use uuid::Uuid;

use super::{
    fact::{self, Fact},
    messages::said,
    said::Said,
};
use crate::{
    domain::{MessageId, Position, Timestamp},
    postgres::PgError,
};

/// How far a conversation has come in a batch.
#[derive(Default)]
struct Progress {
    position: Position,
    last_message: Option<(MessageId, Timestamp)>,
}

/// All of a batch. Conversations come before their participants, as in a change by somebody who
/// manages one: the two wait for each other, but not in a circle.
pub(super) async fn write(
    connection: &mut PgConnection,
    facts: &[Fact<'_>],
) -> Result<(), PgError> {
    advance(connection, facts).await?;
    add_days(connection, facts).await?;
    move_pointers(connection, facts).await
}

async fn advance(connection: &mut PgConnection, facts: &[Fact<'_>]) -> Result<(), PgError> {
    let mut all: BTreeMap<Uuid, Progress> = BTreeMap::new();
    for (entry, conversation, said) in said(facts) {
        let progress = all.entry(conversation.0).or_default();
        progress.position = progress.position.max(entry.position);
        if matches!(said, Said::New(_)) {
            progress.last_message = progress.last_message.max(Some((entry.id, entry.at)));
        }
    }
    if all.is_empty() {
        return Ok(());
    }
    sqlx::query(
        r#"INSERT INTO conversations AS held (id, type, pair, created_by, created_at, last_message, active_at, epoch,
               "offset")
           SELECT found.id, found.type, found.pair, found.created_by, found.created_at, new.last_message,
               coalesce(new.active_at, found.active_at), new.epoch, new.place
           FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::bigint[])
               AS new(id, last_message, active_at, epoch, place),
           LATERAL (SELECT * FROM conversations WHERE id = new.id FOR NO KEY UPDATE) AS found
           ON CONFLICT (id) DO UPDATE SET last_message = greatest(held.last_message, excluded.last_message),
               active_at = greatest(held.active_at, excluded.active_at),
               epoch = CASE WHEN (held.epoch, held."offset") < (excluded.epoch, excluded."offset")
                            THEN excluded.epoch ELSE held.epoch END,
               "offset" = CASE WHEN (held.epoch, held."offset") < (excluded.epoch, excluded."offset")
                               THEN excluded."offset" ELSE held."offset" END"#,
    )
    .bind(all.keys().copied().collect::<Vec<_>>())
    .bind(all.values().map(|it| it.last_message.map(|(id, _)| id.0)).collect::<Vec<_>>())
    .bind(all.values().map(|it| it.last_message.map(|(_, at)| at.to_datetime())).collect::<Vec<_>>())
    .bind(all.values().map(|it| it.position.epoch as i64).collect::<Vec<_>>())
    .bind(all.values().map(|it| it.position.offset as i64).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn add_days(connection: &mut PgConnection, facts: &[Fact<'_>]) -> Result<(), PgError> {
    let days: BTreeSet<(Uuid, Date)> = said(facts)
        .filter(|(_, _, said)| matches!(said, Said::New(_)))
        .map(|(entry, conversation, _)| (conversation.0, fact::day_of(entry.id.0)))
        .collect();
    if days.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO conversation_days (conversation_id, day) SELECT * FROM unnest($1::uuid[], $2::date[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(days.iter().map(|(conversation, _)| *conversation).collect::<Vec<_>>())
    .bind(days.iter().map(|(_, day)| *day).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// What was read was received.
async fn move_pointers(connection: &mut PgConnection, facts: &[Fact<'_>]) -> Result<(), PgError> {
    let mut pointers: BTreeMap<(Uuid, Uuid), (Option<Uuid>, Uuid)> = BTreeMap::new();
    for (_, conversation, said) in said(facts) {
        if let Said::Upto {
            user,
            message,
            is_read,
        } = said
        {
            let (read, delivered) = pointers.entry((conversation.0, user.0)).or_default();
            *read = (*read).max(is_read.then_some(message.0));
            *delivered = (*delivered).max(message.0);
        }
    }
    if pointers.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO conversation_participants AS held (conversation_id, user_id, role, joined_at, joined, since, \
             last_read, last_delivered) \
         SELECT found.conversation_id, found.user_id, found.role, found.joined_at, found.joined, found.since, \
             new.last_read, new.last_delivered \
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[]) \
             AS new(conversation_id, user_id, last_read, last_delivered), \
         LATERAL ( \
             SELECT * FROM conversation_participants \
             WHERE conversation_id = new.conversation_id AND user_id = new.user_id FOR NO KEY UPDATE \
         ) AS found \
         ON CONFLICT (conversation_id, user_id) DO UPDATE \
             SET last_read = greatest(held.last_read, excluded.last_read), \
                 last_delivered = greatest(held.last_delivered, excluded.last_delivered)",
    )
    .bind(pointers.keys().map(|(conversation, _)| *conversation).collect::<Vec<_>>())
    .bind(pointers.keys().map(|(_, user)| *user).collect::<Vec<_>>())
    .bind(pointers.values().map(|(read, _)| *read).collect::<Vec<_>>())
    .bind(pointers.values().map(|(_, delivered)| *delivered).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
