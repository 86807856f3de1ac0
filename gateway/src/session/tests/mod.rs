//! Sessions over real TCP, with a client that can misbehave.

#![allow(
    clippy::disallowed_methods,
    reason = "tests spawn and wait as they like"
)]

pub(crate) mod client;
pub(crate) mod host;

mod closing;
mod delivery;
mod events;
mod reading;
mod stomp;
mod subscribing;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use shared::domain::*;
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use self::{
    client::{Client, Got, eventually, masked},
    host::{FakeHost, START, token},
};
use super::*;
use crate::{dialect::DialectId, fanout::Outbox};

/// A server and its clients.
struct Scene {
    host: Arc<FakeHost>,
    sockets: Sockets,
    user: UserId,
    dialect: DialectId,
}

impl Scene {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            close_timeout: Duration::from_secs(2),
            ..Settings::default()
        };
        change(&mut settings);
        Self {
            host: FakeHost::new(settings),
            sockets: Sockets::default(),
            user: UserId(Uuid::now_v7()),
            dialect: DialectId::Json,
        }
    }

    /// A connection whose upgrade said this.
    async fn arrive(&self, token: Option<&str>, acks: AckMode) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let arrival = Arrival {
            session: SessionId(Uuid::now_v7()),
            dialect: self.dialect,
            device: Device::default(),
            after: None,
            acks,
            identity: token.map(|token| self.host.identify(token).unwrap()),
            permit: self.sockets.admit(100).unwrap(),
        };
        let tcp = server.unwrap().0;
        // Small ones, so that tests of full buffers need not fill megabytes.
        for tcp in [client.as_ref().unwrap(), &tcp] {
            socket2::SockRef::from(tcp)
                .set_recv_buffer_size(512 * 1024)
                .unwrap();
        }
        tcp.set_nodelay(true).unwrap();
        tokio::spawn(open(self.host.clone(), arrival, tcp, Bytes::new()));
        Client::new(client.unwrap())
    }

    /// An open session, greeted.
    async fn open(&self) -> Client {
        self.open_for(Duration::from_hours(1), AckMode::Auto).await
    }

    async fn open_for(&self, lives: Duration, acks: AckMode) -> Client {
        let token = token(self.user, lives);
        let mut client = self.arrive(Some(&token), acks).await;
        assert_eq!(client.text().await["type"], "connected");
        client
    }

    fn outbox(&self) -> Arc<Outbox> {
        self.host.seen.lock().last().unwrap().outbox.clone()
    }

    /// Every socket is gone, and nothing is held.
    async fn ended(&self) {
        eventually("the session ends", || {
            self.sockets.count() == 0
                && self.host.held.load(std::sync::atomic::Ordering::SeqCst) == 0
        })
        .await;
    }
}

/// The `n`th entry after [`START`].
fn entry(user: UserId, n: u64, content: &str) -> Entry {
    let body = serde_json::json!({ "commandType": "message", "content": content });
    Entry {
        topic: Topic::User(user),
        position: Position {
            offset: START.offset + n,
            ..START
        },
        id: MessageId(Uuid::now_v7()),
        kind: Kind::CommandNew,
        at: host::NOW,
        body: Bytes::from(body.to_string()),
    }
}

#[tokio::test]
async fn connected_tells_who_where_and_what_is_allowed() {
    let scene = Scene::new();
    let token = token(scene.user, Duration::from_mins(1));
    let mut client = scene.arrive(Some(&token), AckMode::Auto).await;
    let connected = client.text().await;
    let payload = &connected["payload"];
    assert_eq!(payload["userId"], scene.user.to_string());
    assert_eq!(payload["node"], "test-1");
    assert_eq!(payload["heartbeat"]["intervalMs"], 25_000);
    assert_eq!(payload["resumed"]["offset"], START.offset);
    let seen = scene.host.seen.lock();
    assert_eq!(
        payload["sessionId"],
        seen[0].peer.caller.session.to_string()
    );
}

#[tokio::test]
async fn a_socket_without_a_token_may_authenticate() {
    let scene = Scene::new();
    let mut client = scene.arrive(None, AckMode::Auto).await;
    client.send(r#"{"type":"ping","id":"p"}"#).await;
    let error = client.text().await;
    assert_eq!(error["replyTo"], "p");
    assert_eq!(error["payload"]["code"], "unauthorized");
    let frame = format!(
        r#"{{"type":"authenticate","id":"a","payload":{{"token":"{}"}}}}"#,
        scene.user
    );
    client.send(&frame).await;
    let success = client.text().await;
    assert_eq!(success["type"], "auth.success");
    assert_eq!(success["replyTo"], "a");
    assert_eq!(success["payload"]["userId"], scene.user.to_string());
    assert_eq!(client.text().await["type"], "connected");
    client.send(r#"{"type":"ping","id":"p"}"#).await;
    assert_eq!(client.text().await["type"], "ping");
}

#[tokio::test]
async fn a_bad_token_is_told_and_closed() {
    let scene = Scene::new();
    let mut client = scene.arrive(None, AckMode::Auto).await;
    client
        .send(r#"{"type":"authenticate","payload":{"token":"nonsense"}}"#)
        .await;
    let failed = client.text().await;
    assert_eq!(failed["type"], "auth.failed");
    assert_eq!(failed["payload"]["code"], "unauthorized");
    assert_eq!(client.close_code().await, 4401);
    scene.ended().await;
}

#[tokio::test]
async fn silence_before_identification_is_closed() {
    let scene = Scene::with(|settings| settings.handshake_timeout = Duration::from_millis(100));
    let mut client = scene.arrive(None, AckMode::Auto).await;
    assert_eq!(client.close_code().await, 4401);
    scene.ended().await;
}

#[tokio::test]
async fn nonsense_before_identification_is_a_policy_violation() {
    for frame in [
        masked(0x81, b"{"),
        masked(0x82, b"{}"),
        masked(0x81, br#"{"type":"ping"}"#).repeat(8),
    ] {
        let scene = Scene::new();
        let mut client = scene.arrive(None, AckMode::Auto).await;
        client.write(&frame).await;
        assert_eq!(client.close_code().await, 1008);
        scene.ended().await;
    }
}

#[tokio::test]
async fn frames_before_identification_are_small() {
    let scene = Scene::new();
    let mut client = scene.arrive(None, AckMode::Auto).await;
    client
        .write(&masked(0x81, &vec![b' '; 9 * 1024 + 1])[..100])
        .await;
    assert_eq!(client.close_code().await, 1009);
    scene.ended().await;
}

#[tokio::test]
async fn the_longest_token_may_be_sent_in_a_frame() {
    let scene = Scene::new();
    let mut client = scene.arrive(None, AckMode::Auto).await;
    let token = "x".repeat(shared::auth::MAX_TOKEN_BYTES);
    let id = "i".repeat(64);
    let frame = format!(r#"{{"type":"authenticate","id":"{id}","payload":{{"token":"{token}"}}}}"#);
    client.send(&frame).await;
    // Looked at, not thrown away for its length.
    assert_eq!(client.text().await["type"], "auth.failed");
    assert_eq!(client.close_code().await, 4401);
}

#[tokio::test]
async fn a_session_that_cannot_be_opened_is_told_why() {
    let scene = Scene::new();
    *scene.host.refuse.lock() = Some(Refusal::new(Code::Unavailable, "redis is away"));
    let mut client = scene
        .arrive(Some(&scene.user.to_string()), AckMode::Auto)
        .await;
    assert_eq!(client.text().await["payload"]["code"], "unavailable");
    assert_eq!(client.close_code().await, 1013);
    scene.ended().await;
}

#[tokio::test]
async fn a_banned_user_is_told_not_to_try_again() {
    let scene = Scene::new();
    *scene.host.refuse.lock() = Some(Refusal::new(Code::Forbidden, "the user is banned"));
    let mut client = scene
        .arrive(Some(&scene.user.to_string()), AckMode::Auto)
        .await;
    assert_eq!(client.text().await["payload"]["code"], "forbidden");
    assert_eq!(client.close_code().await, 4403);
    scene.ended().await;
}

#[tokio::test]
async fn a_node_that_drains_lets_nobody_identify_any_more() {
    let scene = Scene::new();
    let mut client = scene.arrive(None, AckMode::Auto).await;
    scene.host.closing.cancel();
    assert_eq!(client.close_code().await, 1012);
    scene.ended().await;
}
