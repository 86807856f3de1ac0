//! A session lives as long as the token it was last shown.

use serde_json::json;
use testkit::{Deployment, Dialect, Plan, Socket, SocketOptions, User};

use crate::{support::in_each_dialect, tokens::short_lived};

in_each_dialect!(
    a_new_token_of_the_same_user_prolongs_a_session_and_another_users_does_not,
    the_token_that_counts_is_the_last_one
);

async fn open(tidegate: &Deployment, node: usize, token: &str) -> Socket {
    let (socket, _) = tidegate
        .connect_with(node, SocketOptions::bearer(token))
        .await;
    socket
}

/// The code of what refuses a token on an open socket.
async fn authenticate(socket: &Socket, token: &str) -> Option<String> {
    let reply = socket
        .request("authenticate", json!({"token": token}))
        .await;
    let is_refused = ["error", "auth.failed"]
        .iter()
        .any(|it| reply["type"] == *it);
    assert!(is_refused || reply["type"] == "auth.success", "{reply}");
    let code = reply["payload"]["code"].as_str();
    code.map(str::to_owned)
}

async fn fresh(tidegate: &Deployment, user: &User) -> String {
    let rest = tidegate.gateways[0].rest();
    let refreshed = rest
        .post("/api/v1/auth/refresh", Some(&user.token), &json!({}))
        .await;
    let body = refreshed.expect("the gateway answers").body;
    body["token"].as_str().expect("a token").to_owned()
}

async fn a_new_token_of_the_same_user_prolongs_a_session_and_another_users_does_not(
    dialect: Dialect,
) {
    let plan = Plan::default().gateways(1).workers(0).dialect(dialect);
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let short = short_lived(&ann, 4);
    let ends = open(&tidegate, 0, &short).await;
    let goes_on = open(&tidegate, 0, &short).await;
    let refused = open(&tidegate, 0, &short).await;
    assert_eq!(authenticate(&goes_on, &ann.token).await, None);
    let code = authenticate(&refused, &bob.token).await;
    assert_eq!(code.as_deref(), Some("forbidden"));
    assert!(!refused.is_closed(), "it goes on as it was, and no longer");

    assert_eq!(ends.closed().await.code(), Some(4401));
    assert_eq!(refused.closed().await.code(), Some(4401));
    assert_eq!(goes_on.request("ping", json!({})).await["type"], "pong");
}

async fn the_token_that_counts_is_the_last_one(dialect: Dialect) {
    let tidegate = Deployment::speaking(dialect).await;
    let ann = tidegate.user("ann").await;
    let (first, second) = (fresh(&tidegate, &ann).await, fresh(&tidegate, &ann).await);
    let moved = open(&tidegate, 1, &first).await;
    let stayed = open(&tidegate, 1, &first).await;
    assert_eq!(authenticate(&moved, &second).await, None);
    let logout = async |token: &str| {
        let answer = tidegate.gateways[0].rest().logout(token).await;
        assert!(answer.expect("the gateway answers").status < 300);
    };
    logout(&first).await;
    assert_eq!(stayed.closed().await.code(), Some(4401));
    assert_eq!(moved.request("ping", json!({})).await["type"], "pong");
    logout(&second).await;
    assert_eq!(moved.closed().await.code(), Some(4401));
}
