//! What clients call what they can hear: `subscribe`, `unsubscribe` and what answers them.

use serde::{Deserialize, Serialize};
use shared::domain::{ClientId, Code, ConversationId};

use super::decode::refused;
use crate::dialect::{
    AckMode, Body, Interest, Messages, Settled, Subscribe, Subscribed, Unreadable, Wish,
};

/// What comes to a socket anyway.
const ALWAYS: [&str; 3] = ["user", "calls", "notifications"];
const CONVERSATION: &str = "conversation";
const TYPING: &str = "typing";
/// Most topics in one request, and the longest name that is repeated in the answer, in bytes.
const MAX_TOPICS: usize = 32;
const MAX_NAME: usize = 64;

#[derive(Deserialize)]
struct Payload {
    topics: Vec<String>,
    #[serde(default)]
    filters: Option<Filters>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
pub(super) struct Filters {
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation_id: Option<ConversationId>,
}

/// The payload of both requests.
pub(super) fn read(id: Option<ClientId>, body: &Body) -> Result<Subscribe, Unreadable> {
    let payload: Payload = match body.parse() {
        Ok(payload) => payload,
        Err(refusal) => return Err(refused(id, refusal)),
    };
    let Payload { topics, filters } = payload;
    if topics.is_empty() || topics.len() > MAX_TOPICS {
        let message = format!("payload: expected 1 to {MAX_TOPICS} topics");
        return Err(Unreadable::bad_request(id, message));
    }
    if topics.iter().any(|topic| topic.len() > MAX_NAME) {
        let message = format!("payload: no topic has more than {MAX_NAME} bytes");
        return Err(Unreadable::bad_request(id, message));
    }
    let conversation = filters.unwrap_or_default().conversation_id;
    let (mut wishes, mut settled) = (Vec::new(), Settled::default());
    for topic in topics {
        let interest = match &*topic {
            CONVERSATION => Interest::Conversation {
                id: conversation,
                messages: Messages::Uncopied,
            },
            TYPING => Interest::Typing(conversation),
            name => {
                match ALWAYS.into_iter().find(|always| *always == name) {
                    Some(always) if !settled.granted.contains(&always) => {
                        settled.granted.push(always);
                    }
                    Some(_) => {}
                    None => settled
                        .refused
                        .push((topic.into_boxed_str(), Code::BadRequest)),
                }
                continue;
            }
        };
        let wish = Wish {
            interest,
            address: None,
            acks: AckMode::Auto,
        };
        if !wishes.contains(&wish) {
            wishes.push(wish);
        }
    }
    Ok(Subscribe {
        id,
        wishes,
        settled,
    })
}

/// The payload of both answers.
#[derive(Serialize)]
pub(super) struct Topics<'a> {
    #[serde(rename = "topics")]
    names: Vec<&'a str>,
    filters: Filters,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Vec<Refused<'a>>>,
}

#[derive(Serialize)]
struct Refused<'a> {
    topic: &'a str,
    code: Code,
}

impl<'a> Topics<'a> {
    /// What is heard now.
    pub(super) fn heard(subscribed: &'a Subscribed) -> Self {
        let Subscribed {
            granted,
            refused,
            settled,
        } = subscribed;
        let refused_by_name = refused
            .iter()
            .map(|(interest, code)| (name(interest), *code));
        let unknown = settled
            .refused
            .iter()
            .map(|(topic, code)| (&**topic, *code));
        let refusals = refused_by_name
            .chain(unknown)
            .map(|(topic, code)| Refused { topic, code })
            .collect();
        let mut asked = granted.iter().chain(refused.iter().map(|(it, _)| it));
        Self {
            names: settled
                .granted
                .iter()
                .copied()
                .chain(granted.iter().map(name))
                .collect(),
            filters: Filters {
                conversation_id: asked.find_map(conversation),
            },
            refused: Some(refusals),
        }
    }

    /// What is heard no more. What is always heard is not among it.
    pub(super) fn left(left: &[Interest]) -> Self {
        Self {
            names: left.iter().map(name).collect(),
            filters: Filters {
                conversation_id: left.iter().find_map(conversation),
            },
            refused: None,
        }
    }
}

fn name(interest: &Interest) -> &'static str {
    match interest {
        Interest::Queue(_) => ALWAYS[0],
        Interest::Conversation { .. } => CONVERSATION,
        Interest::Typing(_) => TYPING,
    }
}

fn conversation(interest: &Interest) -> Option<ConversationId> {
    match interest {
        Interest::Queue(_) => None,
        Interest::Conversation { id, .. } | Interest::Typing(id) => *id,
    }
}
