//! What a frame says: its command, its headers, its body.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Broken, cut::Parts, escape::unescape, version::Version};

/// What a client may want of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// CONNECT, or STOMP, which means the same.
    Connect,
    Send,
    Subscribe,
    Unsubscribe,
    Ack,
    Nack,
    Begin,
    Commit,
    Abort,
    Disconnect,
}

impl Command {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "CONNECT" | "STOMP" => Self::Connect,
            "SEND" => Self::Send,
            "SUBSCRIBE" => Self::Subscribe,
            "UNSUBSCRIBE" => Self::Unsubscribe,
            "ACK" => Self::Ack,
            "NACK" => Self::Nack,
            "BEGIN" => Self::Begin,
            "COMMIT" => Self::Commit,
            "ABORT" => Self::Abort,
            "DISCONNECT" => Self::Disconnect,
            _ => return None,
        })
    }
}

/// A frame that was received whole.
#[derive(Debug)]
pub(super) struct Received<'a> {
    pub(super) command: Command,
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(super) body: Bytes,
}

impl<'a> Received<'a> {
    /// Understands a frame in the version that was agreed on; `None` before that.
    pub(super) fn read(
        frame: &'a Bytes,
        parts: Parts,
        version: Option<Version>,
    ) -> Result<Self, Broken> {
        let head = std::str::from_utf8(&frame[..parts.body])
            .map_err(|_| Broken::malformed("the head is not UTF-8"))?;
        let mut lines = head
            .split('\n')
            .map(|line| line.strip_suffix('\r').unwrap_or(line));
        let command = lines.next().and_then(Command::of);
        let command = command.ok_or_else(|| Broken::malformed("no such command"))?;
        let escapes = match command {
            // As in 1.0, whatever is agreed on by it.
            Command::Connect => Version::V10,
            _ => version.unwrap_or(Version::V10),
        };
        let mut headers = Vec::new();
        for line in lines.take_while(|line| !line.is_empty()) {
            headers.push(header(line, escapes)?);
        }
        let mut frame = Self {
            command,
            headers,
            body: frame.slice(parts.body..parts.end),
        };
        let is_old = version == Some(Version::V10)
            || command == Command::Connect && frame.header("accept-version").is_none();
        if is_old {
            frame.trim();
        }
        if !frame.body.is_empty() && command != Command::Send {
            return Err(Broken::malformed("only SEND frames have a body"));
        }
        Ok(frame)
    }

    /// Clients of 1.0 put spaces around what headers say; later versions forbid to remove any.
    fn trim(&mut self) {
        for (name, value) in &mut self.headers {
            *name = Cow::Owned(name.trim().to_owned());
            *value = Cow::Owned(value.trim().to_owned());
        }
    }

    /// The first header of a name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(is, _)| is == name)
            .map(|(_, value)| &**value)
    }

    /// A header that the frame cannot be without.
    pub(super) fn required(&self, name: &'static str) -> Result<&str, Broken> {
        self.header(name)
            .ok_or_else(|| Broken::malformed(format!("the header {name} is missing")))
    }
}

fn header(line: &str, version: Version) -> Result<(Cow<'_, str>, Cow<'_, str>), Broken> {
    let Some((name, value)) = line.split_once(':') else {
        return Err(Broken::malformed("a header has no colon"));
    };
    if name.is_empty() {
        return Err(Broken::malformed("a header has no name"));
    }
    if version == Version::V12 && line.contains('\r') {
        return Err(Broken::malformed("a header holds a carriage return"));
    }
    let undefined = |_| Broken::malformed("a header holds an undefined escape");
    Ok((
        unescape(name, version).map_err(undefined)?,
        unescape(value, version).map_err(undefined)?,
    ))
}
