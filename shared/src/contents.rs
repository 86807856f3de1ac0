//! What is said, encrypted where it is kept: AES-256-GCM, with the id of the key beside it.
//!
//! Encrypted is the base64 of nonce and ciphertext. A content belongs to its conversation (its id is
//! the additional data): moved to another one it cannot be opened. Nothing in here knows where
//! contents are kept.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use toml::Value;

use crate::{
    config::{Problems, Secret, Setting, read_list, secret},
    domain::ConversationId,
};

/// Bytes of a key.
const KEY_BYTES: usize = 32;

crate::section! {
    /// Encryption of what is said in conversations, in Redis and in Postgres.
    pub struct ContentsSettings = "contents" {
        /// Keys, 32 bytes in base64 each (`openssl rand -base64 32`). Old ones stay in the list as long as
        /// anything may be encrypted with them: in Postgres until `worker rotate-keys` has been through,
        /// in Redis for `retention.hot_window` after the last process has changed `current`.
        keys: Vec<ContentsKey> = Vec::new(),
        /// The `id` of the key that new messages are encrypted with; empty: they are not. A new key has to
        /// be in the list of every gateway and worker before it is the current one of any.
        current: String = String::new(),
    }
}

/// A key with its name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentsKey {
    /// Stands beside what is encrypted with it; it is never given to another key.
    pub id: String,
    /// 32 bytes in base64.
    #[serde(deserialize_with = "secret")]
    pub key: Secret,
}

impl Setting for Vec<ContentsKey> {
    const SECRET: bool = true;

    fn kind() -> String {
        "a list of tables with `id` and `key`".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        read_list(value, "expected a list of tables with id and key")
    }

    fn show(&self) -> Option<Value> {
        let masked = self.iter().map(|it| {
            let mut table = toml::Table::new();
            table.insert("id".to_owned(), it.id.clone().into());
            table.insert("key".to_owned(), it.key.to_string().into());
            Value::Table(table)
        });
        Some(Value::Array(masked.collect()))
    }
}

impl ContentsSettings {
    /// Refuses keys that are none.
    pub fn check(&self, problems: &mut Problems) {
        if let Err(WrongKeys { setting, wrong }) = Contents::new(self) {
            problems.add(setting, wrong);
        }
    }
}

/// Why keys cannot be used. Quotes none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {wrong}")]
pub struct WrongKeys {
    /// The name of the setting.
    pub setting: &'static str,
    /// What is wrong with it.
    pub wrong: String,
}

/// Why a content cannot be encrypted or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentsError {
    /// It needs a key that is not among the settings.
    #[error("no key with the id {0}")]
    UnknownKey(String),
    /// It is not what was encrypted with this key in this conversation.
    #[error("an encrypted content is damaged")]
    Damaged,
    /// The machine has no randomness, or the content is absurdly long.
    #[error("cannot encrypt")]
    Unsealable,
}

/// A content as it is kept, and the id of the key it is encrypted with.
pub type Sealed = (String, Option<String>);

/// The keys of this process.
#[derive(Default)]
pub struct Contents {
    keys: Vec<(String, RandomizedNonceKey)>,
    /// Among `keys`.
    current: Option<usize>,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(|(id, _)| id.as_str()).collect();
        f.debug_struct("Contents")
            .field("keys", &ids)
            .field("current", &self.current())
            .finish()
    }
}

impl Contents {
    /// Reads the keys.
    pub fn new(settings: &ContentsSettings) -> Result<Self, WrongKeys> {
        let wrong = |wrong: String| WrongKeys {
            setting: "contents.keys",
            wrong,
        };
        let mut keys: Vec<(String, RandomizedNonceKey)> = Vec::new();
        for ContentsKey { id, key } in &settings.keys {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if id.is_empty() || id.len() > 64 || !id.chars().all(allowed) {
                return Err(wrong("ids have 1 to 64 of A-Z a-z 0-9 . _ -".to_owned()));
            }
            if keys.iter().any(|(known, _)| known == id) {
                return Err(wrong(format!("there are two keys with the id {id}")));
            }
            let bytes = BASE64_STANDARD.decode(key.expose().trim());
            let key = bytes
                .ok()
                .filter(|bytes| bytes.len() == KEY_BYTES)
                .and_then(|bytes| RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok())
                .ok_or_else(|| wrong(format!("the key {id} is not 32 bytes in base64")))?;
            keys.push((id.clone(), key));
        }
        let current = &settings.current;
        let index = keys.iter().position(|(id, _)| id == current);
        if index.is_none() && !current.is_empty() {
            return Err(WrongKeys {
                setting: "contents.current",
                wrong: format!("there is no key with the id {current}"),
            });
        }
        Ok(Self {
            keys,
            current: index,
        })
    }

    /// The id of the key that is used now; nothing where contents are not encrypted.
    pub fn current(&self) -> Option<&str> {
        let (id, _) = self.keys.get(self.current?)?;
        Some(id)
    }

    /// A content as it is to be kept. The empty one stays as it is.
    pub fn seal(
        &self,
        conversation: ConversationId,
        content: &str,
    ) -> Result<Sealed, ContentsError> {
        let current = self.current.and_then(|index| self.keys.get(index));
        let Some((id, key)) = current.filter(|_| !content.is_empty()) else {
            return Ok((content.to_owned(), None));
        };
        let mut text = content.as_bytes().to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(conversation.0.as_bytes()), &mut text)
            .map_err(|_| ContentsError::Unsealable)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut text);
        Ok((BASE64_STANDARD.encode(sealed), Some(id.clone())))
    }

    /// The content itself.
    pub fn open(
        &self,
        conversation: ConversationId,
        content: &str,
        sealed: Option<&str>,
    ) -> Result<String, ContentsError> {
        let Some(id) = sealed else {
            return Ok(content.to_owned());
        };
        let (_, key) = self
            .keys
            .iter()
            .find(|(known, _)| known == id)
            .ok_or_else(|| ContentsError::UnknownKey(id.to_owned()))?;
        let mut bytes = BASE64_STANDARD
            .decode(content)
            .map_err(|_| ContentsError::Damaged)?;
        let (nonce, text) = bytes
            .split_at_mut_checked(NONCE_LEN)
            .ok_or(ContentsError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| ContentsError::Damaged)?;
        let opened = key
            .open_in_place(nonce, Aad::from(conversation.0.as_bytes()), text)
            .map_err(|_| ContentsError::Damaged)?;
        String::from_utf8(opened.to_vec()).map_err(|_| ContentsError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn settings(ids: &[(&str, u8)], current: &str) -> ContentsSettings {
        let keys = ids.iter().map(|(id, byte)| ContentsKey {
            id: (*id).to_owned(),
            key: Secret::new(BASE64_STANDARD.encode([*byte; KEY_BYTES])),
        });
        ContentsSettings {
            keys: keys.collect(),
            current: current.to_owned(),
        }
    }

    fn contents(ids: &[(&str, u8)], current: &str) -> Contents {
        Contents::new(&settings(ids, current)).unwrap()
    }

    fn conversation(n: u128) -> ConversationId {
        ConversationId(Uuid::from_u128(n))
    }

    #[test]
    fn what_is_sealed_opens_in_its_conversation_only() {
        let contents = contents(&[("a", 1)], "a");
        let here = conversation(1);
        for text in ["hello", "\u{1f331}\"\\\n", &"x".repeat(20_000)] {
            let (sealed, id) = contents.seal(here, text).unwrap();
            assert_eq!(id.as_deref(), Some("a"));
            assert!(!sealed.contains("hello"));
            assert_ne!(contents.seal(here, text).unwrap().0, sealed, "a new nonce");
            let opened = contents.open(here, &sealed, Some("a"));
            assert_eq!(opened.unwrap(), text);
            let elsewhere = contents.open(conversation(2), &sealed, Some("a"));
            assert_eq!(elsewhere, Err(ContentsError::Damaged));
        }
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let contents = contents(&[("a", 1), ("b", 2)], "a");
        let here = conversation(1);
        let (sealed, _) = contents.seal(here, "hello").unwrap();
        let mut bytes = BASE64_STANDARD.decode(&sealed).unwrap();
        assert_eq!(bytes.len(), NONCE_LEN + "hello".len() + 16);
        for index in 0..bytes.len() {
            bytes[index] ^= 1;
            let changed = BASE64_STANDARD.encode(&bytes);
            bytes[index] ^= 1;
            assert_eq!(
                contents.open(here, &changed, Some("a")),
                Err(ContentsError::Damaged)
            );
        }
        for damaged in ["", "?", "AAAA", &sealed[4..]] {
            assert_eq!(
                contents.open(here, damaged, Some("a")),
                Err(ContentsError::Damaged)
            );
        }
        let other_key = contents.open(here, &sealed, Some("b"));
        assert_eq!(other_key, Err(ContentsError::Damaged));
        let no_key = contents.open(here, &sealed, Some("c"));
        assert_eq!(no_key, Err(ContentsError::UnknownKey("c".into())));
    }

    #[test]
    fn an_old_key_opens_what_the_new_one_no_longer_seals_with() {
        let here = conversation(1);
        let (old, id) = contents(&[("a", 1)], "a").seal(here, "hello").unwrap();
        let rotated = contents(&[("a", 1), ("b", 2)], "b");
        assert_eq!(rotated.open(here, &old, id.as_deref()).unwrap(), "hello");
        assert_eq!(rotated.seal(here, "x").unwrap().1.as_deref(), Some("b"));
        // Off again, and without any key from the beginning.
        for off in [contents(&[("a", 1)], ""), Contents::default()] {
            assert_eq!(off.current(), None);
            let (plain, id) = off.seal(here, "hello").unwrap();
            assert_eq!((plain.as_str(), &id), ("hello", &None));
            assert_eq!(off.open(here, &plain, None).unwrap(), "hello");
        }
        assert_eq!(rotated.seal(here, "").unwrap(), (String::new(), None));
    }

    #[test]
    fn keys_that_are_none_are_refused_and_not_shown() {
        let problems = |settings: &ContentsSettings| {
            let mut problems = Problems::default();
            settings.check(&mut problems);
            problems.to_string()
        };
        assert_eq!(problems(&settings(&[("a", 1)], "a")), "");
        for (wrong, about) in [
            (settings(&[("a", 1)], "b"), "contents.current: "),
            (settings(&[("a", 1), ("a", 2)], "a"), "contents.keys: "),
            (settings(&[("a b", 1)], ""), "contents.keys: "),
        ] {
            assert!(problems(&wrong).starts_with(about), "{wrong:?}");
        }
        let text = r#"[{ id = "a", key = "swordfish" }]"#;
        let keys = Vec::<ContentsKey>::read(&Value::String(text.into())).unwrap();
        assert!(!keys.show().unwrap().to_string().contains("swordfish"));
        let short = ContentsSettings {
            keys,
            current: "a".into(),
        };
        let found = problems(&short);
        assert!(found.starts_with("contents.keys: ") && !found.contains("swordfish"));
        assert!(!format!("{short:?}").contains("swordfish"));
    }
}
