//! Text frames to what a client wants.

use serde::{Deserialize, Serialize};
use shared::domain::{ClientId, Code, ConversationId, Refusal};

use super::topics::{self, Wanted};
use crate::dialect::{
    Body, Frame, Request, Unreadable,
    json::{self, Envelope},
};

/// What the arguments of an event stand in.
const DATA: &str = "data";

/// What a client said.
#[derive(Debug)]
pub(super) enum Said {
    /// From now on it wants to hear this, and nothing else.
    Subscribe(Option<ClientId>, Wanted),
    /// It types, or does no more.
    Typing(Request),
}

/// Why a frame is not obeyed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is no frame of this dialect.
    Malformed(Unreadable),
    /// It is one, but says nothing that can be done.
    Refused(Unreadable),
}

pub(super) fn decode(frame: &Frame) -> Result<Said, Trouble> {
    let Frame::Text(text) = frame else {
        let message = "this dialect speaks text frames, not binary";
        return Err(Trouble::Malformed(Unreadable::bad_request(None, message)));
    };
    let Envelope { id, name, body } = json::envelope(text, DATA).map_err(Trouble::Malformed)?;
    let said = match &*name {
        "client.system.subscribe" => body
            .parse_named(DATA)
            .and_then(topics::read)
            .map(|wanted| Said::Subscribe(id.clone(), wanted)),
        "client.messenger.typing" => body
            .parse_named(DATA)
            .map(|typing| Said::Typing(request(id.clone(), &typing))),
        _ => Err(Refusal::new(Code::UnknownType, "no event has this name")),
    };
    said.map_err(|refusal| {
        Trouble::Refused(Unreadable {
            id,
            refusal,
            is_fatal: false,
        })
    })
}

/// Who types is known by the token, whatever the client says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typing {
    conversation_id: ConversationId,
    is_typing: bool,
}

fn request(id: Option<ClientId>, typing: &Typing) -> Request {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Where {
        conversation_id: ConversationId,
    }
    let body = Body::of(&Where {
        conversation_id: typing.conversation_id,
    });
    let name = if typing.is_typing {
        "typing.start"
    } else {
        "typing.stop"
    };
    Request {
        id,
        name: name.into(),
        body,
    }
}
