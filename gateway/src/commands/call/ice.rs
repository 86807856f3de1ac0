//! `call.ice`: a way by which this party may be reached. `null` says that there are no more.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::domain::Refusal;

use super::{call_id, done, party, too_large};
use crate::{
    app::App,
    commands::{Asker, Reply},
    dialect::Request,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct In<'a> {
    call_id: String,
    #[serde(borrow)]
    candidate: &'a RawValue,
}

pub(in crate::commands) async fn run(
    app: &Arc<App>,
    asker: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let In {
        call_id: id,
        candidate,
    } = request.body.parse()?;
    let (call, most) = (call_id(&id)?, app.calls.settings.max_candidate);
    if candidate.get().len() > most {
        return Err(too_large("candidate", most));
    }
    app.calls.ice(&party(app, asker)?, call, candidate).await?;
    Ok(done("call.ice", call))
}
