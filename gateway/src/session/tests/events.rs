//! Sessions in a dialect that answers little and refuses by closing.

use super::{host::FOREIGN, *};
use crate::fanout;

const OPEN: &str = r#"{"type":"client.system.subscribe","data":{"topics":[]}}"#;

impl Scene {
    fn events(change: impl FnOnce(&mut Settings)) -> Self {
        Self {
            dialect: DialectId::Events,
            ..Self::with(change)
        }
    }

    /// An open session: nothing says so.
    async fn silent(&self, lives: Duration) -> Client {
        let token = token(self.user, lives);
        let client = self.arrive(Some(&token), AckMode::Auto).await;
        eventually("the session is open", || !self.host.seen.lock().is_empty()).await;
        client
    }
}

#[tokio::test]
async fn who_has_no_good_token_is_closed_at_once() {
    let scene = Scene::events(|_| {});
    let mut client = scene.arrive(None, AckMode::Auto).await;
    assert_eq!(
        client.next().await,
        Got::Close(4401),
        "and nothing before it"
    );
    drop(client);
    scene.ended().await;
    assert!(scene.host.seen.lock().is_empty());
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let scene = Scene::events(|_| {});
    let mut client = scene.silent(Duration::from_millis(300)).await;
    assert_eq!(client.close_code().await, 4401);
    scene.ended().await;
}

#[tokio::test]
async fn only_a_malformed_first_frame_ends_a_socket() {
    let scene = Scene::events(|_| {});
    let mut client = scene.silent(Duration::from_hours(1)).await;
    client.send("SUBSCRIBE").await;
    assert_eq!(client.text().await["type"], "server.system.error");
    assert_eq!(client.close_code().await, 1008);

    scene.host.seen.lock().clear();
    let mut client = scene.silent(Duration::from_hours(1)).await;
    client.send(OPEN).await;
    assert_eq!(client.text().await["type"], "server.presence.batch");
    client.send("SUBSCRIBE").await;
    let error = client.text().await;
    assert_eq!(error["type"], "server.system.error");
    assert_eq!(error["data"]["code"], "bad_request");
    // Who could make it a session of another user is not even asked.
    client
        .send(r#"{"type":"authenticate","id":"a","data":{"token":"x"}}"#)
        .await;
    let error = client.text().await;
    assert_eq!(error["data"]["code"], "unknown_type");
    assert_eq!(error["id"], "a");
}

#[tokio::test]
async fn what_may_not_be_heard_is_named_and_the_rest_is_silence() {
    let scene = Scene::events(|_| {});
    let mut client = scene.silent(Duration::from_hours(1)).await;
    let subscribe = |first: Uuid| {
        let topics =
            [first, FOREIGN.0].map(|id| serde_json::json!({"kind": "conversation", "id": id}));
        let data = serde_json::json!({"topics": topics});
        serde_json::json!({"type": "client.system.subscribe", "data": data}).to_string()
    };
    for first in 1..=3 {
        client.send(&subscribe(Uuid::from_u128(first))).await;
        let error = client.text().await;
        let message = error["data"]["message"].as_str().unwrap();
        assert!(message.contains(&FOREIGN.to_string()), "{error}");
        let sign = client.text().await;
        assert_eq!(
            sign["type"], "server.presence.batch",
            "behind what is refused"
        );
        assert_eq!(sign["data"], serde_json::json!({"users": []}));
    }
    let typing = serde_json::json!({"conversationId": FOREIGN, "isTyping": true});
    let typing = serde_json::json!({"type": "client.messenger.typing", "data": typing});
    client.send(&typing.to_string()).await;
    client.send(r#"{"type":"last"}"#).await;
    assert_eq!(client.text().await["data"]["code"], "unknown_type");
}

#[tokio::test]
async fn a_node_that_goes_away_says_so_by_its_close_code_only() {
    let scene = Scene::events(|_| {});
    let mut client = scene.silent(Duration::from_hours(1)).await;
    let reconnect_after = Duration::from_secs(1);
    scene
        .outbox()
        .request_close(fanout::CloseReason::Draining { reconnect_after });
    assert_eq!(client.next().await, Got::Close(1012));
}

#[tokio::test]
async fn who_only_repeats_a_subscription_does_nothing() {
    let scene = Scene::events(|settings| {
        settings.away_after = Duration::from_millis(100);
        settings.frame_rate = FrameRate {
            per_second: 1_000_000,
            burst: 1_000_000,
        };
    });
    let mut client = scene.silent(Duration::from_hours(1)).await;
    let told = || scene.host.activities.lock().clone();
    // One topic is refused each time: that is no news, either.
    let subscribe = |user: u128| {
        let topics = [Uuid::from_u128(user), FOREIGN.0]
            .map(|id| serde_json::json!({"kind": "conversation", "id": id}));
        let data = serde_json::json!({"topics": topics});
        serde_json::json!({"type": "client.system.subscribe", "data": data}).to_string()
    };
    let mut asked = 0;
    while told().is_empty() {
        client.send(&subscribe(1)).await;
        while client.text().await["type"] != "server.presence.batch" {}
        asked += 1;
        assert!(asked < 50_000, "who repeats it is never away");
    }
    assert!(asked > 1);
    client.send(&subscribe(1)).await;
    client.send(OPEN).await;
    eventually("another one is news", || told() == [true, false]).await;
}
