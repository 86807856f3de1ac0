//! Sockets that are not told of calls: nobody rings there.

use testkit::{
    Deployment, Socket, SocketOptions, eventually, socket::stomp::frame, wait::PATIENCE,
};

use super::{call, ended, told};

/// What a STOMP socket begins with that hears of no calls.
const OTHERS: &[&str] = &["errors", "notifications"];
const CALLS: [(&str, &str); 2] = [("id", "calls"), ("destination", "/user/queue/calls")];

async fn subscribe(socket: &Socket) {
    let headers = [&CALLS[..], &[("receipt", "now")]].concat();
    let subscribe = frame("SUBSCRIBE", &headers, b"");
    socket.send_bytes(&subscribe).await;
    let receipt = socket.expect("receipt").await;
    assert_eq!(receipt["payload"]["id"], "now", "{receipt}");
}

#[tokio::test]
async fn who_has_only_sockets_that_hear_no_calls_is_offline() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let events = SocketOptions::default().query("token", &bob.token).events();
    let events = Socket::open(tidegate.address(1), events).await;
    let events = events.unwrap_or_else(|refused| panic!("upgrade refused: {refused:?}"));
    // Its answer comes when the session is open.
    let nothing =
        serde_json::json!({"type": "client.system.subscribe", "data": {"topics": []}, "ts": 0});
    events.send(&nothing).await;
    events.expect("server.presence.batch").await;
    let id = call(&caller, &bob).await;
    ended(&caller, &id, "offline").await;

    let broker = SocketOptions::bearer(&bob.token).stomp().queues(OTHERS);
    let (broker, _) = tidegate.connect_with(0, broker).await;
    let id = call(&caller, &bob).await;
    ended(&caller, &id, "offline").await;

    subscribe(&broker).await;
    let id = call(&caller, &bob).await;
    told(&broker, "call.offer", &id).await;
    // Nobody is left who could answer.
    let unsubscribe = frame("UNSUBSCRIBE", &CALLS[..1], b"");
    broker.send_bytes(&unsubscribe).await;
    ended(&caller, &id, "disconnected").await;
    eventually("it hears of no calls", PATIENCE, || async {
        let id = call(&caller, &bob).await;
        let over = told(&caller, "call.ended", &id).await;
        (over["reason"] == "offline").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_socket_that_begins_to_hear_calls_while_it_rings_rings_too() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let broker = SocketOptions::bearer(&bob.token).stomp().queues(OTHERS);
    let (broker, _) = tidegate.connect_with(0, broker.device("desk")).await;
    let id = call(&caller, &bob).await;
    told(&phone, "call.offer", &id).await;
    assert_eq!(broker.count("call.incoming"), 0, "it did not ask for calls");
    subscribe(&broker).await;
    told(&broker, "call.incoming", &id).await;
    told(&broker, "call.offer", &id).await;
}
