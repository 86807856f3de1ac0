//! Calls: what a socket says to begin one, to answer, to be reached, and to end it. What they say to
//! each other is passed on as it is; see [`crate::app::Calls`] for who hears it.

mod answer;
mod hangup;
mod ice;
mod offer;

use serde_json::json;
use shared::{
    domain::{CallId, Code, Refusal},
    redis::Party,
};

pub(super) use answer::run as answer;
pub(super) use hangup::run as hangup;
pub(super) use ice::run as ice;
pub(super) use offer::run as offer;

use super::{Asker, Reply};
use crate::{app::App, dialect::Json};

/// The socket that asks. A call needs one: without it there is nobody to talk to.
fn party(app: &App, asker: &Asker) -> Result<Party, Refusal> {
    let over_rest = || bad("calls are made over a socket");
    let session = asker.session.ok_or_else(over_rest)?;
    let device = app.fanout.device_of(asker.user, session);
    Ok(Party {
        user: asker.user,
        session,
        device: device.ok_or_else(over_rest)?,
    })
}

/// Refuses a session description that is none, or too long.
fn check_sdp(app: &App, sdp: &str) -> Result<(), Refusal> {
    let most = app.calls.settings.max_sdp;
    if sdp.is_empty() {
        return Err(bad("sdp: empty"));
    }
    if sdp.len() > most {
        return Err(too_large("sdp", most));
    }
    Ok(())
}

fn call_id(text: &str) -> Result<CallId, Refusal> {
    text.parse().map_err(|_| bad("callId: not a call id"))
}

fn done(name: &'static str, call: CallId) -> Reply {
    Reply::acknowledge(name, Json::of(&json!({ "callId": call })))
}

fn too_large(what: &str, most: usize) -> Refusal {
    Refusal::new(Code::TooLarge, format!("{what}: more than {most} bytes"))
}

fn bad(message: &'static str) -> Refusal {
    Refusal::new(Code::BadRequest, message)
}
