//! What comes from a client, freed from its dialect.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::domain::{
    ClientId, Code, ConversationId, Device, Digest, Position, Queue, Refusal, Topic, UserId,
};

use super::Subscribe;

/// A data frame as the client sent it.
#[derive(Debug, Clone)]
pub enum Frame {
    /// UTF-8, as checked by the WebSocket layer.
    Text(Bytes),
    /// Any bytes.
    Binary(Bytes),
}

/// One of the logs that come to a socket, or a part of one that it takes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Feed {
    /// The user's own, as a whole.
    User,
    /// That of broadcasts.
    Broadcast,
    /// One of the queues that the user's own log consists of.
    Queue(Queue),
    /// That of a conversation, heard live.
    Conversation(ConversationId),
}

impl Feed {
    /// The log that a topic is, to a socket that gets its entries.
    pub fn of(topic: Topic) -> Self {
        match topic {
            Topic::Broadcast => Self::Broadcast,
            Topic::Conversation(conversation) => Self::Conversation(conversation),
            Topic::User(_) | Topic::Presence(_) | Topic::Directory | Topic::Revocations => {
                Self::User
            }
        }
    }

    /// The topic behind it, of a user.
    pub fn topic(self, user: UserId) -> Topic {
        match self {
            Self::User | Self::Queue(_) => Topic::User(user),
            Self::Broadcast => Topic::Broadcast,
            Self::Conversation(conversation) => Topic::Conversation(conversation),
        }
    }
}

/// What a client wants.
#[derive(Debug)]
pub enum Incoming {
    /// To be who the token says, now or for longer. For the session itself.
    Authenticate(Authenticate),
    /// To confirm everything of a log up to a position. For the session itself.
    Ack {
        /// The client's name for the request.
        id: Option<ClientId>,
        /// Which log.
        feed: Feed,
        /// The last position it is done with.
        position: Position,
        /// Whether it is done with what comes before, too.
        extent: Extent,
    },
    /// To have an entry again, for it could not be made use of. For the session itself.
    Nack {
        /// Which log.
        feed: Feed,
        /// Which entry.
        position: Position,
        /// Whether that is true of all unconfirmed ones before it, too.
        extent: Extent,
    },
    /// To hear something.
    Subscribe(Subscribe),
    /// To hear something no more.
    Unsubscribe(Subscribe),
    /// Something the table of commands knows, or does not.
    Request(Request),
    /// What concerned only the dialogue, which has seen to it: it is to be answered as done.
    Settled,
    /// To end the session, once that is answered.
    Leave,
}

impl Incoming {
    /// The client's name for it.
    pub fn id(&self) -> Option<&ClientId> {
        match self {
            Self::Authenticate(Authenticate { id, .. }) | Self::Ack { id, .. } => id.as_ref(),
            Self::Subscribe(wanted) | Self::Unsubscribe(wanted) => wanted.id.as_ref(),
            Self::Request(request) => request.id.as_ref(),
            Self::Nack { .. } | Self::Settled | Self::Leave => None,
        }
    }

    /// Whether it only asks whether it is heard, as clients do by themselves: no sign that somebody
    /// does something.
    pub fn only_asks(&self) -> bool {
        match self {
            Self::Subscribe(wanted) => wanted.is_repeated,
            Self::Request(request) => matches!(&*request.name, "ping" | "heartbeat"),
            _ => false,
        }
    }
}

/// How much a confirmation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Everything up to a position.
    UpTo,
    /// What stands at the position, and nothing else.
    Only,
}

/// Who somebody says they are.
#[derive(Debug)]
pub struct Authenticate {
    /// The client's name for the request.
    pub id: Option<ClientId>,
    /// The token; it is not checked yet. None if that of the upgrade has to do.
    pub token: Option<Token>,
    /// Which of the user's devices it is, if that is said here.
    pub device: Option<Device>,
}

/// A token on its way to be checked. Does not show itself in logs.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A request by name.
#[derive(Debug)]
pub struct Request {
    /// The client's name for it: the reply names it, and it makes the request idempotent.
    pub id: Option<ClientId>,
    /// What is asked for, for example `command.create`. Any text, at most as long as a frame.
    pub name: Box<str>,
    /// Its arguments.
    pub body: Body,
}

/// The arguments of a request: the text of a JSON object, exactly as the client wrote it.
/// It is well-formed, of bounded depth, and its strings hold neither NUL nor half a
/// surrogate pair, so it can be stored in Postgres as it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct Body(Bytes);

impl Body {
    /// What a request without arguments has.
    pub const EMPTY: Self = Self(Bytes::from_static(b"{}"));

    /// Takes the text of a JSON object that a decoder has checked.
    pub(super) fn checked(text: Bytes) -> Self {
        Self(text)
    }

    /// Writes arguments of our own as the text of a JSON object.
    pub(super) fn of(arguments: &impl Serialize) -> Self {
        Self(super::Json::of(arguments).as_str().to_owned().into())
    }

    /// Checks `text`, for callers that are no socket, for example tests.
    pub fn parse_object(text: &str) -> Result<Self, Refusal> {
        super::json::check_object(text.as_bytes())?;
        Ok(Self(Bytes::copy_from_slice(text.as_bytes())))
    }

    /// The text of the object.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads the arguments as `T`. What does not fit is a `bad_request` that says where.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Refusal> {
        self.parse_named("payload")
    }

    /// The same where the dialect calls the arguments something else.
    pub(super) fn parse_named<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Result<T, Refusal> {
        serde_json::from_slice(&self.0).map_err(|error| {
            let mut message = format!("{name}: {error}");
            // serde quotes values; a long one helps nobody.
            if message.len() > 256 {
                let end = message.floor_char_boundary(256);
                message.truncate(end);
                message.push('…');
            }
            Refusal::new(Code::BadRequest, message)
        })
    }

    /// Tells one body from another under the same request id.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

impl fmt::Debug for Body {
    /// Contents stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
}

/// Something that says nothing this server understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The request's id, if it could be read.
    pub id: Option<ClientId>,
    /// What to tell the client.
    pub refusal: Refusal,
    /// Nothing that follows can be understood either: the socket has to close. Otherwise it
    /// lives on.
    pub is_fatal: bool,
}

impl Unreadable {
    /// A `bad_request` to a request whose id, if it had one, is known.
    pub(super) fn bad_request(
        id: Option<ClientId>,
        message: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        Self {
            id,
            refusal: Refusal::new(Code::BadRequest, message),
            is_fatal: false,
        }
    }
}
