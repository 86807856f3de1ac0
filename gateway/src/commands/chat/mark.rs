//! `mark.delivered` and `mark.read`: what the caller has received, and what they have read.
//!
//! Who has a message has all before it, too: a receipt that names several moves the caller's
//! pointer to the last of them. Saying the same again is no news, and makes no entry.

use std::sync::Arc;

use serde::Deserialize;
use shared::{
    domain::{
        Code, ConversationId, Digest, Kind, MAX_RECEIPT_MESSAGES, Members, MessageId,
        MessageReceipt, Refusal, Topic,
    },
    redis::IdempotencyKey,
};

use super::{accepted, bad, entry};
use crate::{
    app::{App, conversations::participant},
    commands::{Asker, Reply},
    dialect::{Json, Request},
    fanout::{postgres_refusal, store_refusal},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    conversation_id: ConversationId,
    message_ids: Option<Vec<MessageId>>,
    up_to: Option<MessageId>,
}

impl Mark {
    fn validate(self, caller: &Asker) -> Result<(MessageReceipt, MessageId), Refusal> {
        let count = self.message_ids.as_ref().map(Vec::len);
        match (count, self.up_to) {
            (Some(0), _) => return Err(bad("messageIds: empty")),
            (Some(count), None) if count > MAX_RECEIPT_MESSAGES => {
                return Err(bad(format!("messageIds: more than {MAX_RECEIPT_MESSAGES}")));
            }
            (Some(_), Some(_)) => return Err(bad("upTo: not together with messageIds")),
            (None, None) => return Err(bad("upTo: missing")),
            _ => {}
        }
        let receipt = MessageReceipt {
            conversation_id: self.conversation_id,
            message_ids: self.message_ids,
            up_to: self.up_to,
            user_id: caller.user,
        };
        let furthest = receipt.furthest().ok_or_else(|| bad("upTo: missing"))?;
        Ok((receipt, furthest))
    }
}

pub(in crate::commands) async fn delivered(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    mark(app, caller, request, Kind::MessageDelivered).await
}

pub(in crate::commands) async fn read(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    mark(app, caller, request, Kind::MessageRead).await
}

async fn mark(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
    kind: Kind,
) -> Result<Reply, Refusal> {
    let (receipt, furthest) = request.body.parse::<Mark>()?.validate(caller)?;
    let conversation = receipt.conversation_id;
    // Before anything is told of what is said there.
    app.conversations
        .check_participant(conversation, caller.user)
        .await?;
    exists(app, conversation, furthest).await?;
    let body = serde_json::to_vec(&receipt).map_err(|_| bad("not representable"))?;
    let digest = Digest::of(&body);
    let key = IdempotencyKey(format!("{kind}:{}:{digest}", caller.user));
    let may = |members: &Members| participant(members, caller.user).map(drop);
    let make = |_: &Members| entry(app, conversation, kind, &receipt, key.clone(), digest);
    let appended = app.conversations.append(conversation, may, make).await?;
    let done = accepted(&appended)?;
    let mut payload = serde_json::json!(receipt);
    payload["at"] = serde_json::json!(done.at);
    Ok(Reply::acknowledge(kind.as_str(), Json::of(&payload)))
}

/// Whether the conversation has such a message: a made-up id would move a pointer to where nothing
/// was said yet.
async fn exists(app: &App, conversation: ConversationId, id: MessageId) -> Result<(), Refusal> {
    let found = app.store.find(Topic::Conversation(conversation), id).await;
    let found = found.map_err(|error| store_refusal(&error))?;
    if found.is_some_and(|entry| entry.kind == Kind::MessageNew) {
        return Ok(());
    }
    let found = app.postgres.message(id).await;
    let found = found.map_err(|error| postgres_refusal(&error))?;
    if found.is_some_and(|message| message.body.conversation_id == conversation) {
        return Ok(());
    }
    Err(Refusal::new(Code::NotFound, "no such message"))
}

#[cfg(test)]
mod tests {
    use shared::domain::UserId;
    use uuid::Uuid;

    use super::*;

    fn mark(rest: &str) -> Result<(MessageReceipt, MessageId), Code> {
        let json = format!(r#"{{"conversationId":"{}"{rest}}}"#, Uuid::nil());
        let mark: Mark = serde_json::from_str(&json).unwrap();
        let caller = Asker::over_rest(UserId(Uuid::nil()));
        mark.validate(&caller).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_receipt_names_messages_or_the_last_of_them() {
        let id = |n: u128| Uuid::from_u128(n);
        let list = |ids: &[u128]| {
            let ids: Vec<_> = ids.iter().map(|n| id(*n)).collect();
            format!(r#","messageIds":{}"#, serde_json::json!(ids))
        };
        assert_eq!(mark(&list(&[2, 9, 4])).unwrap().1, MessageId(id(9)));
        let upto = format!(r#","upTo":"{}""#, id(7));
        assert_eq!(mark(&upto).unwrap().1, MessageId(id(7)));
        for wrong in ["", r#","messageIds":[]"#, &(list(&[1]) + &upto)] {
            assert_eq!(mark(wrong).unwrap_err(), Code::BadRequest, "{wrong}");
        }
        let many: Vec<u128> = (0..=MAX_RECEIPT_MESSAGES as u128).collect();
        assert_eq!(mark(&list(&many)).unwrap_err(), Code::BadRequest);
    }
}
