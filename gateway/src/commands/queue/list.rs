//! The answer, written as it grows.

use std::fmt::Write as _;

use serde_json::value::RawValue;
use shared::domain::{CommandState, MessageId, Timestamp};

use super::cursor::Cursor;
use crate::dialect::Json;

/// An answer ends at the first command beyond this many bytes.
const MAX_BYTES: usize = 512 * 1024;

/// Commands as they are stored: their bodies are spliced in.
pub(super) struct List {
    json: String,
    count: u32,
    pub(super) next: Option<Cursor>,
}

impl List {
    pub(super) fn new() -> Self {
        Self {
            json: String::from("["),
            count: 0,
            next: None,
        }
    }

    pub(super) fn is_full(&self, limit: u32) -> bool {
        self.count >= limit || self.json.len() > MAX_BYTES
    }

    pub(super) fn push(&mut self, id: MessageId, at: Timestamp, state: CommandState, body: &[u8]) {
        // Stored bodies are objects of this server's making.
        let Some(fields) = std::str::from_utf8(body)
            .ok()
            .and_then(|text| text.strip_prefix('{'))
        else {
            tracing::error!(%id, "unreadable command");
            return;
        };
        let comma = if self.count == 0 { "" } else { "," };
        let separator = if fields.starts_with('}') { "" } else { "," };
        let _ = write!(
            self.json,
            r#"{comma}{{"commandId":"{id}","createdAt":"{at}","status":"{state}"{separator}{fields}"#,
        );
        self.count += 1;
    }

    pub(super) fn finish(mut self) -> Json {
        #[derive(serde::Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            commands: Box<RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            next_cursor: Option<String>,
        }
        self.json.push(']');
        let commands = RawValue::from_string(self.json).unwrap_or_else(|error| {
            tracing::error!(%error, "a stored command is not JSON");
            RawValue::from_string("[]".to_owned()).expect("an empty array is JSON")
        });
        let next_cursor = self.next.map(|cursor| cursor.to_string());
        Json::of(&Answer {
            commands,
            next_cursor,
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_list_is_one_json_object() {
        let mut list = List::new();
        let id = MessageId(Uuid::from_u128(1));
        list.push(
            id,
            Timestamp(0),
            CommandState::Pending,
            br#"{"content":"a\"b"}"#,
        );
        list.push(id, Timestamp(1), CommandState::Delivered, b"{}");
        list.next = Some(Cursor::Before(id));
        let json: serde_json::Value = serde_json::from_str(list.finish().as_str()).unwrap();
        assert_eq!(json["commands"][0]["content"], "a\"b");
        assert_eq!(json["commands"][0]["createdAt"], "1970-01-01T00:00:00.000Z");
        assert_eq!(json["commands"][1]["status"], "delivered");
        assert_eq!(json["nextCursor"], format!("r{id}"));
    }
}
