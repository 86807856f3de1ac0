//! What a client wants to hear: always everything at once, so that what it does not name any more is
//! heard no more.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Deserialize;
use shared::domain::{Code, Refusal};

use crate::dialect::{AckMode, Interest, Messages, Settled, Wish};

/// Most topics of a socket.
const MOST: usize = 200;
/// How much of what a client named is repeated in a refusal, in bytes.
const MAX_NAME: usize = 64;

/// The data of `client.system.subscribe`.
#[derive(Deserialize)]
pub(super) struct Subscribe {
    topics: Vec<Topic>,
}

#[derive(Deserialize)]
struct Topic {
    kind: String,
    id: String,
}

/// What a client wants to hear.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Each once.
    pub(super) interests: Vec<Interest>,
    /// What does not exist.
    pub(super) settled: Settled,
}

impl Wanted {
    /// The same for the same topics in the same order.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.interests.hash(&mut hasher);
        for (name, _) in &self.settled.refused {
            name.hash(&mut hasher);
        }
        hasher.finish()
    }
}

pub(super) fn read(Subscribe { topics }: Subscribe) -> Result<Wanted, Refusal> {
    if topics.len() > MOST {
        let message = format!("data: a socket has at most {MOST} topics");
        return Err(Refusal::new(Code::BadRequest, message));
    }
    let mut wanted = Wanted::default();
    for topic in topics {
        match topic.interest() {
            Some(interest) if !wanted.interests.contains(&interest) => {
                wanted.interests.push(interest);
            }
            Some(_) => {}
            None => wanted
                .settled
                .refused
                .push((topic.shown(), Code::BadRequest)),
        }
    }
    Ok(wanted)
}

impl Topic {
    fn interest(&self) -> Option<Interest> {
        match &*self.kind {
            "conversation" => {
                let id = self.id.parse().ok()?;
                Some(Interest::Conversation {
                    id: Some(id),
                    messages: Messages::All,
                })
            }
            "user" => Some(Interest::Presence(Some(self.id.parse().ok()?))),
            _ => None,
        }
    }

    fn shown(&self) -> Box<str> {
        let mut shown = format!("{} {}", self.kind, self.id);
        if shown.len() > MAX_NAME {
            shown.truncate(shown.floor_char_boundary(MAX_NAME));
            shown.push('…');
        }
        shown.into()
    }
}

/// What clients call something that can be heard.
pub(super) fn name(interest: Interest) -> String {
    match interest {
        Interest::Conversation { id: Some(id), .. } => format!("conversation {id}"),
        Interest::Presence(Some(user)) => format!("user {user}"),
        // Nobody can ask for anything else here.
        other => other.to_string(),
    }
}

/// A wish for it. Sockets of this dialect have no addresses, and confirm nothing.
pub(super) fn wish(interest: Interest) -> Wish {
    Wish {
        interest,
        address: None,
        acks: AckMode::Auto,
    }
}
