//! What a setting may be: how each type is read, shown and masked.

use std::{fmt, net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use serde::{Deserialize as _, Serialize, de::DeserializeOwned};
use toml::Value;

use crate::domain::{Durability, NodeId};

/// What stands where a secret would.
const MASK: &str = "***";

/// A type a setting may have.
pub trait Setting: Sized {
    /// True if the value is never shown and may come from a file (`<name>_file`).
    const SECRET: bool = false;

    /// What may be written, for people.
    fn kind() -> String;
    /// Reads a value of a TOML file, or the text of an environment variable as a string.
    /// The error is a sentence without the value, which may be a secret.
    fn read(value: &Value) -> Result<Self, String>;
    /// The value as it would be written, masked if secret; `None` if there is none.
    fn show(&self) -> Option<Value>;
}

/// Refuses what lies outside the range.
pub fn within<T: Setting + PartialOrd>(value: &T, range: &RangeInclusive<T>) -> Result<(), String> {
    if range.contains(value) {
        return Ok(());
    }
    Err(format!("must be {}", describe_range(range)))
}

/// The range for people: `1s to 1h`.
pub fn describe_range<T: Setting>(range: &RangeInclusive<T>) -> String {
    let text = |value: &T| match value.show() {
        Some(Value::String(text)) => text,
        Some(value) => value.to_string(),
        None => String::new(),
    };
    format!("{} to {}", text(range.start()), text(range.end()))
}

/// The text of a scalar, whatever its TOML type; `None` for lists and tables.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

macro_rules! parsed {
    ($($type:ty, $kind:literal, $value:ident => $show:expr;)+) => { $(
        impl Setting for $type {
            fn kind() -> String {
                $kind.to_owned()
            }

            fn read(value: &Value) -> Result<Self, String> {
                text_of(value)
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(|| concat!("expected ", $kind).to_owned())
            }

            fn show(&self) -> Option<Value> {
                let $value = self;
                Some($show)
            }
        }
    )+ };
}

parsed! {
    bool, "true or false", value => Value::Boolean(*value);
    u16, "a whole number up to 65535", value => Value::Integer((*value).into());
    u32, "a whole number", value => Value::Integer((*value).into());
    u64, "a whole number", value => Value::Integer(i64::try_from(*value).unwrap_or(i64::MAX));
    usize, "a whole number", value => Value::Integer(i64::try_from(*value).unwrap_or(i64::MAX));
    f64, "a number", value => Value::Float(*value);
    SocketAddr, "an address and a port, like 0.0.0.0:8080", value => Value::String(value.to_string());
    NodeId, "at most 64 of A-Z a-z 0-9 . _ -", value => Value::String(value.to_string());
}

impl Setting for String {
    fn kind() -> String {
        "a text".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        text_of(value).ok_or_else(|| "expected a text".to_owned())
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.clone()))
    }
}

impl Setting for PathBuf {
    fn kind() -> String {
        "a path".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        value
            .as_str()
            .map(Self::from)
            .ok_or_else(|| "expected a path".to_owned())
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.display().to_string()))
    }
}

impl<T: Setting> Setting for Option<T> {
    const SECRET: bool = T::SECRET;

    fn kind() -> String {
        T::kind()
    }

    fn read(value: &Value) -> Result<Self, String> {
        T::read(value).map(Some)
    }

    fn show(&self) -> Option<Value> {
        self.as_ref().and_then(Setting::show)
    }
}

/// In the environment the items are separated by commas.
impl Setting for Vec<String> {
    fn kind() -> String {
        "a list of texts (in the environment separated by commas)".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()),
            Value::Array(items) => items
                .iter()
                .map(|item| {
                    item.as_str()
                        .map(str::to_owned)
                        .ok_or_else(|| "expected a list of texts".to_owned())
                })
                .collect(),
            _ => Err("expected a list of texts".to_owned()),
        }
    }

    fn show(&self) -> Option<Value> {
        Some(Value::Array(
            self.iter().cloned().map(Value::String).collect(),
        ))
    }
}

impl Setting for Duration {
    fn kind() -> String {
        "a duration, like 500ms, 25s, 48h".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        let text = value.as_str().unwrap_or_default();
        humantime::parse_duration(text.trim())
            .map_err(|_| "expected a duration with its unit, like 500ms, 25s, 48h".to_owned())
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(duration_text(*self)))
    }
}

/// The shortest exact way to write it in one unit, days only from two on (`24h`, `14d`).
fn duration_text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
    ] {
        let least = if unit == "d" { 2 * size } else { size };
        if milliseconds >= least && milliseconds.is_multiple_of(size) {
            return format!("{}{unit}", milliseconds / size);
        }
    }
    if milliseconds == 0 {
        "0s".to_owned()
    } else {
        format!("{milliseconds}ms")
    }
}

/// A number of bytes, written `64KiB`, `1MiB` or plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n * 1024)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }

    /// As a length in memory.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in &UNITS[..3] {
            if self.0 >= *size && self.0.is_multiple_of(*size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Setting for Size {
    fn kind() -> String {
        "a size, like 64KiB, 1MiB or a number of bytes".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        let wrong = || "expected a size, like 64KiB, 1MiB or a number of bytes".to_owned();
        let text = text_of(value).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(
            text.find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len()),
        );
        let unit = unit.trim();
        let factor = if unit.is_empty() {
            1
        } else {
            UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|(_, size)| *size)
                .ok_or_else(wrong)?
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(factor))
            .map(Self)
            .ok_or_else(wrong)
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

/// A text that is never shown: `Debug`, `Display` and `Serialize` give `***`. The empty
/// secret stands for none.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: only where it is used, never where it is shown.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(MASK)
    }
}

impl Setting for Secret {
    const SECRET: bool = true;

    fn kind() -> String {
        "a secret text".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        value
            .as_str()
            .map(Self::new)
            .ok_or_else(|| "expected a text".to_owned())
    }

    fn show(&self) -> Option<Value> {
        (!self.is_empty()).then(|| Value::String(MASK.to_owned()))
    }
}

/// Reads the secret of a table.
pub(crate) fn secret<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

/// A list of tables, or its TOML text.
pub(crate) fn read_list<T: DeserializeOwned>(
    value: &Value,
    expected: &str,
) -> Result<Vec<T>, String> {
    // The parser's own messages may quote what it read, which may be a secret.
    let wrong = |_| expected.to_owned();
    let list = match value {
        Value::String(text) => {
            let table: toml::Table = format!("list = {text}").parse().map_err(wrong)?;
            table
                .get("list")
                .cloned()
                .unwrap_or(Value::Array(Vec::new()))
        }
        other => other.clone(),
    };
    list.try_into().map_err(wrong)
}

/// A URL that may hold a password: everything but the password is shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Takes the text as it is; who connects finds out whether it is a URL.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The URL itself: only where it is used, never where it is shown.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The URL without its password, also if that stands in the query.
    fn masked(&self) -> String {
        let (rest, query) = self
            .0
            .split_once('?')
            .map_or((self.0.as_str(), None), |(r, q)| (r, Some(q)));
        let mut masked = match rest.split_once("://") {
            Some((scheme, rest)) => match rest.rsplit_once('@') {
                Some((credentials, host)) => {
                    let masked = credentials
                        .split_once(':')
                        .map_or(credentials.to_owned(), |(user, _)| format!("{user}:{MASK}"));
                    format!("{scheme}://{masked}@{host}")
                }
                None => format!("{scheme}://{rest}"),
            },
            // No URL at all: it might be anything, also a secret in the wrong place.
            None if rest.is_empty() => String::new(),
            None => MASK.to_owned(),
        };
        if let Some(query) = query {
            let pairs: Vec<_> = query
                .split('&')
                .map(|pair| match pair.split_once('=') {
                    Some((key, _)) if key.to_ascii_lowercase().contains("pass") => {
                        format!("{key}={MASK}")
                    }
                    _ => pair.to_owned(),
                })
                .collect();
            masked = format!("{masked}?{}", pairs.join("&"));
        }
        masked
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Setting for SecretUrl {
    const SECRET: bool = true;

    fn kind() -> String {
        "a URL; its password is not shown".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        value
            .as_str()
            .map(|text| Self::new(text.trim()))
            .ok_or_else(|| "expected a URL".to_owned())
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.masked()))
    }
}

impl Setting for Durability {
    fn kind() -> String {
        "`memory` or `durable` or `stored`".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        match value.as_str() {
            Some("memory") => Ok(Self::Memory),
            Some("durable") => Ok(Self::Durable),
            Some("stored") => Ok(Self::Stored),
            _ => Err("expected one of memory, durable, stored".to_owned()),
        }
    }

    fn show(&self) -> Option<Value> {
        let text = match self {
            Self::Memory => "memory",
            Self::Durable => "durable",
            Self::Stored => "stored",
        };
        Some(Value::String(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_back_as_they_are_shown() {
        for text in ["500ms", "25s", "90s", "5m", "24h", "2d", "14d", "0s"] {
            let read = Duration::read(&Value::String(text.into())).unwrap();
            assert_eq!(duration_text(read), text);
        }
        for text in ["64KiB", "1MiB", "1000", "3GiB"] {
            assert_eq!(
                Size::read(&Value::String(text.into())).unwrap().to_string(),
                text
            );
        }
        assert_eq!(
            Size::read(&Value::String("2 MB".into())),
            Ok(Size(2_000_000))
        );
        assert_eq!(Size::read(&Value::Integer(77)), Ok(Size(77)));
        for wrong in [
            "",
            "KiB",
            "12parsec",
            "-1",
            "99999999999999999999",
            "99999999999GiB",
        ] {
            assert!(Size::read(&Value::String(wrong.into())).is_err(), "{wrong}");
        }
        for wrong in ["25", "", "25 parsec", "-3s"] {
            assert!(
                Duration::read(&Value::String(wrong.into())).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_secret_shows_nowhere() {
        let secret = Secret::new("swordfish");
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.show(), Some(Value::String("***".into())));
    }

    #[test]
    fn a_url_shows_all_but_its_password() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:swordfish@host", "redis://:***@host"),
            ("postgres://gw@host/db", "postgres://gw@host/db"),
            (
                "postgres://gw:sword@fish@host/db?sslmode=require",
                "postgres://gw:***@host/db?sslmode=require",
            ),
            (
                "redis-sentinel://h?sentinelServicePassword=x&a=b",
                "redis-sentinel://h?sentinelServicePassword=***&a=b",
            ),
            ("swordfish", "***"),
            ("", ""),
        ] {
            assert_eq!(SecretUrl::new(url).to_string(), shown);
        }
    }
}
