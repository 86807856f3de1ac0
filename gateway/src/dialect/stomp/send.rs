//! SEND: what is sent to a destination becomes a request.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::domain::{ClientId, Code};

use super::{Trouble, destination, frame::Received};
use crate::dialect::{Authenticate, Body, Incoming, Request, Token, json};

/// Where messages to conversations are sent; their acknowledgement has a form of its own.
pub(super) const CHAT_DESTINATION: &str = "/app/chat.send";

/// What a frame asks for. Its id, which makes a request idempotent, is the header `client-id`:
/// that of a receipt is only the connection's, and many clients count from one in each.
pub(super) fn read(frame: &Received<'_>) -> Result<Incoming, Trouble> {
    let to = frame.required("destination")?;
    let Some(name) = destination::request(to) else {
        return Err(Trouble::refused(
            Code::NotFound,
            "nothing can be sent to this destination",
        ));
    };
    let id = frame.header("client-id").map(str::parse::<ClientId>);
    let id = id.transpose().map_err(|_| {
        let message = "client-id: expected 1 to 64 characters, none of them a control character";
        Trouble::refused(Code::BadRequest, message)
    })?;
    let (name, body) = match name {
        "chat.send" => ("chat.message", chat_message(frame)?),
        "chat.typing" => typing(&object(frame)?)?,
        "chat.read" => ("mark.read", object(frame)?),
        "authenticate" => {
            let body = object(frame)?;
            let Ok(TokenOnly { token }) = body.parse() else {
                // Not serde's message, which may quote the token.
                let message = "payload: expected {token: string}";
                return Err(Trouble::refused(Code::BadRequest, message));
            };
            return Ok(Incoming::Authenticate(Authenticate {
                id,
                token: Some(token),
                device: None,
            }));
        }
        name => (name, object(frame)?),
    };
    Ok(Incoming::Request(Request {
        id,
        name: name.into(),
        body,
    }))
}

#[derive(Deserialize)]
struct TokenOnly {
    token: Token,
}

/// The body as the arguments of a request. None is as good as an empty object.
fn object(frame: &Received<'_>) -> Result<Body, Trouble> {
    if frame.body.is_empty() {
        return Ok(Body::EMPTY);
    }
    json::check_object(&frame.body)?;
    Ok(Body::checked(frame.body.clone()))
}

/// A message as clients of this dialect write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChatSend<'a> {
    #[serde(borrow, default)]
    conversation_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    target_user: Option<&'a RawValue>,
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(borrow, default)]
    message_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    files: Option<&'a RawValue>,
    #[serde(borrow, default)]
    durability: Option<&'a RawValue>,
}

/// The same as a request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChatMessage<T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation_id: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_user: Option<T>,
    message: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_type: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<T>,
}

/// A body of JSON says everything; of any other body the frame's headers say where it goes, and
/// it is the content: text as it is, other bytes as a `data:` URL (RFC 2397), which gives them
/// back unchanged.
fn chat_message(frame: &Received<'_>) -> Result<Body, Trouble> {
    let content_type = frame.header("content-type").unwrap_or("application/json");
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        let body = object(frame)?;
        let sent: ChatSend<'_> = body.parse()?;
        return written(&ChatMessage {
            conversation_id: sent.conversation_id,
            target_user: sent.target_user,
            message: sent.content,
            message_type: sent.message_type,
            files: sent.files,
            durability: sent.durability,
        });
    }
    let is_mime = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/;=* \"".contains(&byte);
    if !essence.contains('/') || !content_type.bytes().all(is_mime) {
        return Err(Trouble::refused(
            Code::BadRequest,
            "content-type: expected a MIME type",
        ));
    }
    let is_text = essence
        .get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case("text/"));
    let content = if is_text {
        std::str::from_utf8(&frame.body)
            .map_err(|_| Trouble::refused(Code::BadRequest, "the body is not UTF-8"))?
            .to_owned()
    } else {
        let plain: String = content_type.split_whitespace().collect();
        format!("data:{plain};base64,{}", STANDARD.encode(&frame.body))
    };
    written(&ChatMessage {
        conversation_id: frame.header("conversation-id"),
        target_user: frame.header("target-user"),
        message: &*content,
        message_type: frame.header("message-type"),
        files: None,
        durability: frame.header("durability"),
    })
}

fn written(message: &impl Serialize) -> Result<Body, Trouble> {
    let text = serde_json::to_vec(message)
        .map_err(|_| Trouble::refused(Code::BadRequest, "the body cannot be read"))?;
    json::check_object(&text)?;
    Ok(Body::checked(Bytes::from(text)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typing<'a> {
    #[serde(borrow)]
    conversation_id: &'a RawValue,
    is_typing: bool,
}

fn typing(body: &Body) -> Result<(&'static str, Body), Trouble> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Where<'a> {
        conversation_id: &'a RawValue,
    }
    let Typing {
        conversation_id,
        is_typing,
    } = body.parse()?;
    let name = if is_typing {
        "typing.start"
    } else {
        "typing.stop"
    };
    Ok((name, written(&Where { conversation_id })?))
}
