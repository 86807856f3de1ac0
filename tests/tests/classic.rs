//! The four cases that everybody asks about first, in each dialect: a token that is none, a
//! conversation one is not in, a recipient who is away, a message that is too large.

use serde_json::json;
use testkit::{Deployment, Dialect, Plan, Socket, SocketOptions};

use crate::{
    conversations::{expect_message, group, say},
    support::{assert_error, expect_content, expect_status, in_each_dialect, message, send},
    tokens::bad_tokens,
};

const CONTENT_BYTES: usize = 16 * 1024;
const FRAME_BYTES: usize = 64 * 1024;

in_each_dialect!(a_bad_token_opens_no_session);
async fn a_bad_token_opens_no_session(dialect: Dialect) {
    let plan = Plan::default().gateways(1).workers(0).dialect(dialect);
    let tidegate = Deployment::start_with(plan).await;
    let ann = tidegate.user("ann").await;
    let (neighbour, _) = tidegate.connect(0, &ann, "laptop").await;
    let options = || SocketOptions::default().dialect(dialect);
    for (name, token) in bad_tokens(&ann) {
        if !token.is_empty() {
            let upgrade = options().header("Authorization", &format!("Bearer {token}"));
            let opened = Socket::open(tidegate.address(0), upgrade).await;
            let status = opened.err().map(|refused| refused.status);
            assert_eq!(status, Some(401), "{name}");
        }
        // Or upgraded without one, and in the first frame.
        let options = options().connect_header("passcode", &token);
        let opened = Socket::open(tidegate.address(0), options).await;
        let socket = opened.unwrap_or_else(|refused| panic!("{name}: {refused:?}"));
        let failed = match dialect {
            Dialect::Json => {
                let payload = json!({"token": token});
                socket.request("authenticate", payload).await
            }
            Dialect::Stomp | Dialect::Events => socket.expect("error").await,
        };
        let code = &failed["payload"]["code"];
        assert_eq!(code, "unauthorized", "{name}: {failed}");
        assert_eq!(socket.closed().await.code(), Some(4401), "{name}");
        assert_eq!(socket.count("connected"), 0, "{name}");
    }
    assert_eq!(neighbour.request("ping", json!({})).await["type"], "pong");
}

in_each_dialect!(nothing_is_said_in_a_conversation_by_who_is_not_in_it);
async fn nothing_is_said_in_a_conversation_by_who_is_not_in_it(dialect: Dialect) {
    let tidegate = Deployment::speaking(dialect).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let eve = tidegate.user("eve").await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let (eve_socket, _) = tidegate.connect(1, &eve, "phone").await;
    let id = group(&tidegate, &[&ann, &bob]).await;

    let payload = json!({"conversationId": id, "message": "let me in"});
    let refused = eve_socket.request("chat.message", payload).await;
    assert_error(&refused, "forbidden");
    let nowhere = "01890a5d-ac96-774b-bcce-b302099a8057";
    let payload = json!({"conversationId": nowhere, "message": "anybody?"});
    let refused = eve_socket.request("chat.message", payload).await;
    assert_error(&refused, "not_found");

    say(&ann_socket, &id, "among ourselves").await;
    for socket in [&ann_socket, &bob_socket] {
        expect_message(socket, "among ourselves").await;
    }
    assert_eq!(eve_socket.request("ping", json!({})).await["type"], "pong");
    assert_eq!(eve_socket.count("message.new"), 0);
}

in_each_dialect!(a_recipient_who_is_away_gets_everything_at_the_next_connect);
async fn a_recipient_who_is_away_gets_everything_at_the_next_connect(dialect: Dialect) {
    let tidegate = Deployment::speaking(dialect).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let cat = tidegate.user("cat").await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let id = group(&tidegate, &[&ann, &bob, &cat]).await;
    say(&ann_socket, &id, "seen").await;
    expect_message(&phone, "seen").await;
    // What is confirmed with this, and was written before it, does not come again.
    let confirmed = send(&ann_socket, &bob, "confirmed").await;
    expect_content(&phone, "confirmed").await;
    expect_status(&ann_socket, &confirmed, "delivered").await;
    phone.close().await;

    for text in ["one", "two", "three"] {
        say(&ann_socket, &id, text).await;
        send(&ann_socket, &bob, text).await;
    }
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    let (first, _) = tidegate.connect(1, &cat, "phone").await;
    say(&ann_socket, &id, "live").await;
    // Cat was never here, and has all that was said since she takes part.
    expect_message(&first, "seen").await;
    for text in ["one", "two", "three", "live"] {
        expect_message(&phone, text).await;
        expect_message(&first, text).await;
    }
    for text in ["one", "two", "three"] {
        expect_content(&phone, text).await;
    }
    assert_eq!(phone.count("command.new"), 0, "{:?}", phone.waiting());
}

in_each_dialect!(what_is_too_large_is_refused_and_harms_nobody);
async fn what_is_too_large_is_refused_and_harms_nobody(dialect: Dialect) {
    let tidegate = Deployment::speaking(dialect).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (ann_phone, _) = tidegate.connect(0, &ann, "phone").await;
    let (bob_socket, _) = tidegate.connect(0, &bob, "phone").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let said = |bytes: usize| json!({"conversationId": id, "message": "x".repeat(bytes)});

    // A content: the request is refused, the socket lives.
    let refused = ann_socket.request("chat.message", said(CONTENT_BYTES + 1));
    assert_error(&refused.await, "too_large");
    let large = message(&bob, &"x".repeat(CONTENT_BYTES + 1));
    let refused = ann_socket.request("command.create", large).await;
    assert_error(&refused, "too_large");
    let largest = ann_socket.request("chat.message", said(CONTENT_BYTES));
    assert_eq!(largest.await["type"], "chat.accepted");
    expect_message(&bob_socket, &"x".repeat(CONTENT_BYTES)).await;

    // A frame: the end of its socket, and of no other.
    let frame = json!({"type": "chat.message", "id": "large", "payload": said(FRAME_BYTES)});
    ann_socket.send(&frame).await;
    assert_eq!(ann_socket.closed().await.code(), Some(1009));
    say(&ann_phone, &id, "still here").await;
    // The next that came, so nothing of the others did.
    expect_message(&bob_socket, "still here").await;
    assert_eq!(bob_socket.count("command.new"), 0);
}
