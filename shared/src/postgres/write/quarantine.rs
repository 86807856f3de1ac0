//! Where records go that cannot be written, as readable as they are.

use sqlx::PgConnection;

use super::{
    Buried,
    fact::{Fact, What},
};
use crate::{
    domain::{Persist, PersistRecord},
    postgres::PgError,
};

/// Puts records understood as bad into quarantine.
pub(super) async fn bury(
    connection: &mut PgConnection,
    facts: &[Fact<'_>],
) -> Result<Vec<Buried>, PgError> {
    let buried: Vec<Buried> = facts
        .iter()
        .filter_map(|fact| match &fact.what {
            What::Bad(reason) => Some(Buried {
                partition: fact.partition,
                record_id: fact.record.id.clone(),
                // The reason must not be the next thing Postgres refuses.
                reason: reason.replace('\0', "\u{fffd}"),
            }),
            _ => None,
        })
        .collect();
    if buried.is_empty() {
        return Ok(buried);
    }
    sqlx::query(
        "INSERT INTO quarantine (partition, record_id, reason, record) \
         SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::bytea[])",
    )
    .bind(
        buried
            .iter()
            .map(|it| i32::from(it.partition.0))
            .collect::<Vec<_>>(),
    )
    .bind(
        buried
            .iter()
            .map(|it| it.record_id.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(
        buried
            .iter()
            .map(|it| it.reason.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(
        facts
            .iter()
            .map(|fact| dump(fact.record))
            .collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(buried)
}

/// A record as it is kept in quarantine: readable, whatever it holds.
fn dump(record: &PersistRecord) -> Vec<u8> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields: Vec<(&str, String)> = match &record.what {
        Persist::Entry(entry) => vec![
            ("topic", entry.topic.to_string()),
            ("position", entry.position.to_string()),
            ("id", entry.id.to_string()),
            ("kind", entry.kind.to_string()),
            ("at", entry.at.0.to_string()),
            ("body", text(&entry.body)),
        ],
        Persist::Received { receipts, at } => {
            let lines: Vec<String> = receipts
                .iter()
                .map(|receipt| format!("{} {}", receipt.user, blanks(&receipt.commands)))
                .collect();
            vec![("received", lines.join("\n")), ("at", at.0.to_string())]
        }
        Persist::Delivered {
            user,
            from,
            to,
            skipped,
            at,
        } => vec![
            ("delivered", user.to_string()),
            ("from", from.to_string()),
            ("to", to.to_string()),
            ("skip", blanks(skipped)),
            ("at", at.0.to_string()),
        ],
        Persist::Seen { users, at } => {
            let lines: Vec<String> = users
                .iter()
                .map(|(user, seen)| format!("{user} {}", seen.0))
                .collect();
            vec![("seen", lines.join("\n")), ("at", at.0.to_string())]
        }
        Persist::Unreadable { fields, .. } => fields
            .iter()
            .map(|(name, value)| (name.as_str(), text(value)))
            .collect(),
    };
    let fields: serde_json::Map<String, serde_json::Value> = fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    serde_json::Value::Object(fields).to_string().into_bytes()
}

/// With blanks between.
fn blanks(words: &[impl ToString]) -> String {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    words.join(" ")
}
