//! `call.answer`: takes a call, if no other device did before.

use std::sync::Arc;

use serde::Deserialize;
use shared::domain::Refusal;

use super::{call_id, check_sdp, done, party};
use crate::{
    app::App,
    commands::{Asker, Reply},
    dialect::Request,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct In {
    call_id: String,
    sdp: String,
}

pub(in crate::commands) async fn run(
    app: &Arc<App>,
    asker: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let In { call_id: id, sdp } = request.body.parse()?;
    let call = call_id(&id)?;
    check_sdp(app, &sdp)?;
    app.calls.answer(&party(app, asker)?, call, &sdp).await?;
    Ok(done("call.answer", call))
}
