//! The statements for messages: new ones, edits, deletions.
//!
//! Of one message these may be written in any order, and again, and end in the same row: of two
//! edits the later one in the log counts, of two deletions the first, and nothing changes what was
//! deleted. What comes before its message makes a row without a sender, which nobody is shown.

use std::cmp::Reverse;

use sqlx::PgConnection;

use super::{
    fact::{Fact, What},
    said::Said,
};
use crate::{
    domain::{ConversationId, Entry, MessageBody, MessageDeleted, MessageEdited},
    postgres::PgError,
};

/// All of a batch.
pub(super) async fn write(
    connection: &mut PgConnection,
    facts: &[Fact<'_>],
) -> Result<(), PgError> {
    insert(connection, facts).await?;
    edit(connection, facts).await?;
    delete(connection, facts).await
}

/// Entries of conversations' logs.
pub(super) fn said<'a>(
    facts: &'a [Fact<'_>],
) -> impl Iterator<Item = (&'a Entry, ConversationId, &'a Said)> {
    facts.iter().filter_map(|fact| match &fact.what {
        What::Said {
            entry,
            conversation,
            said,
        } => Some((*entry, *conversation, said)),
        _ => None,
    })
}

async fn insert(connection: &mut PgConnection, facts: &[Fact<'_>]) -> Result<(), PgError> {
    let mut new: Vec<(&Entry, &MessageBody)> = said(facts)
        .filter_map(|(entry, _, said)| match said {
            Said::New(body) => Some((entry, &**body)),
            _ => None,
        })
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    // Appended again after Redis lost it: the later position counts.
    new.sort_unstable_by_key(|(entry, _)| (entry.id, Reverse(entry.position)));
    new.dedup_by_key(|(entry, _)| entry.id);
    let (mut files, mut changes) = (Vec::new(), Vec::new());
    for (_, body) in &new {
        files.push(json(&body.files)?);
        changes.push(body.change.as_ref().map(json).transpose()?);
    }
    sqlx::query(
        r#"INSERT INTO messages AS held (id, conversation_id, sender_id, sender_name, sender_type, message_type,
               content, sealed, files, change, uncopied, epoch, "offset", created_at)
           SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
               $8::text[], $9::text[], $10::text[], $11::boolean[], $12::bigint[], $13::bigint[], $14::timestamptz[])
           ON CONFLICT (id) DO UPDATE SET sender_id = excluded.sender_id, sender_name = excluded.sender_name,
               sender_type = excluded.sender_type, message_type = excluded.message_type,
               content = CASE WHEN held.changed_epoch IS NULL THEN excluded.content ELSE held.content END,
               sealed = CASE WHEN held.changed_epoch IS NULL THEN excluded.sealed ELSE held.sealed END,
               files = CASE WHEN held.deleted_at IS NULL THEN excluded.files ELSE held.files END,
               change = excluded.change, uncopied = excluded.uncopied,
               epoch = excluded.epoch, "offset" = excluded."offset",
               created_at = least(held.created_at, excluded.created_at)
               WHERE held.conversation_id = excluded.conversation_id
                 AND (held.sender_id IS NULL OR (held.epoch, held."offset") < (excluded.epoch, excluded."offset"))"#,
    )
    .bind(new.iter().map(|(entry, _)| entry.id.0).collect::<Vec<_>>())
    .bind(new.iter().map(|(_, body)| body.conversation_id.0).collect::<Vec<_>>())
    .bind(new.iter().map(|(_, body)| body.sender_id.0).collect::<Vec<_>>())
    .bind(new.iter().map(|(_, body)| body.sender_name.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|(_, body)| body.sender_type.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|(_, body)| body.message_type.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|(_, body)| body.content.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|(_, body)| body.sealed.as_deref()).collect::<Vec<_>>())
    .bind(files)
    .bind(changes)
    .bind(new.iter().map(|(_, body)| body.uncopied).collect::<Vec<_>>())
    .bind(new.iter().map(|(entry, _)| entry.position.epoch as i64).collect::<Vec<_>>())
    .bind(new.iter().map(|(entry, _)| entry.position.offset as i64).collect::<Vec<_>>())
    .bind(new.iter().map(|(entry, _)| entry.at.to_datetime()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn edit(connection: &mut PgConnection, facts: &[Fact<'_>]) -> Result<(), PgError> {
    let mut edits: Vec<(&Entry, &MessageEdited)> = said(facts)
        .filter_map(|(entry, _, said)| match said {
            Said::Edited(body) => Some((entry, body)),
            _ => None,
        })
        .collect();
    if edits.is_empty() {
        return Ok(());
    }
    // The last one in the log counts.
    edits.sort_unstable_by_key(|(entry, body)| (body.message_id, Reverse(entry.position)));
    edits.dedup_by_key(|(_, body)| body.message_id);
    sqlx::query(
        "INSERT INTO messages AS held (id, conversation_id, content, sealed, changed_epoch, changed_offset, \
             changed_by, edited_at) \
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], \
             $7::uuid[], $8::timestamptz[]) \
         ON CONFLICT (id) DO UPDATE SET content = excluded.content, sealed = excluded.sealed, \
             changed_epoch = excluded.changed_epoch, changed_offset = excluded.changed_offset, \
             changed_by = excluded.changed_by, edited_at = excluded.edited_at \
             WHERE held.conversation_id = excluded.conversation_id AND held.deleted_at IS NULL \
               AND (held.changed_epoch IS NULL \
                    OR (held.changed_epoch, held.changed_offset) < (excluded.changed_epoch, excluded.changed_offset))",
    )
    .bind(edits.iter().map(|(_, body)| body.message_id.0).collect::<Vec<_>>())
    .bind(edits.iter().map(|(_, body)| body.conversation_id.0).collect::<Vec<_>>())
    .bind(edits.iter().map(|(_, body)| body.content.as_str()).collect::<Vec<_>>())
    .bind(edits.iter().map(|(_, body)| body.sealed.as_deref()).collect::<Vec<_>>())
    .bind(edits.iter().map(|(entry, _)| entry.position.epoch as i64).collect::<Vec<_>>())
    .bind(edits.iter().map(|(entry, _)| entry.position.offset as i64).collect::<Vec<_>>())
    .bind(edits.iter().map(|(_, body)| body.edited_by.0).collect::<Vec<_>>())
    .bind(edits.iter().map(|(entry, _)| entry.at.to_datetime()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// What was said is gone from the record, with what it was changed to.
async fn delete(connection: &mut PgConnection, facts: &[Fact<'_>]) -> Result<(), PgError> {
    let mut gone: Vec<(&Entry, &MessageDeleted)> = said(facts)
        .filter_map(|(entry, _, said)| match said {
            Said::Deleted(body) => Some((entry, body)),
            _ => None,
        })
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    // The first one in the log counts.
    gone.sort_unstable_by_key(|(entry, body)| (body.message_id, entry.position));
    gone.dedup_by_key(|(_, body)| body.message_id);
    sqlx::query(
        "INSERT INTO messages AS held (id, conversation_id, content, changed_epoch, changed_offset, changed_by, \
             deleted_at) \
         SELECT id, conversation_id, '', epoch, place, deleted_by, at \
         FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::uuid[], $6::timestamptz[]) \
             AS row(id, conversation_id, epoch, place, deleted_by, at) \
         ON CONFLICT (id) DO UPDATE SET content = '', sealed = NULL, files = '[]', edited_at = NULL, \
             changed_epoch = excluded.changed_epoch, changed_offset = excluded.changed_offset, \
             changed_by = excluded.changed_by, deleted_at = excluded.deleted_at \
             WHERE held.conversation_id = excluded.conversation_id \
               AND (held.deleted_at IS NULL \
                    OR (held.changed_epoch, held.changed_offset) > (excluded.changed_epoch, excluded.changed_offset))",
    )
    .bind(gone.iter().map(|(_, body)| body.message_id.0).collect::<Vec<_>>())
    .bind(gone.iter().map(|(_, body)| body.conversation_id.0).collect::<Vec<_>>())
    .bind(gone.iter().map(|(entry, _)| entry.position.epoch as i64).collect::<Vec<_>>())
    .bind(gone.iter().map(|(entry, _)| entry.position.offset as i64).collect::<Vec<_>>())
    .bind(gone.iter().map(|(_, body)| body.deleted_by.0).collect::<Vec<_>>())
    .bind(gone.iter().map(|(entry, _)| entry.at.to_datetime()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

fn json(part: &impl serde::Serialize) -> Result<String, PgError> {
    serde_json::to_string(part)
        .map_err(|error| PgError::Unexpected(sqlx::Error::Encode(error.into())))
}
