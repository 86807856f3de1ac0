//! The declarations as TypeScript.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

use super::{
    DIALECTS, Dialect, Form, Message,
    schema::{payload_name, payloads},
};

const HEAD: &str =
    "// Rendered from gateway/src/dialect/contracts by `make docs`; not written by hand.

/** A frame that answers a request. */
export interface Answer<T extends string, P> {
  type: T;
  /** The `id` of the request. */
  replyTo?: string;
  payload: P;
}

/** A frame of a log: it has a place there, and comes again until it is confirmed. */
export interface Entry<T extends string, P> {
  type: T;
  /** By which duplicates are recognised. */
  id: string;
  topic: Topic;
  epoch: number;
  offset: number;
  payload: P;
}

/** A frame that is told once. */
export interface Live<T extends string, P> {
  type: T;
  payload: P;
}

/** A frame of the events dialect. */
export interface Signal<T extends string, D> {
  type: T;
  data: D;
  /** Milliseconds since 1970. */
  ts: number;
  id?: string;
}

/** What is asked with a request, and what answers it. */
export interface Asked<P, A extends string, R> {
  payload: P;
  answer: A;
  reply: R;
}
";

/// The types of everything that is said in any dialect.
pub fn declarations() -> String {
    let mut out = HEAD.to_owned();
    let all = DIALECTS.iter().flat_map(|dialect| dialect.messages);
    for (name, schema) in payloads(all) {
        out.push('\n');
        describe(&mut out, "", &schema);
        declare(&mut out, &name, &schema);
    }
    for dialect in DIALECTS {
        tables(&mut out, dialect);
    }
    out
}

/// A comment, if there is something to say.
fn describe(out: &mut String, indent: &str, schema: &Value) {
    if let Some(text) = schema["description"].as_str() {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(out, "{indent}/** {text} */");
    }
}

fn declare(out: &mut String, name: &str, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else {
        if schema["type"] == "object" {
            let _ = writeln!(out, "export type {name} = Record<string, never>;");
            return;
        }
        let _ = writeln!(out, "export type {name} = {};", type_of(schema));
        return;
    };
    let _ = writeln!(out, "export interface {name} {{");
    for (field, mark) in fields(schema) {
        let property = &properties[field];
        describe(out, "  ", property);
        let _ = writeln!(out, "  {field}{mark}: {};", type_of(property));
    }
    out.push_str("}\n");
}

/// The fields of an object and what marks them: first those that are always there, as they were
/// declared, then those that may be absent.
pub(super) fn fields(schema: &Value) -> Vec<(&str, &'static str)> {
    let required = schema["required"].as_array().into_iter().flatten();
    let required: Vec<_> = required.filter_map(Value::as_str).collect();
    let all = schema["properties"].as_object().into_iter().flatten();
    let optional: Vec<_> = all
        .map(|(name, _)| &**name)
        .filter(|name| !required.contains(name))
        .collect();
    let required = required.into_iter().map(|name| (name, ""));
    required
        .chain(optional.into_iter().map(|name| (name, "?")))
        .collect()
}

/// The type of a schema that has no name of its own.
fn type_of(schema: &Value) -> String {
    if let Some(target) = schema["$ref"].as_str() {
        return target.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let choices: Vec<_> = choices.iter().map(type_of).collect();
        return choices.join(" | ");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> = words.iter().map(Value::to_string).collect();
        return words.join(" | ").replace('"', "'");
    }
    if let Some(types) = schema["type"].as_array() {
        let types: Vec<_> = types
            .iter()
            .map(|one| type_of(&serde_json::json!({"type": one, "items": schema["items"]})))
            .collect();
        return types.join(" | ");
    }
    match schema["type"].as_str() {
        Some("string") => "string".to_owned(),
        Some("integer" | "number") => "number".to_owned(),
        Some("boolean") => "boolean".to_owned(),
        Some("null") => "null".to_owned(),
        Some("array") => match type_of(&schema["items"]) {
            item if item.contains(' ') => format!("Array<{item}>"),
            item => format!("{item}[]"),
        },
        Some("object") => match schema["properties"].as_object() {
            None => "Record<string, unknown>".to_owned(),
            Some(properties) => {
                let fields: Vec<_> = fields(schema)
                    .into_iter()
                    .map(|(field, mark)| format!("{field}{mark}: {}", type_of(&properties[field])))
                    .collect();
                format!("{{ {} }}", fields.join("; "))
            }
        },
        _ => "unknown".to_owned(),
    }
}

/// What is asked, answered and told in a dialect, by name.
fn tables(out: &mut String, dialect: &Dialect) {
    let (mut requests, mut said) = (BTreeMap::new(), BTreeMap::new());
    let (mut told, mut answers) = (BTreeMap::new(), BTreeMap::new());
    let wrapped = |kind: &str, it: &Message| format!("{kind}<'{}', {}>", it.name, payload_name(it));
    for message in dialect.messages {
        match message.form {
            Form::Request { answer: None } => {
                said.insert(message.name, payload_name(message));
            }
            Form::Request { answer: Some(name) } => {
                let answer = dialect
                    .messages
                    .iter()
                    .find(|it| it.name == name && it.form == Form::Answer);
                let reply = answer.map_or("unknown".to_owned(), payload_name);
                let asked = format!("Asked<{}, '{name}', {reply}>", payload_name(message));
                requests.insert(message.name, asked);
            }
            Form::Answer => {
                answers.insert(message.name, wrapped("Answer", message));
            }
            Form::Entry => {
                told.insert(message.name, wrapped(dialect.frame_type("Entry"), message));
            }
            Form::Live => {
                told.insert(message.name, wrapped(dialect.frame_type("Live"), message));
            }
        }
    }
    let mut table = |name: &str, what: &str, rows: &BTreeMap<&str, String>| {
        if rows.is_empty() {
            return;
        }
        let dialect = capitalised(dialect.name);
        let _ = writeln!(out, "\n/** {what} */\nexport interface {dialect}{name} {{");
        for (row, kind) in rows {
            let _ = writeln!(out, "  '{row}': {kind};");
        }
        out.push_str("}\n");
    };
    table(
        "Requests",
        "What a client may ask, and what answers it.",
        &requests,
    );
    table("Said", "What a client may say without an answer.", &said);
    table("Events", "What comes by itself.", &told);
    table("Answers", "What answers requests.", &answers);
}

impl Dialect {
    /// The frame around a payload, where it comes by itself.
    fn frame_type(&self, form: &'static str) -> &'static str {
        if self.name == super::events::DIALECT.name {
            "Signal"
        } else {
            form
        }
    }
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
