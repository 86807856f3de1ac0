//! Settings of keys that are more than a scalar: lists of tables. In the environment they
//! are written as in TOML: `[{ kid = "old", secret = "…" }]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Value;

use crate::config::{Secret, Setting, read_list, secret};

/// A secret with its name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedSecret {
    /// The `kid` of tokens signed with it.
    pub kid: String,
    /// The secret.
    #[serde(deserialize_with = "secret")]
    pub secret: Secret,
}

/// How the tokens of other issuers are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// Ed25519.
    EdDSA,
    /// RSA with SHA-256.
    RS256,
}

/// Somebody else whose tokens are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedIssuer {
    /// `iss` of their tokens.
    pub issuer: String,
    /// `aud` of their tokens; ours if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The one algorithm of all their keys.
    pub algorithm: Algorithm,
    /// Their keys as a JSON Web Key Set (RFC 7517); it is read again every minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// `kid` of the one key in `public_key_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// One public key as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key_file: Option<PathBuf>,
}

impl Setting for Vec<NamedSecret> {
    const SECRET: bool = true;

    fn kind() -> String {
        "a list of tables with `kid` and `secret`".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        read_list(value, "expected a list of tables with kid and secret")
    }

    fn show(&self) -> Option<Value> {
        let masked = self.iter().map(|named| {
            let mut table = toml::Table::new();
            table.insert("kid".to_owned(), named.kid.clone().into());
            table.insert("secret".to_owned(), named.secret.to_string().into());
            Value::Table(table)
        });
        Some(Value::Array(masked.collect()))
    }
}

impl Setting for Vec<TrustedIssuer> {
    fn kind() -> String {
        "a list of tables".to_owned()
    }

    fn read(value: &Value) -> Result<Self, String> {
        read_list(
            value,
            "expected a list of tables with issuer, algorithm, and jwks_file or kid and public_key_file",
        )
    }

    fn show(&self) -> Option<Value> {
        Value::try_from(self).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_from_tables_and_from_text() {
        let text = r#"[{ kid = "old", secret = "swordfish" }]"#;
        let secrets = Vec::<NamedSecret>::read(&Value::String(text.into())).unwrap();
        assert_eq!(secrets[0].kid, "old");
        assert_eq!(secrets[0].secret.expose(), "swordfish");
        assert!(!secrets.show().unwrap().to_string().contains("swordfish"));

        let table: toml::Table =
            "x = [{ issuer = 'https://id', algorithm = 'EdDSA', jwks_file = '/k' }]"
                .parse()
                .unwrap();
        let issuers = Vec::<TrustedIssuer>::read(&table["x"]).unwrap();
        assert_eq!(issuers[0].algorithm, Algorithm::EdDSA);
        assert_eq!(
            Vec::<TrustedIssuer>::read(&issuers.show().unwrap()).unwrap(),
            issuers
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_without_being_shown() {
        for text in [
            "swordfish",
            "[{ kid = 'a', secret = 'swordfish', more = 1 }]",
            "[{ kid = 'swordfish' }]",
        ] {
            let wrong = Vec::<NamedSecret>::read(&Value::String(text.into())).unwrap_err();
            assert!(!wrong.contains("swordfish"), "{wrong}");
        }
        let none = "[{ issuer = 'x', algorithm = 'none', jwks_file = 'y' }]";
        assert!(Vec::<TrustedIssuer>::read(&Value::String(none.into())).is_err());
    }
}
