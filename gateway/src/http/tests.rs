//! REST as far as it needs no stores; with them it is tested end to end.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
    response::Response,
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use shared::{config::Secret, domain::UserId};
use tower::ServiceExt as _;
use uuid::Uuid;

use super::*;
use crate::config::Registration;

fn api(change: impl FnOnce(&mut Settings)) -> Arc<Api> {
    let mut settings = Settings::default();
    settings.auth.secret = Secret::new("a secret for tests, long enough to be one");
    settings.auth.password_workers = Some(1);
    change(&mut settings);
    Api::new(Arc::new(settings), Clock::system()).unwrap()
}

fn served(api: &Arc<Api>) -> Router {
    router(api, Health::new(Clock::system(), None))
}

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let peer = Peer("192.0.2.1:4711".parse().unwrap());
    let builder = Request::builder().method(method).uri(path).extension(peer);
    let builder = headers.iter().fold(builder, |builder, (name, value)| {
        builder.header(*name, *value)
    });
    builder.body(Body::from(body.to_owned())).unwrap()
}

async fn ask(router: &Router, request: Request<Body>) -> (Response<()>, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (
        Response::from_parts(head, ()),
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

async fn post(router: &Router, path: &str, body: &str) -> (StatusCode, Value) {
    let (head, body) = ask(router, request(Method::POST, path, &[], body)).await;
    (head.status(), body["error"]["code"].clone())
}

fn credentials(username: &str, password: &str) -> String {
    json!({"username": username, "password": password}).to_string()
}

#[tokio::test]
async fn errors_have_one_shape_and_the_id_of_the_request() {
    let router = served(&api(|_| {}));
    let (head, body) = ask(
        &router,
        request(
            Method::GET,
            "/api/v1/nothing",
            &[("x-request-id", "r-1")],
            "",
        ),
    )
    .await;
    assert_eq!(head.status(), StatusCode::NOT_FOUND);
    assert_eq!(head.headers()["x-request-id"], "r-1");
    let message = "there is nothing at this path";
    assert_eq!(
        body,
        json!({"error": {"code": "not_found", "message": message, "requestId": "r-1"}})
    );

    // An id that could break a header or a log is replaced.
    for bad in ["", "a b", "a\"b", &"x".repeat(65)] {
        let (head, body) = ask(
            &router,
            request(Method::GET, "/nothing", &[("x-request-id", bad)], ""),
        )
        .await;
        let id = head.headers()["x-request-id"].to_str().unwrap();
        assert!(Uuid::try_parse(id).is_ok(), "{id}");
        assert_eq!(body["error"]["requestId"], id);
    }

    let (head, body) = ask(&router, request(Method::GET, "/api/v1/auth/login", &[], "")).await;
    assert_eq!(
        (head.status(), &body["error"]["code"]),
        (StatusCode::METHOD_NOT_ALLOWED, &json!("bad_request"))
    );
}

#[tokio::test]
async fn what_cannot_be_registered_is_refused_by_rule() {
    let router = served(&api(|_| {}));
    let long = "x".repeat(33);
    let good = "correct horse";
    for body in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        json!({"username": "anna"}).to_string(),
        json!({"username": 7, "password": good}).to_string(),
        credentials("ab", good),
        credentials(&long, good),
        credentials("an na", good),
        credentials("änna", good),
        credentials("anna\0", good),
        credentials("anna", "seven77"),
        credentials("anna", &"x".repeat(1025)),
    ] {
        let refused = post(&router, "/api/v1/auth/register", &body).await;
        assert_eq!(
            refused,
            (StatusCode::BAD_REQUEST, json!("bad_request")),
            "{body}"
        );
    }
    // A good one gets as far as the stores, which are not there yet.
    let refused = post(&router, "/api/v1/auth/register", &credentials("anna", good)).await;
    assert_eq!(
        refused,
        (StatusCode::SERVICE_UNAVAILABLE, json!("unavailable"))
    );

    let huge = credentials("anna", &"x".repeat(70_000));
    let refused = post(&router, "/api/v1/auth/register", &huge).await;
    assert_eq!(refused, (StatusCode::PAYLOAD_TOO_LARGE, json!("too_large")));
}

#[tokio::test]
async fn a_refusal_never_repeats_the_body() {
    let router = served(&api(|_| {}));
    for body in [
        r#"{"username": "anna", "password": ["swordfish"]}"#,
        r#"{"password": "swordfish", "username": "#,
        "swordfish",
    ] {
        let (_, answer) = ask(
            &router,
            request(Method::POST, "/api/v1/auth/login", &[], body),
        )
        .await;
        assert!(!answer.to_string().contains("swordfish"), "{answer}");
    }
}

#[tokio::test]
async fn registration_can_be_closed() {
    let router = served(&api(|settings| {
        settings.auth.registration = Registration::Closed;
    }));
    let refused = post(
        &router,
        "/api/v1/auth/register",
        &credentials("anna", "correct horse"),
    )
    .await;
    assert_eq!(refused, (StatusCode::FORBIDDEN, json!("forbidden")));
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted_per_account_and_per_address() {
    let login = "/api/v1/auth/login";
    let router = served(&api(|settings| {
        settings.auth.attempts_per_account = 2;
        settings.auth.attempts_per_address = 5;
        settings.http.trusted_proxies = vec!["192.0.2.1".to_owned()];
    }));
    let limited = (StatusCode::TOO_MANY_REQUESTS, json!("rate_limited"));
    for name in ["anna", "ANNA"] {
        assert_eq!(
            post(&router, login, &credentials(name, "a password"))
                .await
                .0,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
    assert_eq!(
        post(&router, login, &credentials("Anna", "a password")).await,
        limited
    );
    for name in ["ben", "cleo"] {
        assert_eq!(
            post(&router, login, &credentials(name, "a password"))
                .await
                .0,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
    let (head, body) = ask(
        &router,
        request(Method::POST, login, &[], &credentials("dora", "a password")),
    )
    .await;
    assert_eq!(head.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(head.headers()[header::RETRY_AFTER], "12");
    assert_eq!(body["error"]["retryAfterMs"], 12_000);
    // Another client behind the same proxy is another address.
    let other = [("x-forwarded-for", "6.6.6.6, 198.51.100.7")];
    let (head, _) = ask(
        &router,
        request(
            Method::POST,
            login,
            &other,
            &credentials("dora", "a password"),
        ),
    )
    .await;
    assert_eq!(head.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn only_bearers_of_good_tokens_get_in() {
    let api = api(|_| {});
    let router = served(&api);
    let token = api
        .tokens()
        .issue(UserId(Uuid::now_v7()))
        .token
        .expose()
        .to_owned();
    let profile = |authorization: Option<String>| {
        let headers: Vec<_> = authorization
            .iter()
            .map(|value| ("authorization", value.as_str()))
            .collect();
        request(Method::GET, "/api/v1/users/profile", &headers, "")
    };
    for bad in [
        None,
        Some(String::new()),
        Some("Bearer".into()),
        Some("Bearer x".into()),
        Some(format!("Basic {token}")),
        Some(format!("Bearer {token}x")),
    ] {
        let (head, body) = ask(&router, profile(bad.clone())).await;
        assert_eq!(
            (head.status(), &body["error"]["code"]),
            (StatusCode::UNAUTHORIZED, &json!("unauthorized")),
            "{bad:?}"
        );
        assert_eq!(head.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
    // Good, but whether it was withdrawn is not known yet.
    let (head, _) = ask(&router, profile(Some(format!("bearer {token}")))).await;
    assert_eq!(head.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(head.headers()[header::RETRY_AFTER], "1");
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_answers() {
    let router = served(&api(|settings| {
        settings.http.allowed_origins = vec!["https://app.example".to_owned()];
    }));
    let preflight = |origin| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
        ];
        request(Method::OPTIONS, "/api/v1/auth/login", &headers, "")
    };
    let (head, _) = ask(&router, preflight("https://app.example")).await;
    assert_eq!(head.status(), StatusCode::NO_CONTENT);
    assert_eq!(
        head.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN],
        "https://app.example"
    );
    for foreign in ["https://app.example.evil", "null", "http://app.example"] {
        let (head, _) = ask(&router, preflight(foreign)).await;
        assert!(
            !head
                .headers()
                .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN),
            "{foreign}"
        );
    }
    let headers = [("origin", "https://app.example")];
    let (head, _) = ask(
        &router,
        request(Method::GET, "/api/v1/health", &headers, ""),
    )
    .await;
    assert_eq!(
        head.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN],
        "https://app.example"
    );
}

#[tokio::test]
async fn the_console_page_and_health_are_served() {
    let router = served(&api(|settings| {
        settings.http.allowed_origins = vec!["http://localhost:8081".to_owned()];
    }));
    for (path, kind) in [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/style.css", "text/css"),
    ] {
        let (head, _) = ask(&router, request(Method::GET, path, &[], "")).await;
        assert_eq!(head.status(), StatusCode::OK);
        assert!(
            head.headers()[header::CONTENT_TYPE]
                .to_str()
                .unwrap()
                .starts_with(kind)
        );
        let policy = head.headers()[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap();
        assert!(
            policy.contains("connect-src 'self' http://localhost:8081 ws://localhost:8081;"),
            "{policy}"
        );
    }
    for path in ["/live", "/ready", "/health", "/api/v1/health"] {
        let (head, _) = ask(&router, request(Method::GET, path, &[], "")).await;
        assert_eq!(head.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_page_is_told_of_the_other_nodes_and_may_connect_to_them() {
    let nodes = ["https://gw-1.example", "https://gw-2.example:8443"];
    let router = served(&api(|settings| {
        settings.http.nodes = nodes.map(str::to_owned).to_vec();
    }));
    let (_, known) = ask(&router, request(Method::GET, "/nodes.json", &[], "")).await;
    assert_eq!(known["nodes"], json!(nodes));
    let (head, _) = ask(&router, request(Method::GET, "/", &[], "")).await;
    let policy = head.headers()[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .unwrap();
    for allowed in ["https://gw-2.example:8443", "wss://gw-2.example:8443"] {
        assert!(policy.contains(allowed), "{policy}");
    }
    let (_, none) = ask(
        &served(&api(|_| {})),
        request(Method::GET, "/nodes.json", &[], ""),
    )
    .await;
    assert_eq!(none["nodes"], json!([]));
}
