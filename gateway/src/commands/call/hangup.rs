//! `call.hangup`: ends a call, or does not take it. One that is over already is answered with why.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use shared::domain::{CallEnd, Refusal};

use super::{bad, call_id, party};
use crate::{
    app::App,
    commands::{Asker, Reply},
    dialect::{Json, Request},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct In {
    call_id: String,
    reason: Option<String>,
}

pub(in crate::commands) async fn run(
    app: &Arc<App>,
    asker: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let In {
        call_id: id,
        reason,
    } = request.body.parse()?;
    let call = call_id(&id)?;
    // Only a callee who has not answered has a choice.
    let refusal = match reason.as_deref() {
        None | Some("hangup" | "declined") => CallEnd::Declined,
        Some("busy") => CallEnd::Busy,
        Some(_) => return Err(bad("reason: expected hangup, declined or busy")),
    };
    let reason = app.calls.hangup(&party(app, asker)?, call, refusal).await?;
    let payload = Json::of(&json!({ "callId": call, "reason": reason }));
    Ok(Reply::acknowledge("call.ended", payload))
}
