//! What goes to a client, before a dialect gives it a form.

use std::time::Duration;

use serde::Serialize;
use shared::domain::{ClientId, Device, NodeId, Position, Refusal, SessionId, Timestamp, UserId};

use super::{Interest, Subscribed};

/// Something to tell a client.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The session is open; the first frame after identification.
    Connected(&'a Connected),
    /// The token given by `authenticate` is good.
    AuthSuccess {
        /// The request it answers.
        to: Option<&'a ClientId>,
        /// Who the client now is, or still is.
        user: UserId,
        /// When the session ends unless it is refreshed.
        expires_at: Timestamp,
    },
    /// The token given by `authenticate` is not accepted.
    AuthFailed {
        /// The request it answers.
        to: Option<&'a ClientId>,
        /// `unauthorized` or `forbidden`, and why.
        refusal: &'a Refusal,
    },
    /// The node is going away.
    Draining {
        /// How long this client should wait before it connects again.
        reconnect_after: Duration,
    },
    /// A positive answer.
    Reply {
        /// The request it answers.
        to: Option<&'a ClientId>,
        /// For example `command.accepted`.
        name: &'a str,
        /// A JSON object.
        payload: &'a Json,
        /// It was a question: the answer matters also to a client that gave it no name.
        always: bool,
    },
    /// What the client hears from now on of what it wanted to hear.
    Subscribed {
        /// The request it answers.
        to: Option<&'a ClientId>,
        /// What was granted and what was not.
        subscribed: &'a Subscribed,
    },
    /// What the client hears no more, as it wanted.
    Unsubscribed {
        /// The request it answers.
        to: Option<&'a ClientId>,
        /// What, under `granted`.
        subscribed: &'a Subscribed,
    },
    /// The client hears something no more, for it has lost the right.
    Lost {
        /// What.
        interests: &'a [Interest],
    },
    /// Something was done about which there is nothing more to say.
    Done,
    /// A sign of life, for dialects that agreed on some of their own.
    Heartbeat,
    /// A refusal.
    Error {
        /// The request it answers, if any and if its id could be read.
        to: Option<&'a ClientId>,
        /// Code, message, when to try again.
        refusal: &'a Refusal,
    },
}

/// The text of a JSON object, made by this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(Box<str>);

impl Json {
    /// Writes a struct or map as JSON. Anything that serde cannot write, or that is no
    /// object, would be a defect and becomes `{}`.
    pub fn of(value: &impl Serialize) -> Self {
        let text = serde_json::to_string(value).unwrap_or_default();
        debug_assert!(text.starts_with('{'), "a payload is an object");
        Self(if text.starts_with('{') {
            text.into()
        } else {
            "{}".into()
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The payload of `connected`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connected {
    /// The socket's id, also in this node's logs.
    pub session_id: SessionId,
    /// Who the client is.
    pub user_id: UserId,
    /// Which of the user's devices.
    pub device: Device,
    /// The node that holds the socket.
    pub node: NodeId,
    /// What the server expects as signs of life.
    pub heartbeat: Heartbeat,
    /// What the server accepts.
    pub limits: Limits,
    /// Where the user's topic is taken up.
    pub resumed: Resumed,
}

/// The server pings; a client only has to answer, which WebSocket libraries do themselves.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// Milliseconds between pings.
    pub interval_ms: u64,
    /// Silent intervals in a row after which the socket is closed.
    pub max_missed: u32,
}

/// What the server accepts; see "Limits" in the protocol.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Longest frame, in bytes.
    pub frame_bytes: usize,
    /// Longest content of a command, in bytes of UTF-8.
    pub content_bytes: usize,
    /// Frames per second, in the long run.
    pub frames_per_second: u32,
    /// Frames that may come at once.
    pub frames_burst: u32,
    /// Requests that create or change something, per user and second, in the long run.
    pub messages_per_second: u32,
    /// Such requests that may come at once.
    pub messages_burst: u32,
    /// Sockets a user may have at a time.
    pub sessions_per_user: u32,
}

/// Where the user's topic is taken up.
#[derive(Debug, Clone, Copy)]
pub struct Resumed {
    /// Everything up to here was confirmed before, or skipped by `after`.
    pub from: Position,
    /// How many entries follow at once.
    pub replayed: u64,
    /// True if those are all that was missed. False if more may follow, or if `after` is no
    /// position of this log; then `from` is another one.
    pub complete: bool,
}

impl Serialize for Resumed {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut object = to.serialize_struct("Resumed", 5)?;
        object.serialize_field("topic", super::json::topic_of(super::Feed::User))?;
        object.serialize_field("epoch", &self.from.epoch)?;
        object.serialize_field("offset", &self.from.offset)?;
        object.serialize_field("replayed", &self.replayed)?;
        object.serialize_field("complete", &self.complete)?;
        object.end()
    }
}
