//! `typing.start` and `typing.stop`: relayed to whoever asked for it, kept nowhere.

use std::sync::Arc;

use serde::Deserialize;
use shared::domain::{Code, ConversationId, Refusal, Signal, SignalKind};

use crate::{
    app::{App, conversations::may_write},
    commands::{Asker, Reply},
    dialect::{Json, Request},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct In {
    conversation_id: ConversationId,
}

pub(in crate::commands) async fn start(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    tell(app, caller, request, SignalKind::TypingStart).await
}

pub(in crate::commands) async fn stop(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    tell(app, caller, request, SignalKind::TypingStop).await
}

/// Told only if the participants are still those by which it was decided; once again if not.
async fn tell(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
    kind: SignalKind,
) -> Result<Reply, Refusal> {
    let In { conversation_id } = request.body.parse()?;
    let now = app.store.clock().now();
    let mut members = app.conversations.members(conversation_id).await?;
    for _ in 0..2 {
        if let Err(refusal) = may_write(&members, caller.user, now) {
            let read = app.conversations.read_again(conversation_id).await?;
            if read.version == members.version {
                return Err(refusal);
            }
            members = read;
            continue;
        }
        let signal = Signal {
            kind,
            user: caller.user,
            session: caller.session,
        };
        let told = app.fanout.typing(conversation_id, members.version, &signal);
        if told.await? {
            let payload = serde_json::json!({ "conversationId": conversation_id });
            return Ok(Reply::acknowledge(kind.as_str(), Json::of(&payload)));
        }
        members = app.conversations.read_for_writing(conversation_id).await?;
    }
    Err(Refusal::new(
        Code::Unavailable,
        "the conversation keeps changing",
    ))
}
