//! Holds frames to the contracts: the JSON Schemas of `client/schemas`, which are rendered from
//! the gateway's declarations.
//!
//! Stricter than clients should be: a field that the server writes and that is not declared is a
//! mistake here, so that what is written and what is declared cannot part. What clients write in
//! addition is ignored, here as there.

use std::{collections::HashMap, sync::LazyLock};

use jsonschema::Validator;
use serde_json::{Value, json};

/// The contracts that a frame may be held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Contract {
    /// What clients of the JSON dialect say.
    JsonToServer,
    /// What they hear.
    JsonToClient,
    /// Bodies of SEND frames, by what stands behind `/app/`.
    StompToServer,
    /// Bodies of MESSAGE frames, by their header `type`.
    StompToClient,
    /// What clients of the events dialect say.
    EventsToServer,
    /// What they hear.
    EventsToClient,
}

impl Contract {
    const ALL: [Self; 6] = [
        Self::JsonToServer,
        Self::JsonToClient,
        Self::StompToServer,
        Self::StompToClient,
        Self::EventsToServer,
        Self::EventsToClient,
    ];

    fn text(self) -> &'static str {
        macro_rules! schema {
            ($file:literal) => {
                include_str!(concat!("../../../client/schemas/", $file, ".json"))
            };
        }
        match self {
            Self::JsonToServer => schema!("json.to-server"),
            Self::JsonToClient => schema!("json.to-client"),
            Self::StompToServer => schema!("stomp.to-server"),
            Self::StompToClient => schema!("stomp.to-client"),
            Self::EventsToServer => schema!("events.to-server"),
            Self::EventsToClient => schema!("events.to-client"),
        }
    }

    fn is_heard(self) -> bool {
        matches!(
            self,
            Self::JsonToClient | Self::StompToClient | Self::EventsToClient
        )
    }

    /// Holds a frame of this type to its schema; the error says what is wrong.
    pub fn check(self, name: &str, frame: &Value) -> Result<(), String> {
        let Some(validator) = VALIDATORS[&self].get(name) else {
            return Err(format!("no contract has a message `{name}`: {frame}"));
        };
        validator
            .validate(frame)
            .map_err(|error| format!("`{name}`: {error} at {}: {frame}", error.instance_path()))
    }

    /// The names of all messages.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        VALIDATORS[&self].keys().map(String::as_str)
    }
}

/// One for each message, made once for all tests of a process.
static VALIDATORS: LazyLock<HashMap<Contract, HashMap<String, Validator>>> = LazyLock::new(|| {
    let of = |contract: Contract| (contract, validators(contract));
    Contract::ALL.into_iter().map(of).collect()
});

fn validators(contract: Contract) -> HashMap<String, Validator> {
    let mut schema: Value = serde_json::from_str(contract.text()).expect("a schema is JSON");
    if contract.is_heard() {
        close(&mut schema);
    }
    let definitions = &schema["$defs"];
    let names = definitions.as_object().expect("a schema has definitions");
    names
        .keys()
        .filter_map(|key| key.strip_prefix("frame "))
        .map(|name| {
            let one = json!({
                "$schema": schema["$schema"],
                "$ref": format!("#/$defs/frame {name}").replace(' ', "%20"),
                "$defs": definitions,
            });
            let validator = jsonschema::options()
                .should_validate_formats(true)
                .build(&one)
                .unwrap_or_else(|error| panic!("schema of {name}: {error}"));
            (name.to_owned(), validator)
        })
        .collect()
}

/// Allows no fields but those declared.
fn close(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Object(fields) => {
            fields.values_mut().for_each(close);
            let is_object = fields.get("type").is_some_and(|kind| kind == "object");
            if is_object {
                fields.insert("additionalProperties".to_owned(), false.into());
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
    const AT: &str = "2025-11-21T06:31:28.042Z";

    fn good() -> Vec<(Contract, Value)> {
        let command = json!({
            "commandId": ID, "createdAt": AT, "commandType": "task", "content": "x", "senderId": ID,
            "senderName": "ann", "broadcast": "user", "recipientId": ID, "categories": ["a"],
            "files": [{"hash": "h", "filename": "f"}], "expiresAt": AT, "data": {"any": [1, null]},
        });
        let entry = |name: &str, payload: Value| json!({"type": name, "id": ID, "topic": "user", "epoch": 1, "offset": 2, "payload": payload});
        let message = json!({
            "messageId": ID, "createdAt": AT, "conversationId": ID, "senderId": ID, "senderName": "",
            "senderType": "SYSTEM", "content": "", "messageType": "SYSTEM", "files": [],
            "change": {"what": "muted", "userId": ID, "until": null},
        });
        vec![
            (Contract::JsonToClient, entry("command.new", command)),
            (Contract::JsonToClient, entry("message.new", message)),
            (
                Contract::JsonToClient,
                json!({"type": "error", "replyTo": "1", "payload": {"code": "not_found", "message": "m"}}),
            ),
            (
                Contract::JsonToClient,
                json!({"type": "subscribed", "payload": {
                    "topics": ["user"], "filters": {}, "refused": [{"topic": "t", "code": "forbidden"}],
                }}),
            ),
            (
                Contract::JsonToServer,
                json!({"type": "chat.message", "id": "1", "payload": {"conversationId": ID, "message": "m"}}),
            ),
            (
                Contract::EventsToClient,
                json!({"type": "server.presence.batch", "ts": 1, "data": {
                    "users": [{"userId": ID, "status": "away"}],
                }}),
            ),
        ]
    }

    fn check(contract: Contract, frame: &Value) -> Result<(), String> {
        contract.check(frame["type"].as_str().unwrap_or_default(), frame)
    }

    #[test]
    fn frames_that_keep_the_contract_are_taken() {
        for (contract, frame) in good() {
            assert_eq!(check(contract, &frame), Ok(()));
        }
    }

    /// Every place in a value, by its JSON pointer.
    fn places(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            // What the client itself put there may be anything.
            Value::Object(_) if at.ends_with("/data/any") || at == "/payload/data" => {}
            Value::Object(fields) => {
                for (key, value) in fields {
                    places(value, &format!("{at}/{key}"), found);
                }
            }
            Value::Array(items) => {
                for (n, value) in items.iter().enumerate() {
                    places(value, &format!("{at}/{n}"), found);
                }
            }
            _ => {}
        }
    }

    /// What those frames may do without, by their numbers.
    const OPTIONAL: [(usize, &str); 9] = [
        (0, "/payload/recipientId"),
        (0, "/payload/data"),
        (0, "/payload/data/any"),
        (1, "/payload/change"),
        (2, "/replyTo"),
        (4, "/id"),
        // Of a request without required fields; an empty one is then found out by the server.
        (4, "/payload"),
        (4, "/payload/conversationId"),
        (5, "/id"),
    ];

    #[test]
    fn mutated_frames_are_refused() {
        let mut mutants = 0;
        for (n, (contract, frame)) in good().into_iter().enumerate() {
            let mut found = Vec::new();
            places(&frame, "", &mut found);
            for place in found.iter().filter(|place| !place.is_empty()) {
                let (parent, key) = place.rsplit_once('/').unwrap();
                let anything = place == "/payload/data";
                // Another type.
                let mut mutant = frame.clone();
                let there = mutant.pointer_mut(place).unwrap();
                *there = match there {
                    Value::Bool(_) => json!(7),
                    _ => json!(true),
                };
                if !anything {
                    assert!(check(contract, &mutant).is_err(), "{place}: {mutant}");
                    mutants += 1;
                }
                // Missing.
                let mut mutant = frame.clone();
                if let Some(fields) = mutant.pointer_mut(parent).and_then(Value::as_object_mut)
                    && !OPTIONAL.contains(&(n, place))
                {
                    fields.remove(key);
                    assert!(check(contract, &mutant).is_err(), "{place}: {mutant}");
                    mutants += 1;
                }
            }
            // One too many.
            let mut mutant = frame.clone();
            mutant["surplus"] = json!(1);
            let is_taken = check(contract, &mutant).is_ok();
            assert_eq!(is_taken, !contract.is_heard(), "{mutant}");
        }
        assert!(mutants > 100, "{mutants}");
    }

    #[test]
    fn words_that_no_enumeration_has_are_refused() {
        for (contract, frame, place) in [
            (0, "/payload/commandType"),
            (0, "/payload/broadcast"),
            (0, "/topic"),
            (0, "/type"),
            (0, "/payload/commandId"),
            (0, "/payload/createdAt"),
            (1, "/payload/senderType"),
            (1, "/payload/change/what"),
            (2, "/payload/code"),
            (5, "/data/users/0/status"),
        ]
        .map(|(n, place)| {
            let (contract, frame) = good().remove(n);
            (contract, frame, place)
        }) {
            let name = frame["type"].as_str().unwrap().to_owned();
            let mut mutant = frame;
            *mutant.pointer_mut(place).unwrap() = json!("unheard-of");
            assert!(contract.check(&name, &mutant).is_err(), "{place}: {mutant}");
        }
    }

    #[test]
    fn a_message_without_a_contract_is_refused() {
        let frame = json!({"type": "unheard.of", "payload": {}});
        assert!(check(Contract::JsonToClient, &frame).is_err());
    }
}
