//! `user.status`, `presence.update` and `presence.query`: what users say of themselves, and how
//! others appear to whoever may see that.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize};
use shared::domain::{Code, MAX_STATUS_TEXT, Presence, PresenceStatus, Refusal, UserId};

use super::{Asker, Reply};
use crate::{
    app::App,
    dialect::{Json, Request},
    fanout::store_refusal,
};

/// Most users in one question.
const MAX_USERS: usize = 200;

/// Whose presence it is, the token says: any other user that is named is passed over.
#[derive(Deserialize)]
struct Update<'a> {
    status: PresenceStatus,
    /// Absent: the text stays. Empty: it is taken away.
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

/// Sets how the user appears. Answers that, as others see it.
pub(super) async fn update(
    app: &Arc<App>,
    asker: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let Update { status, text } = request.body.parse()?;
    let Some(session) = asker.session else {
        let message = "a status belongs to a socket: it ends with the last one";
        return Err(Refusal::new(Code::BadRequest, message));
    };
    if text
        .as_ref()
        .is_some_and(|text| text.len() > MAX_STATUS_TEXT)
    {
        let message = format!("text: more than {MAX_STATUS_TEXT} bytes");
        return Err(Refusal::new(Code::TooLarge, message));
    }
    // What is published is shown as it is.
    let text = text.map(|text| app.texts.clean(&text).into_owned());
    let set = app
        .store
        .set_presence(asker.user, session, status, text.as_deref());
    let set = set.await.map_err(|error| store_refusal(&error))?;
    let presence = set.ok_or_else(|| Refusal::new(Code::Conflict, "the session is not open"))?;
    Ok(Reply::acknowledge("presence.update", Json::of(&presence)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Query {
    user_ids: Vec<UserId>,
}

#[derive(Serialize)]
struct State {
    users: Vec<Presence>,
    refused: Vec<Refused>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refused {
    user_id: UserId,
    code: Code,
}

/// How users appear. Whom one may not see, and who does not exist, is named among the refused; so is,
/// as `unavailable`, of whom nothing can be told while others can.
pub(super) async fn query(
    app: &Arc<App>,
    asker: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let Query { user_ids } = request.body.parse()?;
    if user_ids.is_empty() || user_ids.len() > MAX_USERS {
        let message = format!("userIds: expected 1 to {MAX_USERS}");
        return Err(Refusal::new(Code::BadRequest, message));
    }
    let mut known = HashSet::new();
    let asked = user_ids.into_iter().filter(|user| known.insert(*user));
    let asked: Vec<_> = asked.map(|user| (asker.user, user)).collect();
    let may = app.fanout.who_may_be_seen(&asked).await?;
    let (seen, hidden): (Vec<_>, Vec<_>) = asked.into_iter().partition(|pair| may.contains(pair));
    let seen: Vec<UserId> = seen.into_iter().map(|(_, user)| user).collect();
    let mut refused: Vec<Refused> = hidden
        .into_iter()
        .map(|(_, user_id)| Refused {
            user_id,
            code: Code::Forbidden,
        })
        .collect();
    let (mut users, mut failed) = (Vec::new(), None);
    for (user_id, found) in seen.iter().zip(app.fanout.presences_of(&seen).await) {
        match found {
            Ok(presence) => users.push(presence),
            Err(error) => {
                let code = store_refusal(&error).code;
                refused.push(Refused {
                    user_id: *user_id,
                    code,
                });
                failed = Some(error);
            }
        }
    }
    if let Some(error) = failed.filter(|_| users.is_empty()) {
        return Err(store_refusal(&error));
    }
    let state = State { users, refused };
    Ok(Reply::answer("presence.state", Json::of(&state)))
}
