//! What stands on the wire, declared once: every message of every dialect, with its shape.
//!
//! The types in here are descriptions; encoders write the same by hand where that is faster, and
//! tests hold every frame they write to its description. From the tables come the JSON Schemas
//! and the TypeScript types of `client/`, the `AsyncAPI` document, and the tables of
//! docs/PROTOCOL.md; `make docs` writes them again.
//!
//! Another message is a line in the table of its dialect: [`json`], [`stomp`] or [`events`]. A
//! frame that no line covers makes every test fail that sees it.

mod asyncapi;
mod events;
mod json;
mod markdown;
mod payloads;
mod schema;
mod stomp;
#[cfg(test)]
mod tests;
mod typescript;

use std::borrow::Cow;

use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

pub use asyncapi::document as asyncapi;
pub use markdown::table as markdown;
pub use schema::document as schema;
pub use typescript::declarations as typescript;

/// All dialects whose messages are declared.
pub static DIALECTS: [&Dialect; 3] = [&json::DIALECT, &stomp::DIALECT, &events::DIALECT];

/// The messages of a dialect.
pub struct Dialect {
    /// As in `?protocol=`.
    pub name: &'static str,
    /// What it is made for.
    summary: &'static str,
    /// The value of `Sec-WebSocket-Protocol` by which it is asked for.
    subprotocol: &'static str,
    /// The media type of a frame.
    content_type: &'static str,
    /// The schema of a frame, around that of its payload.
    envelope: fn(&Message, &Value) -> Value,
    /// One line for each message.
    messages: &'static [Message],
}

impl Dialect {
    /// The messages that go one way.
    fn going(&self, direction: Direction) -> impl Iterator<Item = &'static Message> + use<> {
        self.messages
            .iter()
            .filter(move |message| message.direction() == direction)
    }

    /// The names of the messages that go one way, in the order of the table, each once.
    fn names(&self, direction: Direction) -> Vec<&'static str> {
        let mut names = Vec::new();
        for message in self.going(direction) {
            if !names.contains(&message.name) {
                names.push(message.name);
            }
        }
        names
    }
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A client says it.
    ToServer,
    /// A client hears it.
    ToClient,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ToServer, Self::ToClient];

    /// The name in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::ToServer => "to-server",
            Self::ToClient => "to-client",
        }
    }
}

/// One thing that is said in a dialect.
pub struct Message {
    /// Its `type`.
    name: &'static str,
    form: Form,
    shape: Shape,
    /// What it does, where its shape is that of several.
    about: Option<&'static str>,
}

impl Message {
    /// Says what it does.
    const fn about(mut self, text: &'static str) -> Self {
        self.about = Some(text);
        self
    }

    fn direction(&self) -> Direction {
        match self.form {
            Form::Request { .. } => Direction::ToServer,
            Form::Answer | Form::Entry | Form::Live => Direction::ToClient,
        }
    }
}

/// What a message is, which decides about its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A client asks; what answers it if it goes well.
    Request { answer: Option<&'static str> },
    /// What a client gets for a request.
    Answer,
    /// Of a log: durable, with a place there.
    Entry,
    /// Told once and kept nowhere.
    Live,
}

/// What is said with a message.
struct Shape {
    name: fn() -> Cow<'static, str>,
    schema: fn() -> RefOr<Schema>,
    nested: fn(&mut Vec<(String, RefOr<Schema>)>),
}

impl Shape {
    const fn of<T: ToSchema>() -> Self {
        Self {
            name: T::name,
            schema: T::schema,
            nested: T::schemas,
        }
    }
}

const fn message<T: ToSchema>(name: &'static str, form: Form) -> Message {
    Message {
        name,
        form,
        shape: Shape::of::<T>(),
        about: None,
    }
}

/// A request, and the name of what answers it.
const fn request<T: ToSchema>(name: &'static str, answer: &'static str) -> Message {
    let answer = Some(answer);
    message::<T>(name, Form::Request { answer })
}

/// Something a client says that is not answered.
const fn said<T: ToSchema>(name: &'static str) -> Message {
    message::<T>(name, Form::Request { answer: None })
}

/// The answer to a request.
const fn answer<T: ToSchema>(name: &'static str) -> Message {
    message::<T>(name, Form::Answer)
}

/// An entry of a log.
const fn entry<T: ToSchema>(name: &'static str) -> Message {
    message::<T>(name, Form::Entry)
}

/// Something that is told once.
const fn live<T: ToSchema>(name: &'static str) -> Message {
    message::<T>(name, Form::Live)
}
