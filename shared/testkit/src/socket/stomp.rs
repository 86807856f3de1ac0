//! The STOMP dialect, spoken so that a scenario written for the JSON dialect runs in it, too:
//! requests go out as SEND frames, and what comes is put into the envelope of the JSON dialect.
//! The frame itself stands beside that, under `stomp`, for tests about the dialect.

use serde_json::{Map, Value, json};

/// The queues that hold all that comes by itself in the JSON dialect, and what answers requests.
/// Refusals come first, so that none that belongs to another queue is missed.
pub const QUEUES: &[&str] = &[
    "errors",
    "acks",
    "messages",
    "commands",
    "notifications",
    "calls",
];
/// Begins the receipts of subscriptions that a scenario asked for.
const SUBSCRIBED: &str = "subscribed/";
/// The receipt of the last queue that a socket begins with.
const ALL_QUEUES: &str = "queues";

/// A frame as version 1.2 writes it.
#[must_use]
pub fn frame(command: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    // CONNECT is escaped in no version.
    let written = |text: &str| match command {
        "CONNECT" => text.to_owned(),
        _ => escaped(text),
    };
    let mut bytes = format!("{command}\n").into_bytes();
    for (name, value) in headers {
        let line = format!("{}:{}\n", written(name), written(value));
        bytes.extend(line.into_bytes());
    }
    bytes.push(b'\n');
    bytes.extend(body);
    bytes.push(0);
    bytes
}

/// What a socket begins with: CONNECT, and SUBSCRIBE for each queue; the last with a receipt if it
/// is to be known when all are heard.
pub(super) fn greeting(
    connect: &[(String, String)],
    queues: &[&str],
    is_confirmed: bool,
) -> Vec<u8> {
    let mut headers = vec![("accept-version", "1.2"), ("host", "tidegate")];
    headers.extend(connect.iter().map(|(name, value)| (&**name, &**value)));
    let mut bytes = frame("CONNECT", &headers, b"");
    for queue in queues {
        let destination = format!("/user/queue/{queue}");
        let mut headers = vec![("id", *queue), ("destination", &*destination)];
        if is_confirmed && queues.last() == Some(queue) {
            headers.push(("receipt", ALL_QUEUES));
        }
        bytes.extend(frame("SUBSCRIBE", &headers, b""));
    }
    bytes
}

/// Whether a frame says that all queues are heard.
pub(crate) fn is_subscribed(frame: &Value) -> bool {
    frame["type"] == "receipt" && frame["payload"]["id"] == ALL_QUEUES
}

/// A frame of the JSON dialect as one of this.
///
/// # Panics
/// When this dialect has no such frame.
pub(super) fn said(value: &Value) -> Vec<u8> {
    let name = value["type"].as_str().expect("a frame has a type");
    let id = value["id"].as_str();
    let payload = &value["payload"];
    if name == "subscribe" {
        let filters = &payload["filters"];
        let place = |filter: &str| filters[filter].as_str();
        let (place, name) = place("user_id")
            .map(|user| ("presence", user))
            .or_else(|| Some(("conversation", place("conversation_id")?)))
            .expect("a conversation, or a user");
        let destination = format!("/topic/{place}/{name}");
        let receipt = format!("{SUBSCRIBED}{}", id.unwrap_or_default());
        let headers = [
            ("id", name),
            ("destination", &*destination),
            ("receipt", &*receipt),
        ];
        return frame("SUBSCRIBE", &headers, b"");
    }
    assert!(
        !["unsubscribe", "ack"].contains(&name),
        "{name}: write the frame itself"
    );
    let destination = format!("/app/{name}");
    let body = match payload {
        Value::Null => String::new(),
        payload => payload.to_string(),
    };
    let length = body.len().to_string();
    let mut headers = vec![
        ("destination", &*destination),
        ("content-type", "application/json"),
        ("content-length", &*length),
    ];
    headers.extend(id.map(|id| ("client-id", id)));
    frame("SEND", &headers, body.as_bytes())
}

/// The frames of a WebSocket message, in the envelope of the JSON dialect. A heart-beat is none.
pub(super) fn heard(message: &[u8]) -> Vec<Value> {
    let mut frames = Vec::new();
    let mut rest = message;
    loop {
        while let [b'\r' | b'\n', behind @ ..] = rest {
            rest = behind;
        }
        if rest.is_empty() {
            return frames;
        }
        let Some((frame, behind)) = cut(rest) else {
            let text = String::from_utf8_lossy(rest);
            frames.push(json!({"type": "not stomp", "payload": text}));
            return frames;
        };
        frames.push(frame);
        rest = behind;
    }
}

/// The first frame and what is behind it.
fn cut(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let head_end = bytes.windows(2).position(|two| two == b"\n\n")?;
    let head = std::str::from_utf8(&bytes[..head_end]).ok()?;
    let body = &bytes[head_end + 2..];
    let mut lines = head.split('\n');
    let command = lines.next()?;
    let mut headers = Map::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let [name, value] = match command {
            "CONNECTED" => [name, value].map(str::to_owned),
            _ => [unescaped(name)?, unescaped(value)?],
        };
        // The first of repeated headers counts.
        headers.entry(name).or_insert(Value::String(value));
    }
    let length = match headers.get("content-length") {
        Some(length) => length.as_str()?.parse().ok()?,
        None => body.iter().position(|byte| *byte == 0)?,
    };
    let behind = body.get(length..)?.strip_prefix(b"\0")?;
    let headers = Headers(headers);
    let mut envelope = headers.envelope(command, &body[..length]);
    envelope["stomp"] = json!({"command": command, "headers": headers.0});
    if command == "MESSAGE" {
        let body = serde_json::from_slice(&body[..length]);
        envelope["stomp"]["body"] = body.unwrap_or(Value::Null);
    }
    Some((envelope, behind))
}

struct Headers(Map<String, Value>);

impl Headers {
    /// The value of a header; empty if there is none.
    fn get(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn envelope(&self, command: &str, body: &[u8]) -> Value {
        match command {
            "CONNECTED" => {
                let payload = json!({
                    "userId": self.get("user-name"),
                    "sessionId": self.get("session"),
                    "device": self.get("device"),
                });
                json!({"type": "connected", "payload": payload})
            }
            "RECEIPT" => match self.get("receipt-id").strip_prefix(SUBSCRIBED) {
                Some(id) => {
                    json!({"type": "subscribed", "replyTo": id, "payload": {"refused": []}})
                }
                None => json!({"type": "receipt", "payload": {"id": self.get("receipt-id")}}),
            },
            "ERROR" => {
                let payload = json!({"code": self.get("code"), "message": self.get("message")});
                json!({"type": "error", "payload": payload})
            }
            "MESSAGE" => self.message(body),
            _ => json!({"type": "not stomp", "payload": command}),
        }
    }

    fn message(&self, body: &[u8]) -> Value {
        let name = self.get("type");
        let mut payload: Value =
            serde_json::from_slice(body).unwrap_or_else(|_| json!(String::from_utf8_lossy(body)));
        if name == "message.new"
            && let Some(fields) = payload.as_object_mut()
            && let Some(id) = fields.remove("id")
        {
            fields.insert("messageId".to_owned(), id);
        }
        let mut envelope = json!({"type": name, "payload": payload});
        // A subscription has no name of a request; its receipt is one.
        let refused = self.get("receipt-id").strip_prefix(SUBSCRIBED);
        if let Some(id) = refused.or(Some(self.get("reply-to")).filter(|id| !id.is_empty())) {
            envelope["replyTo"] = id.into();
        }
        if let Some((log, position)) = self.get("message-id").rsplit_once('@')
            && let Some((epoch, offset)) = position.split_once('-')
        {
            let number = |text: &str| text.parse::<u64>().map_or(Value::Null, Value::from);
            envelope["topic"] = match log {
                "commands" | "messages" | "notifications" => "user",
                "broadcast" => "broadcast",
                _ => "conversation",
            }
            .into();
            envelope["epoch"] = number(epoch);
            envelope["offset"] = number(offset);
        }
        envelope
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\r', "\\r")
        .replace('\n', "\\n")
        .replace(':', "\\c")
}

/// The text that was escaped; `None` for what is no escape.
fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next()? {
                'r' => '\r',
                'n' => '\n',
                'c' => ':',
                '\\' => '\\',
                _ => return None,
            },
            character => character,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, name: &str, body: &str) -> Vec<u8> {
        let length = body.len().to_string();
        let headers = [
            ("message-id", id),
            ("type", name),
            ("x:", "a\nb\\"),
            ("content-length", &length),
        ];
        frame("MESSAGE", &headers, body.as_bytes())
    }

    #[test]
    fn messages_come_in_the_envelope_of_the_other_dialect() {
        let mut bytes = message("commands@7-42", "command.new", r#"{"content":"a\u0000b"}"#);
        bytes.extend(b"\n\n");
        bytes.extend(message("messages@7-43", "message.new", r#"{"id":"m"}"#));
        let frames = heard(&bytes);
        let [command, said] = &frames[..] else {
            panic!("{frames:?}")
        };
        assert_eq!(command["type"], "command.new");
        assert_eq!(command["topic"], "user");
        assert_eq!([&command["epoch"], &command["offset"]], [7, 42]);
        assert_eq!(command["payload"], json!({"content": "a\u{0}b"}));
        assert_eq!(command["stomp"]["headers"]["x:"], "a\nb\\");
        assert_eq!(said["payload"], json!({"messageId": "m"}));
        assert_eq!(heard(b"\n"), Vec::<Value>::new());
    }

    #[test]
    fn what_is_no_frame_is_shown_as_such() {
        for bytes in [
            &b"MESSAGE"[..],
            b"MESSAGE\n\nno end",
            b"MESSAGE\ncontent-length:9\n\nshort\0",
            b"MESSAGE\nbad:\\x\n\n\0",
        ] {
            assert_eq!(heard(bytes)[0]["type"], "not stomp", "{bytes:?}");
        }
    }
}
