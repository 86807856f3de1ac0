//! Sockets that ask for too much, too often or for what is not theirs, and their neighbours.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Deployment, Plan, Socket, User, socket::stomp, wait::PATIENCE};

use crate::{
    conversations::{ask, group},
    signals::Tongue,
};

/// Subscribes once more, without waiting for what comes of it.
async fn subscribe(tongue: Tongue, socket: &Socket, id: &str, turn: u32) {
    let frame = match tongue {
        Tongue::Json => {
            let filters = json!({"conversation_id": id});
            let payload = json!({"topics": ["conversation", "typing"], "filters": filters});
            json!({"type": "subscribe", "payload": payload})
        }
        Tongue::Events => {
            // Always another set than before.
            let topics = json!([{"kind": "conversation", "id": id}]);
            let topics = if turn.is_multiple_of(2) {
                topics
            } else {
                json!([])
            };
            json!({"type": "client.system.subscribe", "data": {"topics": topics}})
        }
        Tongue::Stomp => {
            let (name, destination) = (turn.to_string(), format!("/topic/conversation/{id}"));
            let headers = [("id", name.as_str()), ("destination", &destination)];
            let frame = stomp::frame("SUBSCRIBE", &headers, b"");
            return socket.send_bytes(&frame).await;
        }
    };
    socket.send_text(&frame.to_string()).await;
}

/// A message is heard by a socket of the user that listens.
async fn is_heard(tidegate: &Deployment, tongue: Tongue, socket: &Socket, by: &User, room: &str) {
    let what = format!("POST /conversations/{room}/messages");
    let said = ask(tidegate, 0, by, &what, json!({"content": "hello"})).await;
    let is_it = |frame: &Value| frame.to_string().contains(said["id"].as_str().unwrap());
    socket
        .take(&format!("{tongue:?} hears it"), PATIENCE, is_it)
        .await;
}

#[tokio::test]
async fn who_floods_with_subscriptions_is_closed_and_its_neighbours_hear_everything() {
    let plan = Plan::default()
        .with("TIDEGATE_SESSION__FRAMES_PER_SECOND", "20")
        .with("TIDEGATE_SESSION__FRAMES_BURST", "40");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let room = group(&tidegate, &[&ann, &bob]).await;
    let foreign = group(&tidegate, &[&ann]).await;
    let floods = Tongue::ALL.map(async |tongue| {
        let (flooding, quiet) = tokio::join!(
            tongue.open(&tidegate, 0, &bob.token),
            tongue.open(&tidegate, 0, &bob.token)
        );
        let refused = tongue
            .listen(&quiet, &[], std::slice::from_ref(&room))
            .await;
        assert!(refused.is_empty());
        let mut turn = 0_u32;
        while !flooding.is_closed() {
            turn += 1;
            let id = if turn.is_multiple_of(3) {
                &foreign
            } else {
                &room
            };
            subscribe(tongue, &flooding, id, turn).await;
            if turn.is_multiple_of(200) {
                is_heard(&tidegate, tongue, &quiet, &ann, &room).await;
            }
            // Well above the limit, and no more than that.
            flooding.closed_by(Duration::from_millis(5)).await;
        }
        assert_eq!(flooding.closed().await.code(), Some(4429), "{tongue:?}");
        is_heard(&tidegate, tongue, &quiet, &ann, &room).await;
    });
    let [one, two, three] = floods;
    tokio::join!(one, two, three);
}
