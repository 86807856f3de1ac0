//! What clients call what they can hear: `subscribe`, `unsubscribe` and what answers them.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use shared::domain::{ClientId, Code, ConversationId, UserId};

use super::decode::refused;
use crate::dialect::{
    AckMode, Body, Interest, Messages, Settled, Subscribe, Subscribed, Unreadable, Wish,
};

/// What comes to a socket anyway.
const ALWAYS: [&str; 3] = ["user", "calls", "notifications"];
const CONVERSATION: &str = "conversation";
const TYPING: &str = "typing";
const PRESENCE: &str = "presence";
/// Most topics in one request, and the longest name that is repeated in the answer, in bytes.
const MAX_TOPICS: usize = 32;
const MAX_NAME: usize = 64;
/// Most users in one request.
const MAX_USERS: usize = 200;

#[derive(Deserialize)]
struct Payload {
    topics: Vec<String>,
    #[serde(default)]
    filters: Option<Filters>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Filters {
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation_id: Option<ConversationId>,
    #[serde(skip_serializing)]
    user_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_ids: Option<Vec<UserId>>,
}

impl Filters {
    /// The users whose presence is meant; nobody if there is no such filter.
    fn users(&self) -> impl Iterator<Item = UserId> {
        self.user_id
            .into_iter()
            .chain(self.user_ids.iter().flatten().copied())
    }
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
    let filters = filters.unwrap_or_default();
    let users_are_named = filters.user_id.is_some() || filters.user_ids.is_some();
    let count = filters.users().count();
    if users_are_named && (count == 0 || count > MAX_USERS) {
        let message = format!("payload: expected 1 to {MAX_USERS} users");
        return Err(Unreadable::bad_request(id, message));
    }
    let conversation = filters.conversation_id;
    let (mut wishes, mut settled) = (Vec::new(), Settled::default());
    let mut users = HashSet::new();
    for topic in topics {
        let interest = match &*topic {
            PRESENCE if users_are_named => {
                let new = filters.users().filter(|user| users.insert(*user));
                wishes.extend(new.map(|user| wish(Interest::Presence(Some(user)))));
                continue;
            }
            PRESENCE => Interest::Presence(None),
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
        let wish = wish(interest);
        if !wishes.contains(&wish) {
            wishes.push(wish);
        }
    }
    Ok(Subscribe {
        id,
        wishes,
        settled,
        is_repeated: false,
    })
}

fn wish(interest: Interest) -> Wish {
    Wish {
        interest,
        address: None,
        acks: AckMode::Auto,
    }
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
    #[serde(rename = "userId", skip_serializing_if = "Option::is_none")]
    user: Option<UserId>,
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
            .map(|(interest, code)| (name(interest), watched(interest), *code));
        let unknown = settled
            .refused
            .iter()
            .map(|(topic, code)| (&**topic, None, *code));
        let refusals = refused_by_name
            .chain(unknown)
            .map(|(topic, user, code)| Refused { topic, user, code })
            .collect();
        let mut asked = granted.iter().chain(refused.iter().map(|(it, _)| it));
        Self {
            names: settled
                .granted
                .iter()
                .copied()
                .chain(names(granted))
                .collect(),
            filters: Filters {
                conversation_id: asked.find_map(conversation),
                user_id: None,
                user_ids: users(granted),
            },
            refused: Some(refusals),
        }
    }

    /// What is heard no more. What is always heard is not among it.
    pub(super) fn left(left: &[Interest]) -> Self {
        Self {
            names: names(left).collect(),
            filters: Filters {
                conversation_id: left.iter().find_map(conversation),
                user_id: None,
                user_ids: users(left),
            },
            refused: None,
        }
    }
}

/// What clients call these, each once.
fn names(interests: &[Interest]) -> impl Iterator<Item = &'static str> {
    let mut many_users = false;
    let names = interests.iter().map(name);
    names.filter(move |name| *name != PRESENCE || !std::mem::replace(&mut many_users, true))
}

/// The users among these; `None` without any.
fn users(interests: &[Interest]) -> Option<Vec<UserId>> {
    let users: Vec<UserId> = interests.iter().filter_map(watched).collect();
    (!users.is_empty()).then_some(users)
}

fn name(interest: &Interest) -> &'static str {
    match interest {
        Interest::Queue(_) => ALWAYS[0],
        Interest::Calls => ALWAYS[1],
        Interest::Conversation { .. } => CONVERSATION,
        Interest::Typing(_) => TYPING,
        Interest::Presence(_) => PRESENCE,
    }
}

fn conversation(interest: &Interest) -> Option<ConversationId> {
    match interest {
        Interest::Queue(_) | Interest::Calls | Interest::Presence(_) => None,
        Interest::Conversation { id, .. } | Interest::Typing(id) => *id,
    }
}

fn watched(interest: &Interest) -> Option<UserId> {
    match interest {
        Interest::Presence(user) => *user,
        Interest::Queue(_)
        | Interest::Calls
        | Interest::Conversation { .. }
        | Interest::Typing(_) => None,
    }
}
