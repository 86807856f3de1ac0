//! What nodes write about sockets and requests, at the default level.

use serde_json::Value;
use testkit::{Deployment, Plan, Socket, SocketOptions, eventually, node::Node, wait::PATIENCE};

use crate::support::send;

/// The first line with this message that fits.
async fn line(node: &Node, message: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("a line: {message}"), PATIENCE, || async {
        let log = node.log();
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["message"] == message && fits(line))
    })
    .await
}

#[tokio::test]
async fn lines_about_sockets_carry_their_ids_and_no_secrets() {
    let tidegate = Deployment::start_with(Plan::default().gateways(1).workers(0)).await;
    let gateway = &tidegate.gateways[0];
    let ann = tidegate.user("ann").await;
    let (socket, connected) = tidegate.connect(0, &ann, "phone").await;
    let session = connected["sessionId"].clone();
    let opened = line(gateway, "session opened", |line| line["session"] == session).await;
    assert_eq!(opened["user"], ann.id.as_str(), "{opened}");
    send(&socket, &ann, "a whispered word").await;
    socket.close().await;
    let ended = line(gateway, "session ended", |line| line["session"] == session).await;
    assert_eq!(ended["reason"], "client", "{ended}");

    let bad = SocketOptions::bearer("a.forged.token");
    let refused = Socket::try_open(tidegate.address(0), bad).await;
    assert!(refused.is_ok_and(|opened| opened.is_err()), "it was let in");
    let refused = line(gateway, "upgrade refused", |line| line["status"] == 401).await;
    assert_eq!(refused["code"], "unauthorized", "{refused}");
    assert!(refused["session"].is_string(), "{refused}");

    let options = SocketOptions::default();
    let late = Socket::try_open(tidegate.address(0), options)
        .await
        .unwrap()
        .unwrap();
    let authenticate =
        serde_json::json!({"type": "authenticate", "payload": {"token": "b.forged.token"}});
    late.send(&authenticate).await;
    late.expect("auth.failed").await;
    let refused = line(gateway, "token refused", |line| line["session"].is_string()).await;
    assert!(refused["reason"].is_string(), "{refused}");

    let log = gateway.log();
    for secret in ["forged", ann.token.as_str(), "whispered"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
