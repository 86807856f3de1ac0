//! Tokens: JSON Web Tokens (RFC 7519), ours signed with HS256, others' verified with the keys of
//! their issuers.
//!
//! A key has one algorithm; what the header of a token says about algorithms is compared with it,
//! never followed (`none`, or HS256 with a public key as the secret). `kid` is looked up in a map and
//! nothing else; `jku`, `jwk` and `x5u` are ignored, a `crit` is refused. The `sub` of every token is
//! the id of a user, also where somebody else issued it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{NamedSecret, TrustedIssuer, issuers};
use crate::{
    clock::Clock,
    config::Secret,
    domain::{Timestamp, UserId},
    lifecycle::Lifecycle,
};

/// Longer tokens are refused unread.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// No token may live longer from now on, whoever issued it: so long a revocation has to be remembered.
pub const MAX_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// How wrong a clock of the deployment may be without harm to tokens.
pub const CLOCK_ERROR: Duration = Duration::from_hours(24);

/// Pause between two looks at the key files of other issuers.
const REFRESH: Duration = Duration::from_mins(1);

/// Who somebody is, and by which token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// `jti` of the token, by which it is revoked. Others' tokens may have none; an empty one is none.
    pub token_id: Option<String>,
    /// When the token was issued, in Unix seconds; 0 if it does not say.
    pub issued_at: i64,
    /// When it ends.
    pub expires_at: Timestamp,
    /// True if we issued it. Others' tokens are renewed where they come from.
    pub ours: bool,
}

/// A new token.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The token itself: for its user only.
    pub token: Secret,
    /// Whose it is and when it ends.
    pub identity: Identity,
}

/// Why a token is not taken. For logs; a client is told `unauthorized` and this sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN_BYTES`].
    #[error("the token is too long")]
    TooLong,
    /// Not three parts of base64 with JSON in them, or a claim has the wrong type.
    #[error("the token is malformed")]
    Malformed,
    /// No key has this `kid`, or there is none.
    #[error("the token's key is unknown")]
    UnknownKey,
    /// Signed otherwise than the key demands.
    #[error("the token's signature does not match")]
    Signature,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` lies ahead.
    #[error("the token is not valid yet")]
    NotYet,
    /// `iss` or `aud` is not what the key stands for, or a claim is missing.
    #[error("the token is not meant for this service")]
    Claims,
    /// It would live longer than [`MAX_LIFETIME`].
    #[error("the token lives too long")]
    LivesTooLong,
    /// `sub` is not the id of a user.
    #[error("the token's subject is no user id")]
    Subject,
}

/// How tokens are issued and verified.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// Signs our tokens.
    pub secret: Secret,
    /// Its `kid`.
    pub key_id: String,
    /// Still verify.
    pub previous_secrets: Vec<NamedSecret>,
    /// Others whose tokens are taken.
    pub trusted_issuers: Vec<TrustedIssuer>,
    /// Our `iss`.
    pub issuer: String,
    /// Our `aud`.
    pub audience: String,
    /// How long our tokens live.
    pub ttl: Duration,
    /// How far clocks may be off.
    pub leeway: Duration,
}

/// A key with everything a token signed by it must be.
#[derive(Clone)]
pub(super) struct Key {
    key: DecodingKey,
    rules: Validation,
}

impl Key {
    pub(super) fn new(
        key: DecodingKey,
        algorithm: Algorithm,
        issuer: &str,
        audience: &str,
    ) -> Self {
        let mut rules = Validation::new(algorithm);
        rules.set_issuer(&[issuer]);
        rules.set_audience(&[audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are checked against our own clock, see `times`.
        rules.validate_exp = false;
        rules.validate_nbf = false;
        Self { key, rules }
    }
}

/// Keys by `kid`. Issuers choose their names, so two may have the same.
pub(super) type Keys = HashMap<String, Vec<Key>>;

#[derive(Serialize)]
struct Issue<'a> {
    sub: UserId,
    jti: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    iss: &'a str,
    aud: &'a str,
}

/// What is read of a token. Numbers may have fractions (RFC 7519, 2, NumericDate).
#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    jti: Option<String>,
}

/// Issues and verifies tokens.
pub struct Tokens {
    settings: TokenSettings,
    signing: EncodingKey,
    ours: Keys,
    theirs: RwLock<Arc<Keys>>,
    clock: Clock,
}

impl Tokens {
    /// Reads the key files of other issuers; the error names the setting.
    pub fn new(settings: TokenSettings, clock: Clock) -> Result<Self, String> {
        let theirs = issuers::load(&settings.trusted_issuers, &settings.audience)
            .map_err(|error| format!("auth.trusted_issuers: {error}"))?;
        let mut ours = Keys::new();
        let current = NamedSecret {
            kid: settings.key_id.clone(),
            secret: settings.secret.clone(),
        };
        for named in std::iter::once(&current).chain(&settings.previous_secrets) {
            let key = DecodingKey::from_secret(named.secret.expose().as_bytes());
            let key = Key::new(key, Algorithm::HS256, &settings.issuer, &settings.audience);
            ours.entry(named.kid.clone()).or_default().push(key);
        }
        let signing = EncodingKey::from_secret(settings.secret.expose().as_bytes());
        Ok(Self {
            settings,
            signing,
            ours,
            theirs: RwLock::new(Arc::new(theirs)),
            clock,
        })
    }

    /// A new token for a user.
    pub fn issue(&self, user: UserId) -> Issued {
        let now = self.clock.unix_seconds();
        let ends = now + self.settings.ttl.as_secs() as i64;
        let id = Uuid::now_v7().to_string();
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(self.settings.key_id.clone());
        let claims = Issue {
            sub: user,
            jti: &id,
            iat: now,
            nbf: now,
            exp: ends,
            iss: &self.settings.issuer,
            aud: &self.settings.audience,
        };
        let token = encode(&header, &claims, &self.signing)
            .expect("HS256 takes any secret and these claims are JSON");
        let identity = Identity {
            user,
            token_id: Some(id),
            issued_at: now,
            expires_at: Timestamp(ends * 1000),
            ours: true,
        };
        Issued {
            token: Secret::new(token),
            identity,
        }
    }

    /// Whose token it is. Whether it was revoked, others know.
    pub fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        // An unknown algorithm, also `none`, does not even parse.
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let kid = header.kid.ok_or(TokenError::UnknownKey)?;
        let theirs = self.theirs.read().clone();
        let ours = self
            .ours
            .get(&kid)
            .into_iter()
            .flatten()
            .map(|key| (true, key));
        let theirs = theirs
            .get(&kid)
            .into_iter()
            .flatten()
            .map(|key| (false, key));
        let mut outcome = Err(TokenError::UnknownKey);
        for (is_ours, key) in ours.chain(theirs) {
            match decode::<Claims>(token, &key.key, &key.rules) {
                Ok(data) => return self.identity(data.claims, is_ours),
                Err(error) => outcome = Err(refusal(&error)),
            }
        }
        outcome
    }

    fn identity(&self, claims: Claims, ours: bool) -> Result<Identity, TokenError> {
        let now = self.clock.now().0 as f64 / 1000.0;
        let leeway = self.settings.leeway.as_secs_f64();
        if claims.exp + leeway <= now {
            return Err(TokenError::Expired);
        }
        // Our own clock may have been set back since: whoever has just logged in stays so. A
        // date that was put off on purpose, after the one of issue, counts all the same.
        let set_back = if ours { CLOCK_ERROR.as_secs_f64() } else { 0.0 };
        if claims.exp > now + MAX_LIFETIME.as_secs_f64() + leeway + set_back {
            return Err(TokenError::LivesTooLong);
        }
        let issued = claims.iat.unwrap_or(now);
        if issued > now + leeway + set_back {
            return Err(TokenError::NotYet);
        }
        if claims
            .nbf
            .is_some_and(|from| from > now.max(issued) + leeway)
        {
            return Err(TokenError::NotYet);
        }
        Ok(Identity {
            user: claims.sub.parse().map_err(|_| TokenError::Subject)?,
            token_id: claims.jti.filter(|id| !id.is_empty()),
            issued_at: claims.iat.map_or(0, |at| at as i64),
            expires_at: Timestamp((claims.exp * 1000.0) as i64),
            ours,
        })
    }

    /// Reads the key files of other issuers again, every minute: keys are rotated by changing
    /// the file. A file that cannot be read leaves the keys as they were.
    pub fn spawn_refresh(self: &Arc<Self>, lifecycle: &Lifecycle) {
        if self.settings.trusted_issuers.is_empty() {
            return;
        }
        let tokens = self.clone();
        lifecycle.spawn_background(async move {
            loop {
                tokio::time::sleep(REFRESH).await;
                let reader = tokens.clone();
                let read = tokio::task::spawn_blocking(move || {
                    issuers::load(&reader.settings.trusted_issuers, &reader.settings.audience)
                });
                match read.await {
                    Ok(Ok(keys)) => *tokens.theirs.write() = Arc::new(keys),
                    Ok(Err(error)) => {
                        tracing::warn!(error, "keys of trusted issuers stay as they were");
                    }
                    // It panicked, and that was logged.
                    Err(_) => {}
                }
            }
        });
    }
}

fn refusal(error: &jsonwebtoken::errors::Error) -> TokenError {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenError::Signature,
        ErrorKind::MissingRequiredClaim(_)
        | ErrorKind::InvalidIssuer
        | ErrorKind::InvalidAudience => TokenError::Claims,
        _ => TokenError::Malformed,
    }
}

#[cfg(test)]
mod tests;
