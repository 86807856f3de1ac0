//! Conversations: what is said, changed and read in them, and who takes part.
//!
//! Everything that is said is an entry of the conversation's log; that it stands there is the
//! acceptance. Copies for the inboxes of the participants are made afterwards, by this node or by
//! whoever takes that over. Who may write is decided by the participants as of the present version
//! of the conversation, see [`crate::app::Conversations`].

pub mod change;
mod content;
pub mod direct;
mod edit;
pub mod history;
pub mod list;
mod mark;
mod send;
mod typing;

use serde::Serialize;
use shared::{
    domain::{Code, ConversationId, Digest, Kind, MessageId, Refusal, Timestamp, Topic},
    redis::{Append, Appended, IdempotencyKey},
};

use crate::app::App;

pub(super) use edit::{delete, edit};
pub(super) use mark::{delivered, read};
pub(super) use send::run as send;
pub(super) use typing::{start as typing_start, stop as typing_stop};

/// An accepted entry of a conversation.
#[derive(Debug, Clone, Copy)]
struct Accepted {
    id: MessageId,
    at: Timestamp,
}

/// An entry of a conversation with this body.
fn entry(
    app: &App,
    conversation: ConversationId,
    kind: Kind,
    body: &impl Serialize,
    key: IdempotencyKey,
    digest: Digest,
) -> Result<Append, Refusal> {
    let body = serde_json::to_vec(body)
        .map_err(|_| Refusal::new(Code::BadRequest, "not representable"))?;
    Ok(Append::new(
        Topic::Conversation(conversation),
        kind,
        body,
        key,
        digest,
        app.durability,
    ))
}

/// Reads what became of an entry.
fn accepted(appended: &Appended) -> Result<Accepted, Refusal> {
    match *appended {
        Appended::New { id, at, .. } | Appended::Duplicate { id, at, .. } => {
            Ok(Accepted { id, at })
        }
        Appended::Conflict { .. } => Err(super::create::other_body()),
        Appended::Delivered | Appended::Outdated => {
            Err(Refusal::new(Code::Internal, "internal error"))
        }
    }
}

fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::BadRequest, message)
}
