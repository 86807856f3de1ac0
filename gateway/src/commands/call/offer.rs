//! `call.offer`: calls somebody. Whoever may write to a user may call them. Who is banned cannot be
//! reached; that looks as if they were busy.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::{
    domain::{Code, Refusal, UserId},
    postgres::UserStatus,
};

use super::{bad, call_id, check_sdp, done, party, too_large};
use crate::{
    app::{App, calls::Offered},
    commands::{Asker, Reply},
    dialect::Request,
};

/// Longest description of what is to be transmitted, in bytes of JSON.
const MAX_MEDIA: usize = 2048;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct In<'a> {
    target_user: String,
    call_id: Option<String>,
    sdp: String,
    #[serde(borrow, default)]
    media: Option<&'a RawValue>,
}

pub(in crate::commands) async fn run(
    app: &Arc<App>,
    asker: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let In {
        target_user,
        call_id: chosen,
        sdp,
        media,
    } = request.body.parse()?;
    let callee: UserId = target_user
        .parse()
        .map_err(|_| bad("targetUser: not a user id"))?;
    let call = chosen.as_deref().map(call_id).transpose()?;
    check_sdp(app, &sdp)?;
    if media.is_some_and(|it| it.get().len() > MAX_MEDIA) {
        return Err(too_large("media", MAX_MEDIA));
    }
    if callee == asker.user {
        return Err(bad("targetUser: that is yourself"));
    }
    let caller = party(app, asker)?;
    let (who, whom) = tokio::try_join!(app.users.get(asker.user), app.users.get(callee))?;
    if who.status == UserStatus::Banned {
        return Err(Refusal::new(Code::Forbidden, "banned"));
    }
    let offered = Offered {
        callee,
        may_ring: whom.status != UserStatus::Banned,
        call,
        request: request.id.as_ref().map(shared::domain::ClientId::as_str),
        digest: request.body.digest(),
        sdp: &sdp,
        media,
    };
    let call = app.calls.offer(&caller, &offered).await?;
    Ok(done("call.ringing", call))
}
