mod fuzz;

use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::Algorithm as IssuerAlgorithm, *};

const SECRET: &str = "a secret for tests, long enough to be one";
const ED: &str = include_str!("../testdata/ed25519.pem");
const ED_PUBLIC: &str = include_str!("../testdata/ed25519.pub.pem");
const RSA: &str = include_str!("../testdata/rsa.pem");
const RSA_PUBLIC: &str = include_str!("../testdata/rsa.pub.pem");
const NOW: i64 = 1_800_000_000;

fn settings() -> TokenSettings {
    let data = |name: &str| {
        Some(
            std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("src/auth/testdata")
                .join(name),
        )
    };
    let issuer = |issuer: &str, algorithm, kid: &str, file| TrustedIssuer {
        issuer: issuer.to_owned(),
        audience: None,
        algorithm,
        jwks_file: None,
        kid: Some(kid.to_owned()),
        public_key_file: data(file),
    };
    TokenSettings {
        secret: Secret::new(SECRET),
        key_id: "main".to_owned(),
        previous_secrets: vec![NamedSecret {
            kid: "old".to_owned(),
            secret: Secret::new("an older secret"),
        }],
        trusted_issuers: vec![
            issuer(
                "https://ed.example",
                IssuerAlgorithm::EdDSA,
                "ed",
                "ed25519.pub.pem",
            ),
            issuer(
                "https://rsa.example",
                IssuerAlgorithm::RS256,
                "rsa",
                "rsa.pub.pem",
            ),
        ],
        issuer: "tidegate".to_owned(),
        audience: "tidegate".to_owned(),
        ttl: Duration::from_hours(1),
        leeway: Duration::from_secs(5),
    }
}

fn tokens() -> (Tokens, Clock) {
    let clock = Clock::manual(Timestamp(NOW * 1000));
    (Tokens::new(settings(), clock.clone()).unwrap(), clock)
}

fn user() -> UserId {
    UserId(Uuid::from_u128(7))
}

/// Claims that are good as they are, for changing one at a time.
fn claims() -> Value {
    json!({"sub": user(), "jti": "t1", "iat": NOW, "nbf": NOW, "exp": NOW + 60, "iss": "tidegate", "aud": "tidegate"})
}

fn with(name: &str, value: &Value) -> Value {
    let mut claims = claims();
    claims[name] = value.clone();
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn header(algorithm: Algorithm, kid: Option<&str>) -> Header {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    header
}

fn signed(claims: &Value) -> String {
    encode(
        &header(Algorithm::HS256, Some("main")),
        claims,
        &EncodingKey::from_secret(SECRET.as_bytes()),
    )
    .unwrap()
}

#[test]
fn what_is_issued_is_verified_until_it_ends() {
    let (tokens, clock) = tokens();
    let issued = tokens.issue(user());
    let token = issued.token.expose();
    assert_eq!(tokens.verify(token), Ok(issued.identity.clone()));
    assert_eq!(issued.identity.expires_at, Timestamp((NOW + 3600) * 1000));
    assert_ne!(
        tokens.issue(user()).identity.token_id,
        issued.identity.token_id
    );
    clock.advance(Duration::from_secs(3604));
    assert!(tokens.verify(token).is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(tokens.verify(token), Err(TokenError::Expired));
}

#[test]
fn a_token_of_ours_is_good_after_the_clock_was_set_back() {
    let (tokens, clock) = tokens();
    let token = tokens.issue(user()).token;
    clock.set(Timestamp((NOW - 600) * 1000), tokio::time::Instant::now());
    assert!(tokens.verify(token.expose()).is_ok());
}

#[test]
fn claims_that_are_wrong_or_missing_are_refused() {
    let (tokens, _) = tokens();
    assert!(tokens.verify(&signed(&claims())).is_ok());
    for (claims, refused) in [
        (without("exp"), TokenError::Malformed),
        (without("sub"), TokenError::Malformed),
        (without("iss"), TokenError::Claims),
        (without("aud"), TokenError::Claims),
        (with("iss", &json!("somebody")), TokenError::Claims),
        (
            with("iss", &json!("https://ed.example")),
            TokenError::Claims,
        ),
        (with("aud", &json!("somebody")), TokenError::Claims),
        (with("aud", &json!(["somebody"])), TokenError::Claims),
        (with("exp", &json!(NOW - 5)), TokenError::Expired),
        (with("exp", &json!("tomorrow")), TokenError::Malformed),
        (
            with("exp", &json!(NOW + 32 * 24 * 3600)),
            TokenError::LivesTooLong,
        ),
        (with("exp", &json!(NOW * 1000)), TokenError::LivesTooLong),
        (with("exp", &json!(0)), TokenError::Expired),
        (with("nbf", &json!(NOW + 6)), TokenError::NotYet),
        (with("iat", &json!(NOW + 24 * 3600 + 6)), TokenError::NotYet),
        (with("sub", &json!("root")), TokenError::Subject),
        (with("sub", &json!("")), TokenError::Subject),
    ] {
        assert_eq!(tokens.verify(&signed(&claims)), Err(refused), "{claims}");
    }
    for claims in [
        with("aud", &json!(["somebody", "tidegate"])),
        with("nbf", &json!(NOW + 5)),
        with("exp", &json!(NOW as f64 - 4.5)),
        without("jti"),
        without("nbf"),
    ] {
        assert!(tokens.verify(&signed(&claims)).is_ok(), "{claims}");
    }
    assert_eq!(
        tokens.verify(&signed(&without("iat"))).unwrap().issued_at,
        0
    );
}

/// What becomes of a token whose header names `algorithm` and `kid`, for an issuer, signed by a key.
fn verdict(
    algorithm: Algorithm,
    kid: Option<&str>,
    issuer: &str,
    key: &EncodingKey,
) -> Option<TokenError> {
    let claims = with("iss", &json!(issuer));
    let token = encode(&header(algorithm, kid), &claims, key).unwrap();
    tokens().0.verify(&token).err()
}

#[test]
fn the_key_decides_the_algorithm_not_the_token() {
    use Algorithm::{EdDSA, HS256, HS512, RS256, RS512};
    use TokenError::{Claims, Signature, UnknownKey};
    const OURS: &str = "tidegate";
    const EDS: &str = "https://ed.example";
    const RSAS: &str = "https://rsa.example";
    let secret = |text: &str| EncodingKey::from_secret(text.as_bytes());
    let ed = EncodingKey::from_ed_pem(ED.as_bytes()).unwrap();
    let rsa = EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap();
    let (new, old) = (secret(SECRET), secret("an older secret"));

    // As they should be.
    assert_eq!(verdict(EdDSA, Some("ed"), EDS, &ed), None);
    assert_eq!(verdict(RS256, Some("rsa"), RSAS, &rsa), None);
    assert_eq!(verdict(HS256, Some("old"), OURS, &old), None);
    // The public key as a secret.
    let public = secret(RSA_PUBLIC);
    assert_eq!(verdict(HS256, Some("rsa"), RSAS, &public), Some(Signature));
    let public = secret(ED_PUBLIC);
    assert_eq!(verdict(HS256, Some("ed"), EDS, &public), Some(Signature));
    // Another algorithm of the same family.
    assert_eq!(verdict(RS512, Some("rsa"), RSAS, &rsa), Some(Signature));
    assert_eq!(verdict(HS512, Some("main"), OURS, &new), Some(Signature));
    // Another's key.
    assert_eq!(verdict(EdDSA, Some("rsa"), RSAS, &ed), Some(Signature));
    assert_eq!(verdict(HS256, Some("main"), OURS, &old), Some(Signature));
    // An issuer signs for itself only.
    assert_eq!(verdict(EdDSA, Some("ed"), RSAS, &ed), Some(Claims));
    assert_eq!(verdict(EdDSA, Some("ed"), OURS, &ed), Some(Claims));
    // No key; one that is a path, a statement, or empty.
    assert_eq!(verdict(HS256, None, OURS, &new), Some(UnknownKey));
    for kid in ["../../../dev/null", "x' UNION SELECT 'a", ""] {
        assert_eq!(
            verdict(HS256, Some(kid), OURS, &secret("a")),
            Some(UnknownKey)
        );
    }
}

/// `none` in all spellings, with and without a signature.
#[test]
fn an_unsigned_token_is_refused() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as base64};
    let (tokens, _) = tokens();
    let good = signed(&claims());
    let parts: Vec<_> = good.split('.').collect();
    for algorithm in ["none", "None", "NONE", "nOnE", "", "HS257"] {
        let header =
            base64.encode(json!({"alg": algorithm, "typ": "JWT", "kid": "main"}).to_string());
        for signature in ["", parts[2]] {
            let token = format!("{header}.{}.{signature}", parts[1]);
            assert_eq!(
                tokens.verify(&token),
                Err(TokenError::Malformed),
                "{algorithm}"
            );
        }
    }
    let header = base64
        .encode(json!({"alg": "HS256", "kid": "main", "crit": ["b64"], "b64": false}).to_string());
    assert_eq!(
        tokens.verify(&format!("{header}.{}.{}", parts[1], parts[2])),
        Err(TokenError::Malformed)
    );
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    assert_eq!(tokens.verify(&unsigned), Err(TokenError::Signature));
}

#[test]
fn what_is_no_token_is_refused() {
    let (tokens, _) = tokens();
    let good = signed(&claims());
    for text in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "Bearer x",
        &format!("{good}."),
        &format!(" {good}"),
        &format!("{good}\n"),
    ] {
        assert!(tokens.verify(text).is_err(), "{text}");
    }
    let huge = signed(&with("padding", &json!("x".repeat(MAX_TOKEN_BYTES))));
    assert_eq!(tokens.verify(&huge), Err(TokenError::TooLong));
}

#[test]
fn keys_come_from_a_key_set_too() {
    use jsonwebtoken::jwk::Jwk;
    let path = std::env::temp_dir().join(format!("tidegate-jwks-{}.json", Uuid::now_v7()));
    let ed = EncodingKey::from_ed_pem(ED.as_bytes()).unwrap();
    let rsa = EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap();
    let jwk = |key: &EncodingKey, algorithm, kid: &str| {
        let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
        jwk.common.key_id = Some(kid.to_owned());
        jwk
    };
    let set =
        json!({"keys": [jwk(&ed, Algorithm::EdDSA, "k1"), jwk(&rsa, Algorithm::RS256, "k2")]});
    std::fs::write(&path, set.to_string()).unwrap();

    let mut settings = settings();
    settings.trusted_issuers = vec![TrustedIssuer {
        issuer: "https://ed.example".to_owned(),
        audience: Some("elsewhere".to_owned()),
        algorithm: IssuerAlgorithm::EdDSA,
        jwks_file: Some(path.clone()),
        kid: None,
        public_key_file: None,
    }];
    let tokens = Tokens::new(settings.clone(), Clock::manual(Timestamp(NOW * 1000))).unwrap();
    let mut claims = with("iss", &json!("https://ed.example"));
    claims["aud"] = json!("elsewhere");
    let token = |kid, key: &EncodingKey, algorithm| {
        encode(&header(algorithm, Some(kid)), &claims, key).unwrap()
    };
    assert!(tokens.verify(&token("k1", &ed, Algorithm::EdDSA)).is_ok());
    // A key of the set that does not fit the issuer's algorithm is no key.
    assert_eq!(
        tokens.verify(&token("k2", &rsa, Algorithm::RS256)),
        Err(TokenError::UnknownKey)
    );

    for broken in ["", "{}", r#"{"keys": []}"#] {
        std::fs::write(&path, broken).unwrap();
        let error = Tokens::new(settings.clone(), Clock::system())
            .err()
            .unwrap();
        assert!(
            error.starts_with("auth.trusted_issuers: https://ed.example: "),
            "{error}"
        );
    }
}

proptest! {
    /// Whatever bit of a good token is flipped, it is not good any more.
    #[test]
    fn a_flipped_bit_spoils_a_token(position in 0..10_000_usize, bit in 0..7_u32) {
        let (tokens, _) = tokens();
        let mut token = signed(&claims()).into_bytes();
        let position = position % token.len();
        token[position] ^= 1 << bit;
        if let Ok(text) = std::str::from_utf8(&token) {
            prop_assert!(tokens.verify(text).is_err());
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let (tokens, _) = tokens();
        prop_assert!(tokens.verify(&text).is_err());
    }
}
