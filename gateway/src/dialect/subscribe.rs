//! What a client asks to hear, freed from its dialect.

use std::fmt;

use bytes::Bytes;
use shared::domain::{ClientId, Code, ConversationId, Queue, UserId};

/// Wishes to hear something, or to hear it no more.
#[derive(Debug)]
pub struct Subscribe {
    /// The client's name for the request.
    pub id: Option<ClientId>,
    /// What it is about.
    pub wishes: Vec<Wish>,
    /// What nobody has to be asked about.
    pub settled: Settled,
    /// The client said the same just before: that only asks whether it is heard, and is no sign that
    /// somebody does something.
    pub is_repeated: bool,
}

/// One thing to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// What.
    pub interest: Interest,
    /// How the client tells apart what comes of it, if its dialect does that: part of the
    /// frames, written by the dialect and meant for nobody else.
    pub address: Option<Bytes>,
    /// Who confirms what comes of it.
    pub acks: AckMode,
}

/// What can be heard besides what a socket always hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interest {
    /// One of the queues that the user's log consists of, from where the device stands there.
    Queue(Queue),
    /// What happens in a conversation from now on, and first what the device missed of those messages that
    /// no inbox gets; `None` are all those of the user, also ones to come.
    Conversation {
        /// Which.
        id: Option<ConversationId>,
        /// How much of it.
        messages: Messages,
    },
    /// Who types in a conversation; `None` are all those of the user.
    Typing(Option<ConversationId>),
    /// How a user appears; `None` is everybody with whom the user shares a conversation.
    Presence(Option<UserId>),
    /// What happens in the user's calls, where that is not always heard.
    Calls,
}

impl Interest {
    /// Whether it is all that happens in a conversation, also who types.
    pub fn is_everything(self) -> bool {
        matches!(self, Self::Conversation { messages, .. } if messages == Messages::All)
    }
}

/// As it stands in logs.
impl fmt::Display for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(queue) => write!(f, "queue:{queue}"),
            Self::Conversation { id: Some(id), .. } => write!(f, "conversation:{id}"),
            Self::Conversation { id: None, .. } => f.write_str("conversation"),
            Self::Typing(Some(id)) => write!(f, "typing:{id}"),
            Self::Typing(None) => f.write_str("typing"),
            Self::Presence(Some(user)) => write!(f, "presence:{user}"),
            Self::Presence(None) => f.write_str("presence"),
            Self::Calls => f.write_str("calls"),
        }
    }
}

/// How much of a conversation is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Messages {
    /// Everything, also who types.
    All,
    /// Receipts, and those messages that no inbox gets: for sockets that hear the inbox anyway.
    Uncopied,
}

/// Who says that entries were received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AckMode {
    /// The transport, by pongs.
    #[default]
    Auto,
    /// The client.
    Client,
}

/// Topics about which the dialect itself knows the answer, by the client's names for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// What is always heard.
    pub granted: Vec<&'static str>,
    /// What does not exist.
    pub refused: Vec<(Box<str>, Code)>,
}
