//! `ping`: is anybody there?

use serde_json::json;

use super::Reply;
use crate::dialect::Json;

pub(super) fn run() -> Reply {
    Reply::answer("pong", Json::of(&json!({})))
}
