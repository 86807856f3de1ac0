//! `heartbeat`: answered with both clocks, never required.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::domain::{Refusal, Timestamp};

use super::Reply;
use crate::{
    app::App,
    dialect::{Json, Request},
};

#[derive(Deserialize)]
struct Heartbeat<'a> {
    /// The client's clock, in whatever form it likes: comes back as it was.
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<&'a RawValue>,
    server_time: Timestamp,
}

pub(super) fn run(app: &App, request: &Request) -> Result<Reply, Refusal> {
    let Heartbeat { timestamp } = request.body.parse()?;
    let answer = Answer {
        timestamp,
        server_time: app.store.clock().now(),
    };
    Ok(Reply::answer("heartbeat", Json::of(&answer)))
}
