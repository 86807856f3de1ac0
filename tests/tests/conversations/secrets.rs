//! What is written stays with those it was written to: encrypted at rest, harmless when shown.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use testkit::{Deployment, Plan, eventually, wait::PATIENCE};

use super::{ask, expect_message, group, say};

fn key(byte: u8) -> String {
    STANDARD.encode([byte; 32])
}

/// All that stands in logs and persist streams, as text.
async fn everything(redis: &testkit::Redis) -> String {
    let mut text = String::new();
    for key in redis.call(&["KEYS", "*"]).await.list() {
        let key = key.text().expect("a name");
        if key.contains(":log:") || key.ends_with(":persist") {
            let log = redis.call(&["XRANGE", &key, "-", "+"]).await;
            write!(text, "{log:?}").unwrap();
        }
    }
    assert!(text.contains("message.new"), "the logs are seen: {text}");
    text
}

#[tokio::test]
async fn what_is_encrypted_stands_nowhere_in_the_clear_and_keys_can_be_changed() {
    let keys = format!(r#"[{{id="k1",key="{}"}}]"#, key(1));
    let plan = Plan::default()
        .with("TIDEGATE_CONTENTS__KEYS", &keys)
        .with("TIDEGATE_CONTENTS__CURRENT", "k1");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let said = say(&ann_socket, &id, "xyzzy-plover").await;
    expect_message(&bob_socket, "xyzzy-plover").await;
    let edit = json!({"messageId": said, "message": "plugh-xyzzy"});
    bob_socket.expect("message.new").await;
    let reply = ann_socket.request("message.edit", edit).await;
    assert_eq!(reply["type"], "message.edited", "{reply}");
    let edited = bob_socket.expect("message.edited").await;
    assert_eq!(edited["payload"]["content"], "plugh-xyzzy", "{edited}");
    assert!(edited["payload"]["sealed"].is_null(), "{edited}");

    let stored = format!(
        "SELECT sealed, content FROM messages WHERE id = '{said}' AND edited_at IS NOT NULL"
    );
    let row = eventually("the edit is stored", PATIENCE, || async {
        let rows = tidegate.database.try_query(&stored).await.ok()?;
        rows.into_iter().next()
    })
    .await;
    assert_eq!(row[0], "k1");
    assert!(!row[1].contains("xyzzy"), "{row:?}");
    assert!(!everything(tidegate.redis()).await.contains("xyzzy"));

    let path = format!("GET /conversations/{id}/messages?limit=1");
    let read = ask(&tidegate, 1, &bob, &path, Value::Null).await;
    assert_eq!(read["items"][0]["content"], "plugh-xyzzy", "{read}");
}

#[tokio::test]
async fn markup_is_cleaned_where_it_is_shown_and_kept_as_it_was_sent() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let sent = "<b>bold</b><script>alert(1)</script> 1 < 2";
    let said = say(&ann_socket, &id, sent).await;
    let shown = "<b>bold</b> 1 &lt; 2";
    expect_message(&bob_socket, shown).await;
    let path = format!("GET /conversations/{id}/messages?limit=1");
    let read = ask(&tidegate, 1, &bob, &path, Value::Null).await;
    assert_eq!(read["items"][0]["content"], shown, "{read}");
    let stored = format!("SELECT content FROM messages WHERE id = '{said}'");
    let row = eventually("it is stored", PATIENCE, || async {
        let rows = tidegate.database.try_query(&stored).await.ok()?;
        rows.into_iter().next()
    })
    .await;
    assert_eq!(row[0], sent);
    let plain = "1 < 2 && 3 > 2, AT&T, <3";
    say(&ann_socket, &id, plain).await;
    expect_message(&bob_socket, plain).await;
}
