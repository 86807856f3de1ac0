//! Keys of bots: random, told once, kept as their SHA-256.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

/// What keys begin with, so that people and scanners of secrets know one.
const PREFIX: &str = "tgk_";

/// A key. Does not show itself in logs.
pub(super) struct Key(String);

impl Key {
    /// A new one: 256 random bits.
    pub(super) fn random() -> Self {
        let bits: [u8; 32] = rand::random();
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bits)))
    }

    /// What somebody presents as one.
    pub(super) fn presented(text: String) -> Self {
        Self(text)
    }

    /// By which it is known.
    pub(super) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// The key itself, for whoever asked for it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_are_known_by_their_hash() {
        let (one, other) = (Key::random(), Key::random());
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!(one.reveal().len(), PREFIX.len() + 43);
        let presented = Key::presented(one.reveal().to_owned());
        assert_eq!(presented.hash(), one.hash());
        assert_ne!(one.hash(), other.hash());
    }
}
