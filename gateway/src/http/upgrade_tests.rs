//! Upgrades through a real listener.

#![allow(
    clippy::disallowed_methods,
    reason = "tests spawn and wait as they like"
)]

use std::sync::{Arc, OnceLock};

use axum::{Router, routing::get};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use shared::{domain::UserId, lifecycle::Lifecycle};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::*;
use crate::dialect::{self, DialectId};
use crate::http::Server;
use crate::session::{
    Settings, Sockets,
    tests::{
        client::{Client, DEADLINE, masked},
        host::FakeHost,
    },
};

struct Scene {
    host: Arc<FakeHost>,
    sockets: Sockets,
    address: std::net::SocketAddr,
    user: UserId,
}

impl Scene {
    fn new(max: usize, per_second: u32) -> Self {
        let host = FakeHost::new(Settings::default());
        let sockets = Sockets::default();
        let origins = Origins::new(["https://app.example"]);
        let admission = Admission::new(max, per_second, sockets.clone());
        let door = Arc::new(OnceLock::from(Door::new(host.clone(), origins, admission)));
        let router = Router::new().route("/hello", get(async || "hello"));
        let listener = crate::http::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let closing: CancellationToken = host.closing.clone();
        let server = Server {
            door,
            router,
            lifecycle: Lifecycle::new(),
            closing,
        };
        tokio::spawn(server.run(listener));
        Self {
            host,
            sockets,
            address,
            user: UserId(Uuid::now_v7()),
        }
    }

    /// Sends a request and gives the head of the answer, and the connection behind it.
    async fn ask(&self, target: &str, headers: &[&str]) -> (String, Client) {
        let mut request = format!("GET {target} HTTP/1.1\r\n");
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            request.push_str("Host: gw.example:8080\r\n");
        }
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let mut tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout(DEADLINE, tcp.read_u8())
                .await
                .expect("an answer in time");
            head.push(byte.expect("a whole head"));
        }
        (
            String::from_utf8(head).unwrap().to_lowercase(),
            Client::new(tcp),
        )
    }

    async fn upgrade(&self, target: &str, headers: &[&str]) -> (String, Client) {
        let mut all = UPGRADE_HEADERS.to_vec();
        all.extend(headers);
        self.ask(target, &all).await
    }

    /// The status of an upgrade that is refused, and the error in its body.
    async fn refused(&self, target: &str, headers: &[&str]) -> (u16, serde_json::Value) {
        let (head, mut client) = self.upgrade(target, headers).await;
        let length = head
            .split("content-length: ")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        timeout(DEADLINE, client.tcp.read_exact(&mut body))
            .await
            .unwrap()
            .unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(body["error"]["requestId"].is_string(), "{body}");
        (status(&head), body["error"].clone())
    }
}

const UPGRADE_HEADERS: [&str; 4] = [
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// One that is served, whichever.
fn a_subprotocol() -> &'static str {
    dialect::served().next().unwrap()
}

#[tokio::test]
async fn one_port_serves_sockets_and_the_rest() {
    let scene = Scene::new(10, 100);
    assert_eq!(status(&scene.ask("/hello", &[]).await.0), 200);
    assert_eq!(status(&scene.ask("/nowhere", &[]).await.0), 404);
    for path in ["/ws", "/api/ws"] {
        let (head, mut client) = scene
            .upgrade(&format!("{path}?token={}", scene.user), &[])
            .await;
        assert_eq!(status(&head), 101);
        assert!(
            head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{head}"
        );
        assert!(!head.contains("sec-websocket-protocol"), "{head}");
        assert_eq!(client.text().await["type"], "connected");
    }
}

#[tokio::test]
async fn the_query_says_device_place_and_who_confirms() {
    let scene = Scene::new(10, 100);
    let target = format!(
        "/ws?device=phone-1&after=7:5&ack=client&protocol={}&token={}",
        DialectId::ALL[0].name(),
        scene.user
    );
    let subprotocol = format!("Sec-WebSocket-Protocol: {}", a_subprotocol());
    let (head, mut client) = scene.upgrade(&target, &[&subprotocol]).await;
    assert!(head.contains(&subprotocol.to_lowercase()), "{head}");
    let connected = client.text().await;
    assert_eq!(connected["payload"]["device"], "phone-1");
    assert_eq!(connected["payload"]["resumed"]["offset"], 5);
    assert_eq!(
        scene.host.seen.lock()[0].after.map(|after| after.offset),
        Some(5)
    );
}

#[tokio::test]
async fn what_follows_the_request_at_once_is_not_lost() {
    let scene = Scene::new(10, 100);
    let mut request = format!(
        "GET /ws HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n",
        UPGRADE_HEADERS.join("\r\n")
    )
    .into_bytes();
    let token = format!(
        r#"{{"type":"authenticate","payload":{{"token":"{}"}}}}"#,
        scene.user
    );
    request.extend(masked(0x81, token.as_bytes()));
    let mut tcp = TcpStream::connect(scene.address).await.unwrap();
    tcp.write_all(&request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(DEADLINE, tcp.read_u8()).await.unwrap().unwrap());
    }
    let mut client = Client::new(tcp);
    assert_eq!(client.text().await["type"], "auth.success");
    assert_eq!(client.text().await["type"], "connected");
}

#[tokio::test]
async fn a_token_may_stand_in_five_places() {
    let scene = Scene::new(10, 100);
    let user = scene.user;
    let basic = STANDARD.encode(format!("any:{user}"));
    let cookie = format!("Cookie: tidegate_session={user}");
    let trusted = "Origin: https://app.example";
    let own = "Origin: http://gw.example:8080";
    for headers in [
        vec![format!("Authorization: Bearer {user}")],
        vec![format!("Authorization: Basic {basic}")],
        vec![cookie.clone(), trusted.to_owned()],
        vec![cookie.clone(), own.to_owned()],
    ] {
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        let (head, mut client) = scene.upgrade("/ws", &headers).await;
        assert_eq!(status(&head), 101, "{headers:?}");
        assert_eq!(client.text().await["type"], "connected", "{headers:?}");
    }
    // Without a page's origin a cookie counts for nothing: the socket waits for `authenticate`.
    let (head, mut client) = scene.upgrade("/ws", &[&cookie]).await;
    assert_eq!(status(&head), 101);
    client.send(r#"{"type":"x"}"#).await;
    assert_eq!(client.text().await["payload"]["code"], "unauthorized");
}

#[tokio::test]
async fn what_is_wrong_is_refused_before_the_upgrade() {
    let scene = Scene::new(10, 100);
    for (target, headers, code, name) in [
        (
            "/ws",
            vec!["Origin: https://evil.example"],
            403,
            "forbidden",
        ),
        ("/ws", vec!["Origin: null"], 403, "forbidden"),
        (
            "/ws",
            vec!["Sec-WebSocket-Protocol: unheard.of"],
            400,
            "bad_request",
        ),
        ("/ws?protocol=unheard", vec![], 400, "bad_request"),
        ("/ws?device=a%20b", vec![], 400, "bad_request"),
        ("/ws?device=", vec![], 400, "bad_request"),
        ("/ws?after=1", vec![], 400, "bad_request"),
        ("/ws?after=1:-1", vec![], 400, "bad_request"),
        ("/ws?ack=maybe", vec![], 400, "bad_request"),
        ("/ws?ack=client&ack=auto", vec![], 400, "bad_request"),
        ("/ws?token=nonsense", vec![], 401, "unauthorized"),
        ("/ws?token=", vec![], 401, "unauthorized"),
        (
            "/ws",
            vec!["Authorization: Bearer nonsense"],
            401,
            "unauthorized",
        ),
        ("/ws", vec!["Authorization: Basic ?"], 401, "unauthorized"),
    ] {
        let (status, error) = scene.refused(target, &headers).await;
        assert_eq!(status, code, "{target} {headers:?} {error}");
        assert_eq!(error["code"], name, "{target} {headers:?}");
    }
    let (_, error) = scene.refused("/ws?protocol=unheard", &[]).await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(a_subprotocol()), "{error}");
    let (head, _) = scene.upgrade("/ws?token=x", &[]).await;
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    assert_eq!(scene.sockets.count(), 0);
}

/// For a client that cannot see an HTTP status.
#[tokio::test]
async fn a_dialect_may_refuse_tokens_by_a_close_code_but_nothing_else() {
    let scene = Scene::new(10, 100);
    let names = DialectId::ALL.into_iter();
    let name = names
        .clone()
        .find(|it| it.refuses_by_closing())
        .unwrap()
        .name();
    let target = |rest: &str| format!("/ws?protocol={name}{rest}");
    for (rest, headers) in [
        ("", vec![]),
        ("&token=", vec![]),
        ("&token=nonsense", vec![]),
        ("", vec!["Authorization: Bearer nonsense"]),
        ("", vec!["Cookie: tidegate_session=nonsense"]),
    ] {
        let (head, mut client) = scene.upgrade(&target(rest), &headers).await;
        assert_eq!(status(&head), 101, "{rest} {headers:?}");
        assert_eq!(client.close_code().await, 4401, "{rest} {headers:?}");
    }
    for (rest, headers, code) in [
        ("", vec!["Origin: https://evil.example"], 403),
        ("&device=a%20b", vec![], 400),
    ] {
        let (status, error) = scene.refused(&target(rest), &headers).await;
        assert_eq!(status, code, "{error}");
    }
}

#[tokio::test]
async fn what_is_no_upgrade_is_told_what_this_is() {
    let scene = Scene::new(10, 100);
    let (head, _) = scene.ask("/ws", &[]).await;
    assert_eq!(status(&head), 426);
    assert!(head.contains("upgrade: websocket"), "{head}");
    let old = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 8",
    ];
    let (head, _) = scene.ask("/ws", &old).await;
    assert_eq!(status(&head), 426);
    assert!(head.contains("sec-websocket-version: 13"), "{head}");
    let keyless = &UPGRADE_HEADERS[..3];
    assert_eq!(status(&scene.ask("/ws", keyless).await.0), 400);
}

#[tokio::test]
async fn a_full_node_says_when_to_come_back() {
    let scene = Scene::new(1, 100);
    let (head, _client) = scene.upgrade("/ws", &[]).await;
    assert_eq!(status(&head), 101);
    let (head, _) = scene.upgrade("/ws", &[]).await;
    assert_eq!(status(&head), 503);
    assert!(head.contains("retry-after: "), "{head}");
}

#[tokio::test]
async fn a_storm_is_refused_above_the_rate() {
    let scene = Scene::new(100, 2);
    let mut statuses = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (head, client) = scene.upgrade("/ws", &[]).await;
        statuses.push(status(&head));
        clients.push(client);
    }
    assert_eq!(statuses[..2], [101, 101]);
    assert!(statuses[2..].contains(&503), "{statuses:?}");
}
