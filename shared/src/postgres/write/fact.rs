//! What a persist record says, read without touching Postgres.

use serde::Deserialize;
use time::Date;

use crate::domain::{
    Broadcast, CommandState, CommandStatus, CommandType, Entry, Kind, Partition, Persist,
    PersistRecord, Position, Revocation, Timestamp, Topic, UserId,
};

/// A record and its meaning.
#[derive(Debug)]
pub(super) struct Fact<'a> {
    pub(super) partition: Partition,
    pub(super) record: &'a PersistRecord,
    pub(super) what: What<'a>,
}

#[derive(Debug)]
pub(super) enum What<'a> {
    Command {
        entry: &'a Entry,
        body: &'a str,
        recipient: UserId,
        head: CommandHead,
    },
    Status {
        entry: &'a Entry,
        body: &'a str,
        user: UserId,
        /// What the recipient's own log says about a command; nothing for a worker's words.
        ended: Option<Ended>,
    },
    Delivered {
        user: UserId,
        from: Position,
        to: Position,
        at: Timestamp,
    },
    Revocation {
        entry: &'a Entry,
        revocation: Revocation,
    },
    /// Goes to quarantine, with this reason.
    Bad(String),
}

/// A command ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) command: uuid::Uuid,
    pub(super) user: UserId,
    pub(super) state: CommandState,
    pub(super) at: Timestamp,
}

/// What of a command has a column of its own. Content and data are skipped over unread.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CommandHead {
    pub(super) command_type: CommandType,
    pub(super) sender_id: UserId,
    pub(super) broadcast: Broadcast,
    pub(super) recipient_id: Option<UserId>,
    pub(super) categories: Vec<String>,
    pub(super) expires_at: Timestamp,
}

impl Fact<'_> {
    /// Which command it ends.
    pub(super) fn ended(&self) -> Option<Ended> {
        match &self.what {
            What::Status { ended, .. } => *ended,
            _ => None,
        }
    }

    /// The day whose partition it goes to.
    pub(super) fn day(&self) -> Option<Date> {
        match &self.what {
            What::Command { entry, .. } | What::Status { entry, .. } => {
                let minted = Timestamp((entry.id.0.as_u128() >> 80) as i64);
                Some(minted.to_datetime().date())
            }
            _ => None,
        }
    }
}

pub(super) fn read(partition: Partition, record: &PersistRecord) -> Fact<'_> {
    let what = match &record.what {
        Persist::Entry(entry) => meaning(entry).unwrap_or_else(What::Bad),
        Persist::Delivered {
            user, from, to, at, ..
        } => What::Delivered {
            user: *user,
            from: *from,
            to: *to,
            at: *at,
        },
        Persist::Received { .. } => What::Bad("receipts are not understood yet".to_owned()),
        Persist::Unreadable { reason, .. } => What::Bad(reason.clone()),
    };
    Fact {
        partition,
        record,
        what,
    }
}

fn meaning(entry: &Entry) -> Result<What<'_>, String> {
    let body = std::str::from_utf8(&entry.body).map_err(|_| "body is not utf-8".to_owned())?;
    match (entry.topic, entry.kind) {
        (Topic::User(recipient), Kind::CommandNew) => {
            let head: CommandHead = parse(body)?;
            if head.recipient_id != Some(recipient) {
                return Err("command stands in the log of somebody else".to_owned());
            }
            Ok(What::Command {
                entry,
                body,
                recipient,
                head,
            })
        }
        (Topic::User(user), Kind::CommandStatus) => {
            let status: CommandStatus = parse(body)?;
            // A worker's own words in the sender's log carry `at`; they change nothing.
            let authority = status.recipient_id == Some(user)
                && status.at.is_none()
                && status.status.is_final();
            let ended = authority.then_some(Ended {
                command: status.command_id.0,
                user,
                state: status.status,
                at: entry.at,
            });
            Ok(What::Status {
                entry,
                body,
                user,
                ended,
            })
        }
        (Topic::Revocations, Kind::Revocation) => Ok(What::Revocation {
            entry,
            revocation: parse(body)?,
        }),
        (topic, kind) => Err(format!("{kind} does not belong into {topic}")),
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a str) -> Result<T, String> {
    // serde_json's messages name fields and places, and can quote a value of a wrong type.
    serde_json::from_str(body).map_err(|error| {
        format!(
            "body is not understood at line {} column {}",
            error.line(),
            error.column()
        )
    })
}

/// A record as it is kept in quarantine: readable, whatever it holds.
pub(super) fn dump(record: &PersistRecord) -> Vec<u8> {
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
        Persist::Received { at, .. } => vec![("at", at.0.to_string())],
        Persist::Delivered {
            user, from, to, at, ..
        } => vec![
            ("delivered", user.to_string()),
            ("from", from.to_string()),
            ("to", to.to_string()),
            ("at", at.0.to_string()),
        ],
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

/// The words of an array as Postgres writes one. UNNEST would flatten an array of arrays, so
/// each goes as text and is cast there.
pub(super) fn array_literal(words: &[String]) -> String {
    let mut literal = String::from("{");
    for word in words {
        if literal.len() > 1 {
            literal.push(',');
        }
        literal.push('"');
        for letter in word.chars() {
            if matches!(letter, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(letter);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_quotes_commas_and_backslashes_survive_an_array_literal() {
        let words = ["a,b", "say \"hi\"", "back\\slash", ""].map(str::to_owned);
        assert_eq!(
            array_literal(&words),
            r#"{"a,b","say \"hi\"","back\\slash",""}"#
        );
        assert_eq!(array_literal(&[]), "{}");
    }
}
