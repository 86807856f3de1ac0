//! The keys of others whose tokens are taken.

use std::{fs, path::Path};

use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet},
};

use super::{
    Algorithm, TrustedIssuer,
    tokens::{Key, Keys},
};

/// Reads all key files and keeps nothing. The error names the issuer.
pub fn check(issuers: &[TrustedIssuer], audience: &str) -> Result<(), String> {
    load(issuers, audience).map(drop)
}

/// Reads all key files. The error names the issuer.
pub(super) fn load(issuers: &[TrustedIssuer], audience: &str) -> Result<Keys, String> {
    let mut keys = Keys::new();
    for issuer in issuers {
        let audience = issuer.audience.as_deref().unwrap_or(audience);
        let algorithm = match issuer.algorithm {
            Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
            Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        };
        let found = read(issuer).map_err(|error| format!("{}: {error}", issuer.issuer))?;
        for (kid, key) in found {
            keys.entry(kid)
                .or_default()
                .push(Key::new(key, algorithm, &issuer.issuer, audience));
        }
    }
    Ok(keys)
}

fn read(issuer: &TrustedIssuer) -> Result<Vec<(String, DecodingKey)>, String> {
    match (&issuer.jwks_file, &issuer.kid, &issuer.public_key_file) {
        (Some(path), None, None) => key_set(path, issuer.algorithm),
        (None, Some(kid), Some(path)) => {
            let pem = text(path)?;
            let key = match issuer.algorithm {
                Algorithm::EdDSA => DecodingKey::from_ed_pem(pem.as_bytes()),
                Algorithm::RS256 => DecodingKey::from_rsa_pem(pem.as_bytes()),
            };
            let key = key.map_err(|_| format!("{} holds no such public key", path.display()))?;
            Ok(vec![(kid.clone(), key)])
        }
        _ => Err("give either jwks_file, or kid and public_key_file".to_owned()),
    }
}

fn text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// The keys of a set that fit the algorithm and have a name; others are passed over, for a
/// set may serve other purposes, too. A set without any that fits is an error.
fn key_set(path: &Path, algorithm: Algorithm) -> Result<Vec<(String, DecodingKey)>, String> {
    let set: JwkSet = serde_json::from_str(&text(path)?)
        .map_err(|error| format!("{} is no key set: line {}", path.display(), error.line()))?;
    let named = |jwk: &Jwk| {
        let key = DecodingKey::from_jwk(jwk)
            .ok()
            .filter(|_| fits(jwk, algorithm))?;
        Some((jwk.common.key_id.clone()?, key))
    };
    let keys: Vec<_> = set.keys.iter().filter_map(named).collect();
    if keys.is_empty() {
        return Err(format!(
            "{} has no key with a kid for {algorithm:?}",
            path.display()
        ));
    }
    Ok(keys)
}

fn fits(jwk: &Jwk, algorithm: Algorithm) -> bool {
    match (&jwk.algorithm, algorithm) {
        (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => {
            key.curve == EllipticCurve::Ed25519
        }
        (AlgorithmParameters::RSA(_), Algorithm::RS256) => true,
        _ => false,
    }
}
