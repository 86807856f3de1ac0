//! The declarations as an `AsyncAPI` 3 document.

use serde_json::{Map, Value, json};

use super::{
    DIALECTS, Dialect, Direction, Form, Message,
    schema::{payload_name, payloads},
};

/// The document. A channel is the socket in one dialect; what clients say is received, what they
/// hear is sent.
pub fn document() -> Value {
    let all = DIALECTS.iter().flat_map(|dialect| dialect.messages);
    let mut schemas = json!(payloads(all));
    settle_references(&mut schemas);
    let (mut channels, mut operations) = (Map::new(), Map::new());
    let mut messages = Map::new();
    for dialect in DIALECTS {
        channels.insert(dialect.name.to_owned(), channel(dialect));
        for message in dialect.messages {
            messages.insert(key(dialect, message), described(dialect, message));
        }
        add_operations(dialect, &mut operations);
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tidegate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What is said on a socket, by dialect. REST is described by /api/v1/openapi.json.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": schemas, "messages": messages},
    })
}

fn channel(dialect: &Dialect) -> Value {
    let names = dialect.messages.iter().map(|it| key(dialect, it));
    let references = names.map(|key| {
        let reference = json!({"$ref": format!("#/components/messages/{key}")});
        (key, reference)
    });
    json!({
        "address": "/api/ws",
        "title": format!("{} dialect", dialect.name),
        "description": format!("{} Subprotocol `{}`.", dialect.summary, dialect.subprotocol),
        "messages": references.collect::<Map<_, _>>(),
        "bindings": {"ws": {
            "method": "GET",
            "query": {"type": "object", "properties": {
                "device": {"type": "string", "maxLength": 64},
                "after": {"type": "string", "description": "Resume behind this position of the user's log: `<epoch>:<offset>`."},
                "ack": {"type": "string", "enum": ["auto", "client"]},
                "protocol": {"type": "string", "const": dialect.name},
            }},
            "bindingVersion": "0.1.0",
        }},
    })
}

/// Unique in the document: one name may be an entry and an answer, too.
fn key(dialect: &Dialect, message: &Message) -> String {
    let form = match message.form {
        Form::Request { .. } => "request",
        Form::Answer => "answer",
        Form::Entry => "entry",
        Form::Live => "live",
    };
    format!("{}.{form}.{}", dialect.name, message.name)
}

fn described(dialect: &Dialect, message: &Message) -> Value {
    let reference = json!({"$ref": format!("#/components/schemas/{}", payload_name(message))});
    let mut payload = (dialect.envelope)(message, &reference);
    settle_references(&mut payload);
    json!({"name": message.name, "contentType": dialect.content_type, "payload": payload})
}

fn add_operations(dialect: &Dialect, operations: &mut Map<String, Value>) {
    let channel = json!({"$ref": format!("#/channels/{}", dialect.name)});
    let reference = |it: &Message| {
        let key = key(dialect, it);
        json!({"$ref": format!("#/channels/{}/messages/{key}", dialect.name)})
    };
    for message in dialect.going(Direction::ToServer) {
        let mut operation = json!({
            "action": "receive", "channel": channel, "messages": [reference(message)],
        });
        if let Form::Request { answer: Some(name) } = message.form {
            let answers = dialect.going(Direction::ToClient);
            let answers = answers
                .filter(|it| it.form == Form::Answer && (it.name == name || it.name == "error"));
            let answers: Vec<_> = answers.map(reference).collect();
            operation["reply"] = json!({"channel": channel, "messages": answers});
        }
        operations.insert(format!("{}.{}", dialect.name, message.name), operation);
    }
    let told = dialect.going(Direction::ToClient);
    let told: Vec<_> = told
        .filter(|it| it.form != Form::Answer)
        .map(reference)
        .collect();
    operations.insert(
        format!("{}.tell", dialect.name),
        json!({"action": "send", "channel": channel, "messages": told}),
    );
}

fn settle_references(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(settle_references),
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get_mut("$ref") {
                *target = target.replace("#/$defs/", "#/components/schemas/");
            }
            fields.values_mut().for_each(settle_references);
        }
        _ => {}
    }
}
