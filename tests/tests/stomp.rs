//! What only STOMP has, seen from outside; what it has in common with JSON is in `dialects`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use testkit::{Deployment, Socket, SocketOptions, User, socket::stomp::frame, wait::PATIENCE};

use crate::conversations::{expect_message, group, say};

async fn connect(tidegate: &Deployment, node: usize, user: &User, device: &str) -> Socket {
    let options = SocketOptions::bearer(&user.token).device(device).stomp();
    tidegate.connect_with(node, options).await.0
}

/// The next message of a person on a queue.
async fn next_said(socket: &Socket) -> Value {
    let is_said = |frame: &Value| {
        frame["type"] == "message.new" && frame["payload"]["senderType"] != "SYSTEM"
    };
    socket.take("a message", PATIENCE, is_said).await
}

async fn receipt(socket: &Socket, id: &str) {
    let is_it = |frame: &Value| frame["type"] == "receipt" && frame["payload"]["id"] == id;
    socket
        .take(&format!("the receipt {id}"), PATIENCE, is_it)
        .await;
}

#[tokio::test]
async fn both_dialects_hear_each_other() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let id = group(&tidegate, &[&ann, &bob]).await;
    let ann_socket = connect(&tidegate, 0, &ann, "broker").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "app").await;
    let content = "a: \\ b\n\u{e9}";
    let body = json!({"conversationId": id, "content": content}).to_string();
    let headers = [("destination", "/app/chat.send"), ("receipt", "r")];
    ann_socket
        .send_bytes(&frame("SEND", &headers, body.as_bytes()))
        .await;
    receipt(&ann_socket, "r").await;
    let heard = expect_message(&bob_socket, content).await;
    assert_eq!(heard["payload"]["messageType"], "TEXT", "{heard}");
    let said = say(&bob_socket, &id, "and back").await;
    next_said(&ann_socket).await;
    let heard = next_said(&ann_socket).await;
    let headers = &heard["stomp"]["headers"];
    assert_eq!(headers["destination"], "/user/queue/messages", "{heard}");
    assert_eq!(heard["payload"]["messageId"], said.as_str());
    assert_eq!(heard["payload"]["content"], "and back");
}

#[tokio::test]
async fn bytes_of_any_kind_come_through_unchanged() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let id = group(&tidegate, &[&ann, &bob]).await;
    let ann_socket = connect(&tidegate, 0, &ann, "broker").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "app").await;
    let bytes: Vec<u8> = (0..=255).cycle().take(8_000).collect();
    let head = format!(
        "SEND\ndestination:/app/chat.send\ncontent-type:image/png\nconversation-id:{id}\nmessage-type:IMAGE\ncontent-length:{}\n\n",
        bytes.len()
    );
    let whole = [head.as_bytes(), &bytes, b"\0"].concat();
    let (one, two) = whole.split_at(3_000);
    ann_socket.send_binary(one).await;
    ann_socket.send_binary(two).await;
    let heard = next_said(&bob_socket).await;
    assert_eq!(heard["payload"]["messageType"], "IMAGE");
    let content = heard["payload"]["content"].as_str().unwrap();
    let encoded = content
        .strip_prefix("data:image/png;base64,")
        .expect(content);
    assert_eq!(STANDARD.decode(encoded).unwrap(), bytes);
}

#[tokio::test]
async fn a_token_that_does_not_count_is_refused_where_it_stands() {
    let tidegate = Deployment::start().await;
    let address = tidegate.address(0);
    let refused = Socket::open(address, SocketOptions::bearer("a.b.c").stomp()).await;
    assert_eq!(refused.err().expect("refused").status, 401);
    let none = Socket::open(address, SocketOptions::default().stomp()).await;
    let none = none.unwrap_or_else(|refused| panic!("{refused:?}"));
    let error = none.expect("error").await;
    assert_eq!(error["stomp"]["command"], "ERROR", "{error}");
    assert_eq!(error["payload"]["code"], "unauthorized");
    assert_eq!(none.closed().await.code(), Some(4401));
    let by_frame = SocketOptions::default().header("Sec-WebSocket-Protocol", "v11.stomp");
    let by_frame = Socket::open(address, by_frame).await;
    let by_frame = by_frame.unwrap_or_else(|refused| panic!("{refused:?}"));
    let headers = [
        ("accept-version", "1.1"),
        ("host", "h"),
        ("passcode", "a.b.c"),
    ];
    by_frame.send_bytes(&frame("CONNECT", &headers, b"")).await;
    assert_eq!(by_frame.closed().await.code(), Some(4401));
}

#[tokio::test]
async fn what_was_refused_three_times_does_not_come_again() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let id = group(&tidegate, &[&ann, &bob]).await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "app").await;
    say(&ann_socket, &id, "take it").await;
    let subscribe = [
        ("id", "inbox"),
        ("destination", "/user/queue/messages"),
        ("ack", "client-individual"),
    ];
    let headers = [
        ("accept-version", "1.2"),
        ("host", "h"),
        ("passcode", &*bob.token),
        ("device", "broker"),
    ];
    let greeting = [
        frame("CONNECT", &headers, b""),
        frame("SUBSCRIBE", &subscribe, b""),
    ]
    .concat();
    for _ in 0..3 {
        let plain = SocketOptions::default().query("protocol", "stomp");
        let socket = Socket::open(tidegate.address(1), plain).await;
        let socket = socket.unwrap_or_else(|refused| panic!("{refused:?}"));
        socket.send_bytes(&greeting).await;
        let text = |frame: &Value| frame["payload"].as_str().unwrap_or_default().to_owned();
        let is_message = |frame: &Value| text(frame).starts_with("MESSAGE");
        loop {
            let told = text(&socket.take("a message", PATIENCE, is_message).await);
            let id = told.lines().find_map(|line| line.strip_prefix("ack:"));
            let headers = [("id", id.unwrap()), ("receipt", "r")];
            if told.contains("take it") {
                socket.send_bytes(&frame("NACK", &headers, b"")).await;
                break;
            }
            socket.send_bytes(&frame("ACK", &[headers[0]], b"")).await;
        }
        let receipt = |frame: &Value| text(frame).starts_with("RECEIPT");
        socket.take("the receipt", PATIENCE, receipt).await;
        socket.close().await;
    }
    say(&ann_socket, &id, "something else").await;
    let bob_socket = connect(&tidegate, 0, &bob, "broker").await;
    expect_message(&bob_socket, "something else").await;
}

#[tokio::test]
async fn a_message_over_the_limit_ends_its_socket() {
    let tidegate = Deployment::start().await;
    let ann = tidegate.user("ann").await;
    let socket = connect(&tidegate, 0, &ann, "broker").await;
    let headers = [("destination", "/app/chat.send"), ("receipt", "r")];
    let half = frame("SEND", &headers, "x".repeat(70_000).as_bytes());
    for part in half.chunks(40_000) {
        socket.send_binary(part).await;
    }
    let error = socket.expect("error").await;
    assert_eq!(error["payload"]["code"], "too_large", "{error}");
    assert_eq!(socket.closed().await.code(), Some(1009));
    let socket = connect(&tidegate, 0, &ann, "broker").await;
    socket.send_text(&"x".repeat(70_000)).await;
    assert_eq!(socket.closed().await.code(), Some(1009));
}
