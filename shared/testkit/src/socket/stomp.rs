//! The STOMP dialect, spoken so that a scenario written for the JSON one runs in it: requests go
//! out as SEND frames, and what comes is put into the envelope of the JSON dialect. The frame
//! itself stands beside that, under `stomp`, for tests about the dialect.

use serde_json::{Map, Value, json};

/// The queues that a socket listens to from the start, so that everything comes that comes by
/// itself in the JSON dialect.
const QUEUES: [&str; 5] = ["errors", "acks", "commands", "messages", "notifications"];
/// Begins the receipts of subscriptions.
const SUBSCRIBED: &str = "subscribed/";

/// A frame, its headers escaped as 1.2 wants it.
#[must_use]
pub fn frame(command: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{command}\n");
    for (name, value) in headers {
        text.extend([&escaped(name), ":", &escaped(value), "\n"]);
    }
    text.extend(["\n", body, "\0"]);
    text
}

/// What a socket begins with: CONNECT, and SUBSCRIBE for each of its queues.
pub(super) fn greeting() -> String {
    let mut text = frame(
        "CONNECT",
        &[("accept-version", "1.2"), ("host", "tidegate")],
        "",
    );
    for queue in QUEUES {
        let destination = format!("/user/queue/{queue}");
        let headers = [("id", queue), ("destination", &destination)];
        text.push_str(&frame("SUBSCRIBE", &headers, ""));
    }
    text
}

/// A frame of the JSON dialect as one of this.
///
/// # Panics
/// When there is no such frame here.
pub(super) fn said(value: &Value) -> String {
    let name = value["type"].as_str().expect("a frame has a type");
    let payload = &value["payload"];
    if name == "subscribe" {
        let conversation = payload["filters"]["conversation_id"].as_str();
        let conversation = conversation.expect("only a conversation can be subscribed to");
        let destination = format!("/topic/conversation/{conversation}");
        let receipt = format!("{SUBSCRIBED}{}", value["id"].as_str().unwrap_or_default());
        let headers = [
            ("id", conversation),
            ("destination", &destination),
            ("receipt", &receipt),
        ];
        return frame("SUBSCRIBE", &headers, "");
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
        ("content-length", &length),
    ];
    if let Some(id) = value["id"].as_str() {
        headers.push(("client-id", id));
    }
    frame("SEND", &headers, &body)
}

/// What came, in the envelope of the JSON dialect; `None` for a heart-beat.
pub(super) fn heard(message: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(message);
    let text = text.trim_start_matches(['\r', '\n']);
    let (head, body) = text.split_once("\n\n")?;
    let body = body.strip_suffix('\0').unwrap_or(body);
    let mut lines = head.lines();
    let command = lines.next()?;
    let mut headers = Map::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let name = unescaped(name);
        // The first of repeated headers counts.
        headers
            .entry(name)
            .or_insert_with(|| unescaped(value).into());
    }
    let mut envelope = envelope(command, &headers, body);
    envelope["stomp"] = json!({"command": command, "headers": headers, "body": body});
    Some(envelope)
}

fn envelope(command: &str, headers: &Map<String, Value>, body: &str) -> Value {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    match command {
        "CONNECTED" => {
            let payload = json!({
                "userId": header("user-name"),
                "sessionId": header("session"),
                "device": header("device"),
            });
            json!({"type": "connected", "payload": payload})
        }
        "RECEIPT" => match header("receipt-id").strip_prefix(SUBSCRIBED) {
            Some(id) => subscribed(id, &json!([])),
            None => json!({"type": "receipt", "payload": {"id": header("receipt-id")}}),
        },
        "ERROR" => {
            let (code, message) = (header("code"), header("message"));
            json!({"type": "error", "payload": {"code": code, "message": message}})
        }
        "MESSAGE" => message(headers, body),
        _ => json!({"type": "not stomp", "payload": {}}),
    }
}

/// The answer to `subscribe`.
fn subscribed(to: &str, refused: &Value) -> Value {
    let topics = if *refused == json!([]) {
        json!(["conversation"])
    } else {
        json!([])
    };
    json!({"type": "subscribed", "replyTo": to, "payload": {"topics": topics, "refused": refused}})
}

fn message(headers: &Map<String, Value>, body: &str) -> Value {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if let Some(id) = header("receipt-id").strip_prefix(SUBSCRIBED) {
        let code = header("code");
        return subscribed(id, &json!([{"topic": "conversation", "code": code}]));
    }
    if header("type") == "unsubscribed" {
        let filters = json!({"conversation_id": header("unsubscribed")});
        let payload = json!({"topics": ["conversation"], "filters": filters});
        return json!({"type": "unsubscribed", "payload": payload});
    }
    let mut payload: Value = serde_json::from_str(body).unwrap_or_default();
    let name = match header("type") {
        "chat.ack" => "chat.accepted",
        name => name,
    };
    if name == "message.new" {
        payload["messageId"] = payload["id"].take();
    }
    let mut envelope = json!({"type": name, "payload": payload});
    if headers.contains_key("reply-to") {
        envelope["replyTo"] = header("reply-to").into();
    }
    let place = header("message-id").rsplit_once('@');
    if let Some((place, position)) = place
        && let Some((epoch, offset)) = position.split_once('-')
    {
        let topic = match place {
            "commands" | "messages" | "notifications" => "user",
            "broadcast" => "broadcast",
            _ => "conversation",
        };
        envelope["topic"] = topic.into();
        envelope["epoch"] = epoch.parse::<u64>().unwrap_or_default().into();
        envelope["offset"] = offset.parse::<u64>().unwrap_or_default().into();
    }
    envelope
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
        .replace(':', "\\c")
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('c') => ':',
                Some(other) => other,
                None => '\\',
            },
            character => character,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_the_envelope_of_the_other_dialect() {
        let text = frame(
            "MESSAGE",
            &[
                ("message-id", "commands@7-42"),
                ("type", "command.new"),
                ("x:", "a\nb"),
            ],
            r#"{"content":"hi"}"#,
        );
        let frame = heard(text.as_bytes()).unwrap();
        assert_eq!(frame["type"], "command.new");
        assert_eq!(frame["topic"], "user");
        assert_eq!((&frame["epoch"], &frame["offset"]), (&json!(7), &json!(42)));
        assert_eq!(frame["payload"], json!({"content": "hi"}));
        assert_eq!(frame["stomp"]["headers"]["x:"], "a\nb");
        assert_eq!(heard(b"\n"), None);
    }
}
