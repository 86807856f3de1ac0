//! What clients call the places they send to and listen at.

use shared::domain::{ConversationId, Kind, Queue, Topic, UserId};

/// Where a client may listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A part of the user's log: durable, from where the device stands.
    Queue(Queue),
    /// What happens in a conversation.
    Conversation(ConversationId),
    /// How a user appears.
    Presence(UserId),
    /// What happens in the user's calls.
    Calls,
    /// What only the dialogue itself tells.
    Own(Own),
}

/// What is told only to the socket that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// Refusals that need not end the connection.
    Errors,
    /// What became of requests.
    Acks,
}

const CONVERSATION: &str = "/topic/conversation/";
const PRESENCE: &str = "/topic/presence/";
const QUEUE: &str = "/user/queue/";
/// Where calls are listened to.
pub(super) const CALLS: &str = "/user/queue/calls";
const APP: &str = "/app/";

impl Own {
    pub(super) fn destination(self) -> &'static str {
        match self {
            Self::Errors => "/user/queue/errors",
            Self::Acks => "/user/queue/acks",
        }
    }
}

/// The source of a name.
pub(super) fn source(destination: &str) -> Option<Source> {
    if let Some(id) = destination.strip_prefix(CONVERSATION) {
        return id.parse().ok().map(Source::Conversation);
    }
    if let Some(id) = destination.strip_prefix(PRESENCE) {
        return id.parse().ok().map(Source::Presence);
    }
    if destination == CALLS {
        return Some(Source::Calls);
    }
    let name = destination.strip_prefix(QUEUE)?;
    let own = [Own::Errors, Own::Acks]
        .into_iter()
        .find(|own| own.destination() == destination)
        .map(Source::Own);
    let queue = || Queue::ALL.into_iter().find(|queue| queue.as_str() == name);
    own.or_else(|| queue().map(Source::Queue))
}

/// What a request is called that is sent to a destination.
pub(super) fn request(destination: &str) -> Option<&str> {
    destination
        .strip_prefix(APP)
        .filter(|name| !name.is_empty())
}

/// Writes the name of the place where entries of a topic are listened to, and the part of
/// message ids that goes with it.
pub(super) fn of_entry(topic: Topic, kind: Kind) -> (String, String) {
    match topic {
        Topic::Conversation(id) => of_conversation(id),
        Topic::Broadcast => (format!("{QUEUE}{}", Queue::Commands), BROADCAST.to_owned()),
        Topic::User(_) | Topic::Presence(_) | Topic::Directory | Topic::Revocations => {
            let queue = Queue::of(kind);
            (format!("{QUEUE}{queue}"), queue.to_string())
        }
    }
}

/// The same for a conversation.
pub(super) fn of_conversation(id: ConversationId) -> (String, String) {
    (format!("{CONVERSATION}{id}"), id.to_string())
}

/// The same for how a user appears.
pub(super) fn of_presence(user: UserId) -> (String, String) {
    (format!("{PRESENCE}{user}"), format!("presence/{user}"))
}

/// Begins the ids of commands for many, which stand in a log of their own.
pub(super) const BROADCAST: &str = "broadcast";
