//! The declarations as JSON Schemas, draft 2020-12.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Dialect, Direction, Message};

/// What begins the name of a frame's schema, among those of payloads.
const FRAME: &str = "frame ";

/// The schema of everything that goes one way in a dialect. Each frame has one of its own under
/// `$defs`, named by its `type`.
pub fn document(dialect: &Dialect, direction: Direction) -> Value {
    let mut definitions = payloads(dialect.going(direction));
    let mut frames = Vec::new();
    for name in dialect.names(direction) {
        let named = dialect.going(direction).filter(|it| it.name == name);
        let mut forms: Vec<_> = named
            .map(|it| (dialect.envelope)(it, &reference(&payload_name(it))))
            .collect();
        let schema = match forms.len() {
            1 => forms.remove(0),
            _ => json!({"anyOf": forms}),
        };
        definitions.insert(format!("{FRAME}{name}"), schema);
        frames.push(reference(&format!("{FRAME}{name}")));
    }
    // Names that envelopes use, even where no payload does.
    let text = json!(definitions).to_string();
    definitions.extend(
        payloads(super::json::DIALECT.messages.iter())
            .into_iter()
            .filter(|(name, _)| text.contains(&format!("\"#/$defs/{name}\""))),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("Tidegate, {} dialect, {}", dialect.name, direction.name()),
        "anyOf": frames,
        "$defs": definitions,
    })
}

/// The schemas of what is said with these messages, by their names.
pub(super) fn payloads(
    messages: impl Iterator<Item = &'static Message>,
) -> BTreeMap<String, Value> {
    let mut found = Vec::new();
    for message in messages {
        found.push((payload_name(message), (message.shape.schema)()));
        (message.shape.nested)(&mut found);
    }
    found
        .into_iter()
        .map(|(name, schema)| {
            let mut schema = json!(schema);
            settle(&mut schema);
            (name, schema)
        })
        .collect()
}

pub(super) fn payload_name(message: &Message) -> String {
    (message.shape.name)().into_owned()
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

/// From the schemas of an `OpenAPI` document to ones that stand alone. There, a field that may be
/// absent may also be null; on the wire it may not.
fn settle(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get_mut("$ref") {
                *target = target.replace("#/components/schemas/", "#/$defs/");
            }
            // A word of OpenAPI; JSON Schema has "format" for people only, and these say nothing.
            if matches!(fields.get("format"), Some(Value::String(it)) if it.starts_with("int")) {
                fields.remove("format");
            }
            forbid_null(fields);
            fields.values_mut().for_each(settle);
        }
        _ => {}
    }
}

fn forbid_null(object: &mut Map<String, Value>) {
    let required: Vec<_> = match object.get("required") {
        Some(Value::Array(names)) => names.clone(),
        _ => Vec::new(),
    };
    let Some(Value::Object(properties)) = object.get_mut("properties") else {
        return;
    };
    for (name, property) in properties {
        if required.iter().any(|it| it == name) {
            continue;
        }
        let Value::Object(property) = property else {
            continue;
        };
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|it| it != "null");
            if let [one] = &types[..] {
                let one = one.clone();
                property.insert("type".to_owned(), one);
            }
        }
        if let Some(Value::Array(choices)) = property.get_mut("oneOf") {
            choices.retain(|it| it["type"] != "null");
            if let [Value::Object(one)] = &choices[..] {
                let one = one.clone();
                property.remove("oneOf");
                property.extend(one);
            }
        }
    }
}
