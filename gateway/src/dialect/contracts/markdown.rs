//! The declarations as tables of docs/PROTOCOL.md.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

use super::{
    Dialect, Direction, Form, Message,
    schema::{payload_name, payloads},
    typescript::fields,
};

/// Words of an enumeration that are shown where it is used.
const FEW_WORDS: usize = 4;

/// What goes one way in a dialect.
pub fn table(dialect: &Dialect, direction: Direction) -> String {
    let shapes = payloads(dialect.messages.iter());
    let mut out = match direction {
        Direction::ToServer => "| type | payload | answer | what |\n| --- | --- | --- | --- |\n",
        Direction::ToClient => "| type | payload | what |\n| --- | --- | --- |\n",
    }
    .to_owned();
    for message in dialect.going(direction) {
        let schema = &shapes[&payload_name(message)];
        let (name, payload) = (message.name, in_short(schema, &shapes).replace('|', "\\|"));
        let what = what(message, schema);
        let _ = match message.form {
            Form::Request { answer } => {
                let answer = answer.map_or("–".to_owned(), |name| format!("`{name}`"));
                writeln!(out, "| `{name}` | `{payload}` | {answer} | {what} |")
            }
            Form::Answer | Form::Entry | Form::Live => {
                writeln!(out, "| `{name}` | `{payload}` | {what} |")
            }
        };
    }
    out
}

fn what(message: &Message, schema: &Value) -> String {
    let text = message.about.or(schema["description"].as_str());
    let text = text.unwrap_or_default();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match message.form {
        Form::Answer => format!("answer. {text}"),
        Form::Entry => format!("entry of a log. {text}"),
        Form::Live | Form::Request { .. } => text,
    }
}

/// `{name, other?, few: a|b, list: [..]}`.
fn in_short(schema: &Value, shapes: &BTreeMap<String, Value>) -> String {
    if let Some(choices) = schema["oneOf"].as_array() {
        let choices: Vec<_> = choices.iter().map(|it| in_short(it, shapes)).collect();
        return choices.join(" or ");
    }
    let Some(properties) = schema["properties"].as_object() else {
        return "{}".to_owned();
    };
    let fields: Vec<_> = fields(schema)
        .into_iter()
        .map(|(name, mark)| format!("{name}{mark}{}", detail(&properties[name], shapes)))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

/// What is said of a field beside its name.
fn detail(property: &Value, shapes: &BTreeMap<String, Value>) -> String {
    let target = |schema: &Value| {
        let name = schema["$ref"].as_str()?.rsplit('/').next()?.to_owned();
        shapes.get(&name).cloned()
    };
    if property["type"] == "array" {
        let item = target(&property["items"]).filter(|item| item["properties"].is_object());
        return match item {
            Some(item)
                if item["properties"]
                    .as_object()
                    .is_some_and(|it| it.len() <= FEW_WORDS) =>
            {
                format!(": [{}]", in_short(&item, shapes))
            }
            _ => ": []".to_owned(),
        };
    }
    let schema = target(property).unwrap_or_else(|| property.clone());
    match schema["enum"].as_array() {
        Some(words) if words.len() <= FEW_WORDS => {
            let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
            format!(": {}", words.join("|"))
        }
        _ if schema["properties"].is_object() => format!(": {}", in_short(&schema, shapes)),
        _ => String::new(),
    }
}
