//! Who gets in, and by which door.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use testkit::{Deployment, Plan, Socket, SocketOptions, User, deployment::JWT_SECRET};

use crate::support::assert_error;

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn parts_of(token: &str) -> (Value, Value) {
    let part = |n| {
        let bytes = URL_SAFE_NO_PAD
            .decode(token.split('.').nth(n).expect("three parts"))
            .expect("base64");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    (part(0), part(1))
}

/// The user's own token, made again with a change.
fn forged(
    user: &User,
    algorithm: Algorithm,
    secret: &str,
    change: impl FnOnce(&mut Value),
) -> String {
    let (header, mut claims) = parts_of(&user.token);
    change(&mut claims);
    let header = Header {
        alg: algorithm,
        kid: header["kid"].as_str().map(str::to_owned),
        ..Header::default()
    };
    jsonwebtoken::encode(
        &header,
        &claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .expect("claims can be signed")
}

fn now(user: &User) -> i64 {
    parts_of(&user.token).1["iat"].as_i64().expect("iat")
}

/// The user's own token, made again so that it lives for so many seconds (tokens made by the server
/// live a minute at least), and for the leeway of 5 s.
pub fn short_lived(user: &User, seconds: i64) -> String {
    forged(user, Algorithm::HS256, JWT_SECRET, |claims| {
        claims["exp"] = (claims["iat"].as_i64().unwrap_or(0) + seconds).into();
    })
}

/// Every sort of bad token, by name.
pub fn bad_tokens(user: &User) -> Vec<(&'static str, String)> {
    let (header, claims) = parts_of(&user.token);
    let signature = user
        .token
        .rsplit('.')
        .next()
        .expect("a signature")
        .to_owned();
    let mut none = header.clone();
    none["alg"] = "none".into();
    let mut eddsa = header.clone();
    eddsa["alg"] = "EdDSA".into();
    let mut stranger = header.clone();
    stranger["kid"] = "../../etc/passwd".into();
    let mut other = claims.clone();
    other["sub"] = "00000000-0000-7000-8000-000000000000".into();
    let good = |change: &dyn Fn(&mut Value)| forged(user, Algorithm::HS256, JWT_SECRET, change);
    let without = |field: &'static str| {
        good(&move |claims| {
            claims.as_object_mut().expect("claims").remove(field);
        })
    };
    let issued = now(user);
    vec![
        ("garbage", "not a token".to_owned()),
        ("empty", String::new()),
        (
            "two parts",
            format!("{}.{}", encoded(&header), encoded(&claims)),
        ),
        (
            "alg none, no signature",
            format!("{}.{}.", encoded(&none), encoded(&claims)),
        ),
        (
            "alg none, old signature",
            format!("{}.{}.{signature}", encoded(&none), encoded(&claims)),
        ),
        (
            "alg EdDSA over our secret",
            format!("{}.{}.{signature}", encoded(&eddsa), encoded(&claims)),
        ),
        (
            "alg HS512 with our secret",
            forged(user, Algorithm::HS512, JWT_SECRET, |_| ()),
        ),
        (
            "unknown kid",
            format!("{}.{}.{signature}", encoded(&stranger), encoded(&claims)),
        ),
        (
            "changed claims",
            format!("{}.{}.{signature}", encoded(&header), encoded(&other)),
        ),
        (
            "another secret",
            forged(
                user,
                Algorithm::HS256,
                "another secret, also long enough: 0123456789",
                |_| (),
            ),
        ),
        (
            "the empty secret",
            forged(user, Algorithm::HS256, "", |_| ()),
        ),
        (
            "expired",
            good(&|claims| claims["exp"] = (issued - 3600).into()),
        ),
        (
            "not yet valid",
            good(&|claims| claims["nbf"] = (issued + 3600).into()),
        ),
        (
            "wrong audience",
            good(&|claims| claims["aud"] = "somebody else".into()),
        ),
        (
            "wrong issuer",
            good(&|claims| claims["iss"] = "somebody else".into()),
        ),
        ("no expiry", without("exp")),
        ("no audience", without("aud")),
        ("no issuer", without("iss")),
        ("no subject", without("sub")),
        (
            "subject is no user id",
            good(&|claims| claims["sub"] = "root".into()),
        ),
    ]
}

#[tokio::test]
async fn a_token_is_taken_from_each_of_its_places() {
    let tidegate = Deployment::start_with(
        Plan::default()
            .gateways(1)
            .workers(0)
            .with("TIDEGATE_HTTP__ALLOWED_ORIGINS", "https://app.example.com"),
    )
    .await;
    let ann = tidegate.user("ann").await;
    let address = tidegate.address(0);
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("anything:{}", ann.token));
    let trusted = "https://app.example.com";
    let doors = [
        SocketOptions::bearer(&ann.token),
        SocketOptions::default().header("Authorization", &format!("Basic {basic}")),
        SocketOptions::default().query("token", &ann.token),
        SocketOptions::default()
            .header(
                "Cookie",
                &format!("a=b; tidegate_session={}; c=d", ann.token),
            )
            .header("Origin", trusted),
        SocketOptions::bearer(&ann.token).header("Sec-WebSocket-Protocol", "tidegate.json.v1"),
        SocketOptions::bearer(&ann.token).query("protocol", "json"),
    ];
    for (n, options) in doors.into_iter().enumerate() {
        let socket = Socket::open(address, options.device(&format!("door{n}")))
            .await
            .unwrap_or_else(|refused| panic!("door {n}: {refused:?}"));
        let connected = socket.expect("connected").await;
        assert_eq!(connected["payload"]["userId"], ann.id.as_str(), "door {n}");
    }

    let socket = Socket::open(address, SocketOptions::default())
        .await
        .expect("upgraded without a token");
    let reply = socket
        .request("authenticate", json!({"token": ann.token}))
        .await;
    assert_eq!(reply["type"], "auth.success", "{reply}");
    socket.expect("connected").await;
    let log = tidegate.gateways[0].log();
    assert!(!log.contains(&ann.token), "a token stands in the log");
    assert!(
        !log.contains(ann.token.rsplit('.').next().expect("a signature")),
        "a signature stands in the log"
    );
}

#[tokio::test]
async fn a_cookie_counts_only_with_an_allowed_origin() {
    let plan = Plan::default()
        .gateways(1)
        .workers(0)
        .with("TIDEGATE_HTTP__ALLOWED_ORIGINS", "https://app.example.com");
    let tidegate = Deployment::start_with(plan).await;
    let ann = tidegate.user("ann").await;
    let cookie =
        || SocketOptions::default().header("Cookie", &format!("tidegate_session={}", ann.token));
    let good = Socket::open(
        tidegate.address(0),
        cookie().header("Origin", "https://app.example.com"),
    )
    .await;
    good.expect("an allowed origin").expect("connected").await;
    // Without an origin the cookie is no token: the socket waits for `authenticate`.
    let none = Socket::open(tidegate.address(0), cookie()).await;
    if let Ok(socket) = none {
        let reply = socket.request("ping", json!({})).await;
        assert_ne!(
            reply["type"], "pong",
            "a cookie without an origin opened a session"
        );
    }
}

#[tokio::test]
async fn foreign_origins_are_refused_before_the_upgrade() {
    let plan = Plan::default()
        .gateways(1)
        .workers(0)
        .with("TIDEGATE_HTTP__ALLOWED_ORIGINS", "https://app.example.com");
    let tidegate = Deployment::start_with(plan).await;
    let ann = tidegate.user("ann").await;
    let address = tidegate.address(0);
    let with = |origin: &str| SocketOptions::bearer(&ann.token).header("Origin", origin);
    for foreign in [
        "https://evil.example",
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "https://app.example.com:8443",
        "null",
    ] {
        let refused = Socket::open(address, with(foreign))
            .await
            .err()
            .unwrap_or_else(|| panic!("{foreign} was let in"));
        assert_eq!(refused.status, 403, "{foreign}: {refused:?}");
        assert_eq!(
            refused.json()["error"]["code"],
            "forbidden",
            "{foreign}: {refused:?}"
        );
    }
    for own in [
        "https://app.example.com".to_owned(),
        "HTTPS://APP.EXAMPLE.COM".to_owned(),
        format!("http://{address}"),
    ] {
        Socket::open(address, with(&own))
            .await
            .unwrap_or_else(|refused| panic!("{own}: {refused:?}"))
            .expect("connected")
            .await;
    }
}

#[tokio::test]
async fn a_bad_token_is_refused_with_401_and_a_reason() {
    let tidegate = Deployment::start_with(Plan::default().gateways(1).workers(0)).await;
    let ann = tidegate.user("ann").await;
    for (name, token) in bad_tokens(&ann) {
        if token.is_empty() {
            continue;
        }
        for options in [
            SocketOptions::bearer(&token),
            SocketOptions::default().query("token", &token),
        ] {
            let refused = Socket::open(tidegate.address(0), options)
                .await
                .err()
                .unwrap_or_else(|| panic!("{name} was let in"));
            assert_eq!(refused.status, 401, "{name}: {refused:?}");
            assert!(
                refused.header("www-authenticate").is_some(),
                "{name}: {refused:?}"
            );
            assert_eq!(
                refused.json()["error"]["code"],
                "unauthorized",
                "{name}: {refused:?}"
            );
        }
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("x:{token}"));
        let options = SocketOptions::default().header("Authorization", &format!("Basic {basic}"));
        assert_eq!(
            Socket::open(tidegate.address(0), options)
                .await
                .err()
                .map(|refused| refused.status),
            Some(401),
            "{name}"
        );
        let rest = tidegate.gateways[0].rest();
        let answer = rest
            .post("/api/v1/auth/refresh", Some(&token), &json!({}))
            .await
            .expect("the gateway answers");
        assert_eq!(answer.status, 401, "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn a_bad_authenticate_fails_and_closes_with_4401() {
    let tidegate = Deployment::start_with(Plan::default().gateways(1).workers(0)).await;
    let ann = tidegate.user("ann").await;
    for (name, token) in bad_tokens(&ann) {
        let socket = Socket::open(tidegate.address(0), SocketOptions::default())
            .await
            .expect("upgraded without a token");
        let failed = socket
            .request("authenticate", json!({"token": token}))
            .await;
        assert_eq!(failed["type"], "auth.failed", "{name}: {failed}");
        assert_eq!(
            failed["payload"]["code"], "unauthorized",
            "{name}: {failed}"
        );
        assert_eq!(socket.closed().await.code(), Some(4401), "{name}");
    }
}

#[tokio::test]
async fn a_socket_that_never_authenticates_is_closed() {
    let plan = Plan::default()
        .gateways(1)
        .workers(0)
        .with("TIDEGATE_SESSION__AUTH_TIMEOUT", "500ms");
    let tidegate = Deployment::start_with(plan).await;
    let socket = Socket::open(tidegate.address(0), SocketOptions::default())
        .await
        .expect("upgraded without a token");
    assert_eq!(socket.closed().await.code(), Some(4401));
}

#[tokio::test]
async fn nothing_but_authenticate_is_heard_before_it() {
    let tidegate = Deployment::start_with(Plan::default().gateways(1).workers(0)).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let socket = Socket::open(tidegate.address(0), SocketOptions::default())
        .await
        .expect("upgraded without a token");
    socket.send(&json!({"type": "command.create", "id": "1", "payload": crate::support::message(&bob, "sneaked in")})).await;
    let reply = socket
        .try_take(testkit::wait::PATIENCE, |frame| frame["replyTo"] == "1")
        .await;
    if let Some(reply) = reply {
        assert_error(&reply, "unauthorized");
    }
    let (bob_socket, _) = tidegate.connect(0, &bob, "phone").await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    crate::support::send(&ann_socket, &bob, "honest").await;
    crate::support::expect_content(&bob_socket, "honest").await;
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let tidegate = Deployment::start_with(Plan::default().gateways(1).workers(0)).await;
    let ann = tidegate.user("ann").await;
    let token = short_lived(&ann, 3);
    let socket = Socket::open(tidegate.address(0), SocketOptions::bearer(&token))
        .await
        .expect("still good");
    socket.expect("connected").await;
    assert_eq!(socket.closed().await.code(), Some(4401));
}

#[tokio::test]
async fn passwords_and_names_are_checked() {
    let tidegate = Deployment::start_with(Plan::default().gateways(1).workers(0)).await;
    let rest = tidegate.gateways[0].rest();
    tidegate.user("ann").await;
    let taken = rest
        .register("ANN", "another-password-1")
        .await
        .expect("answered");
    assert_eq!(taken.status, 409, "{taken:?}");
    assert_eq!(taken.body["error"]["code"], "conflict", "{taken:?}");
    for (name, password) in [
        ("", "long-enough-password"),
        ("bob", ""),
        ("bob", "short"),
        ("a b\u{0}", "long-enough-password"),
    ] {
        let refused = rest.register(name, password).await.expect("answered");
        assert_eq!(refused.status, 400, "{name:?} {password:?}: {refused:?}");
        assert_eq!(refused.body["error"]["code"], "bad_request", "{refused:?}");
    }
    let wrong = rest
        .login("ann", "wrong-password-1")
        .await
        .expect("answered");
    let unknown = rest
        .login("nobody", "wrong-password-1")
        .await
        .expect("answered");
    assert_eq!(wrong.status, 401, "{wrong:?}");
    assert_eq!(
        (wrong.status, &wrong.body["error"]["message"]),
        (unknown.status, &unknown.body["error"]["message"])
    );
}

#[tokio::test]
async fn registering_again_under_the_same_key_is_the_same_answer() {
    let tidegate = Deployment::start_with(Plan::default().gateways(2).workers(0)).await;
    let register = async |node: usize, name: &str, password: &str, key: &str| {
        let body = json!({"username": name, "password": password});
        let path = "/api/v1/auth/register";
        let headers = [("Idempotency-Key", key)];
        let rest = tidegate.gateways[node].rest();
        let answer = rest.ask_with("POST", path, "", &body, &headers).await;
        answer.expect("answered")
    };
    let (first, at_once) = tokio::join!(
        register(0, "Ann", "password-of-ann", "k1"),
        register(1, "Ann", "password-of-ann", "k1"),
    );
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(at_once.status, 201, "{at_once:?}");
    assert_eq!(at_once.body, first.body);
    let again = register(1, "Ann", "password-of-ann", "k1").await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    for (password, key) in [("password-of-eve", "k1"), ("password-of-ann", "k2")] {
        let taken = register(0, "Ann", password, key).await;
        assert_eq!(taken.status, 409, "{key}: {taken:?}");
    }
    // Another's key of the same name means nothing.
    let bob = register(0, "bob", "password-of-bob", "k1").await;
    assert_eq!(bob.status, 201, "{bob:?}");
    assert_ne!(bob.body["userId"], first.body["userId"]);
}

#[tokio::test]
async fn log_ins_are_limited_per_account() {
    let plan = Plan::default()
        .gateways(1)
        .workers(0)
        .with("TIDEGATE_AUTH__ATTEMPTS_PER_ACCOUNT", "5");
    let tidegate = Deployment::start_with(plan).await;
    let ann = tidegate.user("ann").await;
    let rest = tidegate.gateways[0].rest();
    let mut limited = false;
    for _ in 0..10 {
        let answer = rest
            .login("ann", "wrong-password-1")
            .await
            .expect("answered");
        limited |= answer.status == 429 && answer.body["error"]["code"] == "rate_limited";
    }
    assert!(limited, "ten attempts in a moment were all heard");
    drop(ann);
}
