//! `command.queue`: what waits for the caller, or what became of it.
//!
//! What has not ended is read as a resume reads it, from Redis and Postgres as one sequence,
//! oldest first; see [`waiting`]. What has ended is only in the record, newest first. Neither
//! shows what the caller's preferences keep from them now.

mod cursor;
mod list;
mod waiting;

use std::sync::Arc;

use serde::Deserialize;
use shared::domain::{Code, CommandState, Preferences, Refusal, Timestamp, UserId};

use super::{Asker, Reply};
use crate::{app::App, dialect::Request, fanout::postgres_refusal};
use cursor::Cursor;
use list::List;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

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
    let preferences = app.fanout.preferences(caller.user).await?;
    let list = match query.status {
        Some(state) if state.is_final() => {
            ended(app, caller.user, &preferences, &query, state).await?
        }
        _ => waiting::list(app, caller.user, &preferences, &query).await?,
    };
    Ok(Reply::answer("command.queue", list.finish()))
}

/// What has ended, in one way.
async fn ended(
    app: &App,
    user: UserId,
    preferences: &Preferences,
    query: &Valid,
    state: CommandState,
) -> Result<List, Refusal> {
    let mut before = match query.cursor {
        Some(Cursor::Before(id)) => Some(id),
        _ => None,
    };
    // One more tells whether there are more.
    let found = app
        .postgres
        .commands_in_state(user, state, query.since, before, query.limit + 1)
        .await
        .map_err(|error| postgres_refusal(&error))?;
    let mut list = List::new();
    for (index, command) in found.iter().enumerate() {
        if list.is_full(query.limit) || index == query.limit as usize {
            list.next = before.map(Cursor::Before);
            break;
        }
        before = Some(command.id);
        if preferences.admit(&command.body.categories) {
            let body = serde_json::to_vec(&command.body).unwrap_or_default();
            list.push(command.id, command.created_at, state, &body);
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(json: &str) -> Result<Valid, Refusal> {
        serde_json::from_str::<Query>(json).unwrap().validate()
    }

    #[test]
    fn queries_keep_the_rules() {
        assert!(query("{}").is_ok_and(|q| q.limit == 50 && q.cursor.is_none()));
        assert!(query(r#"{"limit":200,"cursor":"p7:9_3:4","status":"pending"}"#).is_ok());
        let before = r#"{"cursor":"r01a1fd86-61af-76d9-8440-6bfc8ca125e5","status":"expired"}"#;
        assert!(query(before).is_ok());
        for wrong in [
            r#"{"limit":0}"#,
            r#"{"limit":201}"#,
            r#"{"since":"yesterday"}"#,
            r#"{"cursor":""}"#,
            r#"{"cursor":"é"}"#,
            r#"{"cursor":"p7"}"#,
            r#"{"cursor":"p7:9_3:4","status":"completed"}"#,
            r#"{"cursor":"r7:9","status":"expired"}"#,
            r#"{"cursor":"r01a1fd86-61af-76d9-8440-6bfc8ca125e5"}"#,
        ] {
            let refusal = query(wrong).err().map(|refusal| refusal.code);
            assert_eq!(refusal, Some(Code::BadRequest), "{wrong}");
        }
    }
}
