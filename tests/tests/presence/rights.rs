//! Who may see whom, from the first moment to the last.

use serde_json::{Value, json};
use testkit::{Deployment, Socket, User, eventually, wait::PATIENCE};

use super::{brisk, expect_told, group, is_presence, query, watch};
use crate::conversations::ask;

/// Whom a wish was refused, by user.
async fn refused(socket: &Socket, users: &[&User]) -> Vec<String> {
    let ids: Vec<&str> = users.iter().map(|user| user.id.as_str()).collect();
    let payload = json!({"topics": ["presence"], "filters": {"user_ids": ids}});
    let reply = socket.request("subscribe", payload).await;
    assert_eq!(reply["type"], "subscribed", "{reply}");
    let refused = reply["payload"]["refused"].as_array().unwrap().iter();
    let named = refused.map(|it| {
        assert_eq!(
            (&it["topic"], &it["code"]),
            (&json!("presence"), &json!("forbidden")),
            "{it}"
        );
        it["userId"].as_str().unwrap().to_owned()
    });
    named.collect()
}

#[tokio::test]
async fn contacts_see_each_other_and_others_do_not() {
    let tidegate = Deployment::start_with(brisk()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let eve = tidegate.user("eve").await;
    group(&tidegate, &[&ann, &bob]).await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let nobody = User {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
        ..eve.clone()
    };
    assert_eq!(
        refused(&ann_socket, &[&ann, &bob, &eve, &nobody]).await,
        [eve.id.as_str(), &nobody.id],
        "who does not exist is not told from who may not be seen"
    );
    let state = query(&ann_socket, &[&bob, &eve, &nobody]).await;
    assert_eq!(state["users"].as_array().unwrap().len(), 1);
    let hidden = json!([{"userId": eve.id, "code": "forbidden"}, {"userId": nobody.id, "code": "forbidden"}]);
    assert_eq!(state["refused"], hidden);
    let path = format!("GET /users/{}", eve.id);
    let (eve_socket, _) = tidegate.connect(1, &eve, "phone").await;
    eve_socket.close().await;
    let stored = "select count(*) from users where last_seen_at is not null";
    tidegate.until_stored("eve was seen", stored, 1).await;
    let profile = ask(&tidegate, 0, &ann, &path, Value::Null).await;
    assert_eq!(profile["lastSeenAt"], Value::Null, "not by ann");
    let told = ann_socket.waiting();
    let of_eve = |frame: &&Value| is_presence(frame) && frame["payload"]["userId"] == eve.id;
    assert_eq!(told.iter().find(of_eve), None);
}

#[tokio::test]
async fn anyone_may_see_anyone_who_exists_if_the_setting_says_so() {
    let plan = brisk().with("TIDEGATE_PRESENCE__VISIBILITY", "anyone");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let nobody = User {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
        ..bob.clone()
    };
    assert_eq!(refused(&ann_socket, &[&nobody]).await, [nobody.id.as_str()]);
    watch(&ann_socket, &bob).await;
    let (_bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    expect_told(&ann_socket, &bob, "presence.online", "online").await;
}

#[tokio::test]
async fn nobody_sees_others_if_the_setting_says_so() {
    let plan = brisk().with("TIDEGATE_PRESENCE__VISIBILITY", "nobody");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    group(&tidegate, &[&ann, &bob]).await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    assert_eq!(refused(&ann_socket, &[&bob]).await, [bob.id.as_str()]);
    let own = watch(&ann_socket, &ann).await;
    assert_eq!(own["payload"]["status"], "online", "but themselves: {own}");
    let reply = ann_socket
        .request("subscribe", json!({"topics": ["presence"]}))
        .await;
    assert_eq!(reply["payload"]["refused"], json!([]), "{reply}");
    let state = query(&ann_socket, &[&ann, &bob]).await;
    assert_eq!(state["users"][0]["userId"], ann.id.as_str(), "{state}");
    assert_eq!(state["refused"][0]["userId"], bob.id.as_str(), "{state}");
}

#[tokio::test]
async fn who_shares_no_conversation_any_more_is_not_watched_any_more() {
    let tidegate = Deployment::start_with(brisk()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let cid = tidegate.user("cid").await;
    let conversation = group(&tidegate, &[&ann, &bob, &cid]).await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (cid_socket, _) = tidegate.connect(1, &cid, "laptop").await;
    watch(&ann_socket, &bob).await;
    watch(&ann_socket, &cid).await;
    let reply = cid_socket
        .request("subscribe", json!({"topics": ["presence"]}))
        .await;
    assert_eq!(reply["type"], "subscribed", "{reply}");

    let path = format!(
        "DELETE /conversations/{conversation}/participants/{}",
        bob.id
    );
    ask(&tidegate, 0, &bob, &path, Value::Null).await;
    for socket in [&ann_socket, &cid_socket] {
        let lost = socket.expect("unsubscribed").await;
        let payload = json!({"topics": ["presence"], "filters": {"user_ids": [bob.id]}});
        assert_eq!(lost["payload"], payload, "{lost}");
    }
    let seen = |socket: &Socket| {
        let of_bob = |frame: &&Value| is_presence(frame) && frame["payload"]["userId"] == bob.id;
        socket.waiting().iter().find(of_bob).cloned()
    };
    let before = (
        seen(&ann_socket),
        seen(&cid_socket).map(|it| it["payload"]["status"].clone()),
    );
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    bob_socket.close().await;
    let stored = format!(
        "select count(*) from users where id = '{}' and last_seen_at is not null",
        bob.id
    );
    tidegate.until_stored("bob came and went", &stored, 1).await;
    // The others are still watched, and what was to be told of bob would have come before.
    cid_socket
        .request("user.status", json!({"status": "busy"}))
        .await;
    expect_told(&ann_socket, &cid, "presence.update", "busy").await;
    let after = (
        seen(&ann_socket),
        seen(&cid_socket).map(|it| it["payload"]["status"].clone()),
    );
    assert_eq!(before, after);
    eventually("nobody watches bob", PATIENCE, || async {
        let watched = tidegate.gateways[0]
            .metric("tidegate_presence_watched_users")
            .await;
        (watched == Some(1.0)).then_some(())
    })
    .await;
}
