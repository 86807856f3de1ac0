//! `command.queue`: what waits for the caller, or what became of it.
//!
//! What has not ended is read as a resume reads it, from Redis and Postgres as one sequence,
//! oldest first; a confirmed position tells `pending` from `delivered`. What has ended is only
//! in the record, newest first.

use std::{fmt::Write as _, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::domain::{
    Code, CommandState, Entry, Kind, MessageId, Position, Refusal, Timestamp, Topic, UserId,
};

use super::{Asker, Reply};
use crate::{
    app::App,
    dialect::{Json, Request},
    fanout::{Walk, postgres_refusal, store_refusal},
};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;
/// An answer ends at the first command beyond this many bytes.
const MAX_BYTES: usize = 512 * 1024;
/// Most stretches of the log one request reads; a longer search goes on at `nextCursor`.
const MAX_READS: usize = 8;
const CHUNK: u32 = 256;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Query {
    since: Option<String>,
    status: Option<CommandState>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A query that keeps all rules.
struct Valid {
    since: Option<Timestamp>,
    status: Option<CommandState>,
    limit: u32,
    cursor: Option<Cursor>,
}

/// Where an answer goes on. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cursor {
    /// Behind a position of the log.
    After(Position),
    /// Before a position of the log, in the record.
    Before(Position),
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        match text.split_at_checked(1)? {
            ("p", position) => position.parse().ok().map(Self::After),
            ("r", position) => position.parse().ok().map(Self::Before),
            _ => None,
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::After(position) => write!(f, "p{position}"),
            Self::Before(position) => write!(f, "r{position}"),
        }
    }
}

impl Query {
    fn validate(self) -> Result<Valid, Refusal> {
        let bad = |message| Refusal::new(Code::BadRequest, message);
        let since = self
            .since
            .map(|text| Timestamp::parse(&text).ok_or_else(|| bad("since: not an RFC 3339 time")));
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(bad("limit: expected 1 to 200"));
        }
        let is_ended = self.status.is_some_and(CommandState::is_final);
        let cursor = match self.cursor.as_deref().map(Cursor::parse) {
            None => None,
            Some(Some(cursor @ Cursor::After(_))) if !is_ended => Some(cursor),
            Some(Some(cursor @ Cursor::Before(_))) if is_ended => Some(cursor),
            Some(_) => return Err(bad("cursor: not one that this query was given")),
        };
        Ok(Valid {
            since: since.transpose()?,
            status: self.status,
            limit,
            cursor,
        })
    }
}

pub(super) async fn run(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let query = request.body.parse::<Query>()?.validate()?;
    let list = match query.status {
        Some(state) if state.is_final() => ended(app, caller.user, &query, state).await?,
        _ => waiting(app, caller.user, &query).await?,
    };
    Ok(Reply::answer("command.queue", list.finish()))
}

/// What has not ended.
async fn waiting(app: &Arc<App>, user: UserId, query: &Valid) -> Result<List, Refusal> {
    let furthest = app
        .store
        .furthest_cursor(user)
        .await
        .map_err(|error| store_refusal(&error))?;
    let begin = match (query.cursor, query.status) {
        (Some(Cursor::After(position)), _) => position,
        (_, Some(CommandState::Pending)) => furthest,
        _ => Position::START,
    };
    let reader = app.fanout.reader();
    let mut walk = Walk::from(begin);
    let mut list = List::new();
    for _ in 0..MAX_READS {
        let chunk = reader.next(Topic::User(user), &mut walk, CHUNK).await?;
        for entry in &chunk.entries {
            let state = if entry.position <= furthest {
                CommandState::Delivered
            } else {
                CommandState::Pending
            };
            if query.status == Some(CommandState::Delivered) && state == CommandState::Pending {
                return Ok(list);
            }
            if !query.takes(entry, state) {
                continue;
            }
            if list.is_full(query.limit) {
                list.next = Some(Cursor::After(list.last));
                return Ok(list);
            }
            list.push(entry.id, entry.at, state, &entry.body);
            list.last = entry.position;
        }
        if chunk.end.is_some() {
            return Ok(list);
        }
    }
    list.next = Some(Cursor::After(walk.at()));
    Ok(list)
}

impl Valid {
    fn takes(&self, entry: &Entry, state: CommandState) -> bool {
        entry.kind == Kind::CommandNew
            && self.since.is_none_or(|since| entry.at >= since)
            && self.status.is_none_or(|status| status == state)
    }
}

/// What has ended, in one way.
async fn ended(
    app: &Arc<App>,
    user: UserId,
    query: &Valid,
    state: CommandState,
) -> Result<List, Refusal> {
    let before = match query.cursor {
        Some(Cursor::Before(position)) => position,
        _ => Position::END,
    };
    // One more tells whether there are more.
    let found = app
        .postgres
        .commands_in_state(user, state, query.since, before, query.limit + 1)
        .await
        .map_err(|error| postgres_refusal(&error))?;
    let mut list = List::new();
    for command in found {
        if list.is_full(query.limit) {
            list.next = Some(Cursor::Before(list.last));
            break;
        }
        let body = serde_json::to_vec(&command.body).unwrap_or_default();
        list.push(command.id, command.created_at, state, &body);
        list.last = command.position;
    }
    Ok(list)
}

/// The answer, written as it grows: bodies are spliced in as they are stored.
struct List {
    json: String,
    count: u32,
    last: Position,
    next: Option<Cursor>,
}

impl List {
    fn new() -> Self {
        Self {
            json: String::from("["),
            count: 0,
            last: Position::START,
            next: None,
        }
    }

    fn is_full(&self, limit: u32) -> bool {
        self.count >= limit || self.json.len() > MAX_BYTES
    }

    fn push(&mut self, id: MessageId, at: Timestamp, state: CommandState, body: &[u8]) {
        // Stored bodies are objects of this server's making.
        let Some(fields) = std::str::from_utf8(body)
            .ok()
            .and_then(|text| text.strip_prefix('{'))
        else {
            tracing::error!(%id, "unreadable command");
            return;
        };
        let comma = if self.count == 0 { "" } else { "," };
        let separator = if fields.starts_with('}') { "" } else { "," };
        let _ = write!(
            self.json,
            r#"{comma}{{"commandId":"{id}","createdAt":"{at}","status":"{state}"{separator}{fields}"#,
        );
        self.count += 1;
    }

    fn finish(mut self) -> Json {
        #[derive(serde::Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            commands: Box<RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            next_cursor: Option<String>,
        }
        self.json.push(']');
        let commands = RawValue::from_string(self.json).unwrap_or_else(|error| {
            tracing::error!(%error, "a stored command is not JSON");
            RawValue::from_string("[]".to_owned()).expect("an empty array is JSON")
        });
        let next_cursor = self.next.map(|cursor| cursor.to_string());
        Json::of(&Answer {
            commands,
            next_cursor,
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn query(json: &str) -> Result<Valid, Refusal> {
        serde_json::from_str::<Query>(json).unwrap().validate()
    }

    #[test]
    fn queries_keep_the_rules() {
        assert!(query("{}").is_ok_and(|q| q.limit == 50 && q.cursor.is_none()));
        assert!(query(r#"{"limit":200,"cursor":"p7:9","status":"pending"}"#).is_ok());
        assert!(query(r#"{"cursor":"r7:9","status":"expired"}"#).is_ok());
        for wrong in [
            r#"{"limit":0}"#,
            r#"{"limit":201}"#,
            r#"{"since":"yesterday"}"#,
            r#"{"cursor":""}"#,
            r#"{"cursor":"é"}"#,
            r#"{"cursor":"p7"}"#,
            r#"{"cursor":"p7:9","status":"completed"}"#,
            r#"{"cursor":"r7:9"}"#,
        ] {
            let refusal = query(wrong).err().map(|refusal| refusal.code);
            assert_eq!(refusal, Some(Code::BadRequest), "{wrong}");
        }
    }

    #[test]
    fn a_list_is_one_json_object() {
        let mut list = List::new();
        let id = MessageId(Uuid::from_u128(1));
        list.push(
            id,
            Timestamp(0),
            CommandState::Pending,
            br#"{"content":"a\"b"}"#,
        );
        list.push(id, Timestamp(1), CommandState::Delivered, b"{}");
        list.next = Some(Cursor::After(Position {
            epoch: 3,
            offset: 4,
        }));
        let json: serde_json::Value = serde_json::from_str(list.finish().as_str()).unwrap();
        assert_eq!(json["commands"][0]["content"], "a\"b");
        assert_eq!(json["commands"][0]["createdAt"], "1970-01-01T00:00:00.000Z");
        assert_eq!(json["commands"][1]["status"], "delivered");
        assert_eq!(json["nextCursor"], "p3:4");
    }
}
