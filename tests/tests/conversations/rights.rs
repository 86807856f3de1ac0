//! Who may not: from the first moment on, on every node.

use serde_json::{Value, json};
use testkit::{Deployment, Plan};

use super::{ask, expect_change, expect_message, group, refused, say};
use crate::support::assert_error;

#[tokio::test]
async fn nobody_writes_reads_or_follows_where_they_do_not_take_part() {
    let tidegate = Deployment::start().await;
    let [ann, bob, eve] = [
        tidegate.user("ann").await,
        tidegate.user("bob").await,
        tidegate.user("eve").await,
    ];
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (eve_socket, _) = tidegate.connect(1, &eve, "phone").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let said = say(&ann_socket, &id, "a secret").await;

    for (name, payload) in [
        (
            "chat.message",
            json!({"conversationId": id, "message": "hi"}),
        ),
        ("mark.read", json!({"conversationId": id, "upTo": said})),
        ("typing.start", json!({"conversationId": id})),
        ("message.edit", json!({"messageId": said, "message": "x"})),
        ("message.delete", json!({"messageId": said})),
    ] {
        let reply = eve_socket.request(name, payload).await;
        assert_error(&reply, "forbidden");
    }
    for topic in ["conversation", "typing"] {
        let wish = json!({"topics": [topic], "filters": {"conversation_id": id}});
        let reply = eve_socket.request("subscribe", wish).await;
        assert_eq!(reply["type"], "subscribed", "{reply}");
        let expected = json!([{"topic": topic, "code": "forbidden"}]);
        assert_eq!(reply["payload"]["refused"], expected, "{reply}");
    }
    let path = format!("/conversations/{id}");
    for what in [
        format!("GET {path}"),
        format!("GET {path}/messages"),
        format!("POST {path}/archive"),
    ] {
        let (status, code) = refused(&tidegate, &eve, &what, Value::Null).await;
        assert_eq!((status, &*code), (403, "forbidden"), "{what}");
    }
    say(&ann_socket, &id, "another").await;
    expect_message(&ann_socket, "a secret").await;
    expect_message(&ann_socket, "another").await;
    assert_eq!(eve_socket.count("message.new"), 0);
    let nowhere = "01890a5d-ac96-774b-bcce-b302099a8057";
    let payload = json!({"conversationId": nowhere, "message": "hi"});
    assert_error(
        &eve_socket.request("chat.message", payload).await,
        "not_found",
    );
}

#[tokio::test]
async fn who_was_removed_gets_nothing_that_comes_after() {
    let tidegate = Deployment::start().await;
    let [ann, bob, cat] = [
        tidegate.user("ann").await,
        tidegate.user("bob").await,
        tidegate.user("cat").await,
    ];
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    for round in 0..10 {
        let (cat_socket, _) = tidegate.connect(1, &cat, &format!("phone{round}")).await;
        let id = group(&tidegate, &[&ann, &bob, &cat]).await;
        let wish =
            json!({"topics": ["conversation", "typing"], "filters": {"conversation_id": id}});
        let reply = cat_socket.request("subscribe", wish).await;
        assert_eq!(reply["payload"]["refused"], json!([]), "{reply}");
        let path = format!("/conversations/{id}");
        let remove = format!("DELETE {path}/participants/{}", cat.id);
        ask(&tidegate, 0, &ann, &remove, Value::Null).await;
        // Without a pause: the right counts no longer as soon as the answer is there.
        let after = say(&ann_socket, &id, "after").await;
        let read = json!({"conversationId": id, "upTo": after});
        ann_socket.request("mark.read", read).await;
        expect_change(&cat_socket, "removed").await;
        let told = cat_socket.expect("unsubscribed").await;
        assert_eq!(told["payload"]["filters"]["conversation_id"], id.as_str());
        let payload = json!({"conversationId": id, "message": "me too"});
        assert_error(
            &cat_socket.request("chat.message", payload).await,
            "forbidden",
        );
        expect_message(&ann_socket, "after").await;
        for kind in ["message.read", "typing.start"] {
            assert_eq!(cat_socket.count(kind), 0);
        }
        let got = cat_socket.waiting();
        let after = |frame: &Value| frame["payload"]["content"] == "after";
        assert!(!got.iter().any(after), "{got:?}");
        cat_socket.close().await;
    }
}

#[tokio::test]
async fn an_archived_conversation_can_be_read_and_not_written_to() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let said = say(&bob_socket, &id, "before").await;
    let typing = json!({"conversationId": id});
    let reply = bob_socket.request("typing.start", typing.clone()).await;
    assert_eq!(reply["type"], "typing.start", "{reply}");

    let path = format!("/conversations/{id}");
    ask(
        &tidegate,
        0,
        &ann,
        &format!("POST {path}/archive"),
        Value::Null,
    )
    .await;
    expect_change(&bob_socket, "archived").await;

    for (name, payload) in [
        ("typing.start", typing),
        (
            "chat.message",
            json!({"conversationId": id, "message": "hi"}),
        ),
        ("message.edit", json!({"messageId": said, "message": "x"})),
    ] {
        assert_error(&bob_socket.request(name, payload).await, "forbidden");
    }
    let read = ask(
        &tidegate,
        1,
        &bob,
        &format!("GET {path}/messages"),
        Value::Null,
    )
    .await;
    let contents = read["items"].as_array().unwrap();
    assert!(
        contents.iter().any(|it| it["content"] == "before"),
        "{read}"
    );
    // What was read may still be said.
    let reply = bob_socket
        .request("mark.read", json!({"conversationId": id, "upTo": said}))
        .await;
    assert_eq!(reply["type"], "message.read", "{reply}");

    ask(
        &tidegate,
        1,
        &ann,
        &format!("POST {path}/unarchive"),
        Value::Null,
    )
    .await;
    say(&bob_socket, &id, "again").await;
    expect_message(&ann_socket, "before").await;
    expect_message(&ann_socket, "again").await;
}

#[tokio::test]
async fn who_is_muted_or_banned_does_not_write() {
    let tidegate = Deployment::start().await;
    let [ann, bob, cat] = [
        tidegate.user("ann").await,
        tidegate.user("bob").await,
        tidegate.user("cat").await,
    ];
    let root = crate::staff::with_role(&tidegate, "root", "admin").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let id = group(&tidegate, &[&ann, &bob, &cat]).await;
    let member = format!("PATCH /conversations/{id}/participants/{}", bob.id);
    let until = json!({"mutedUntil": "2099-01-01T00:00:00Z"});
    let (status, _) = refused(&tidegate, &cat, &member, until.clone()).await;
    assert_eq!(status, 403, "only administrators of the conversation mute");
    ask(&tidegate, 0, &ann, &member, until).await;
    let payload = json!({"conversationId": id, "message": "hi"});
    let reply = bob_socket.request("chat.message", payload.clone()).await;
    assert_error(&reply, "forbidden");
    ask(&tidegate, 0, &ann, &member, json!({"mutedUntil": null})).await;
    say(&bob_socket, &id, "free again").await;

    let ban = format!("PATCH /admin/users/{}", bob.id);
    ask(&tidegate, 0, &root, &ban, json!({"status": "banned"})).await;
    assert_eq!(bob_socket.closed().await.code(), Some(4403));
}

#[tokio::test]
async fn only_administrators_of_a_group_manage_it_and_there_always_is_one() {
    let tidegate = Deployment::start().await;
    let [ann, bob, cat] = [
        tidegate.user("ann").await,
        tidegate.user("bob").await,
        tidegate.user("cat").await,
    ];
    let id = group(&tidegate, &[&ann, &bob]).await;
    let path = format!("/conversations/{id}");
    for (what, body) in [
        (
            format!("POST {path}/participants"),
            json!({"userId": cat.id}),
        ),
        (
            format!("DELETE {path}/participants/{}", ann.id),
            Value::Null,
        ),
        (
            format!("PATCH {path}/participants/{}", bob.id),
            json!({"role": "ADMIN"}),
        ),
        (format!("PATCH {path}"), json!({"title": "mine"})),
        (format!("POST {path}/archive"), Value::Null),
    ] {
        let (status, code) = refused(&tidegate, &bob, &what, body).await;
        assert_eq!((status, &*code), (403, "forbidden"), "{what}");
    }
    let leave = format!("DELETE {path}/participants/{}", ann.id);
    ask(&tidegate, 0, &ann, &leave, Value::Null).await;
    let one = ask(&tidegate, 1, &bob, &format!("GET {path}"), Value::Null).await;
    assert_eq!(one["participants"][0]["userId"], bob.id.as_str(), "{one}");
    assert_eq!(one["participants"][0]["role"], "ADMIN", "{one}");

    let direct = json!({"type": "DIRECT", "participantIds": [cat.id]});
    let direct = ask(&tidegate, 0, &bob, "POST /conversations", direct).await;
    let path = format!("/conversations/{}", direct["id"].as_str().unwrap());
    for (what, body) in [
        (
            format!("POST {path}/participants"),
            json!({"userId": ann.id}),
        ),
        (
            format!("DELETE {path}/participants/{}", bob.id),
            Value::Null,
        ),
        (format!("PATCH {path}"), json!({"title": "mine"})),
    ] {
        let (status, code) = refused(&tidegate, &bob, &what, body).await;
        assert_eq!((status, &*code), (409, "conflict"), "{what}");
    }
}

#[tokio::test]
async fn a_message_is_changed_by_its_sender_for_a_while_and_by_moderators() {
    let plan = Plan::default().with("TIDEGATE_MESSAGES__EDIT_WINDOW", "3s");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let root = crate::staff::with_role(&tidegate, "root", "admin").await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let (root_socket, _) = tidegate.connect(1, &root, "desk").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let said = say(&bob_socket, &id, "helo").await;
    let edit = |text: &str| json!({"messageId": said, "message": text});
    let delete = json!({"messageId": said});

    assert_error(
        &ann_socket.request("message.edit", edit("mine")).await,
        "forbidden",
    );
    let reply = bob_socket.request("message.edit", edit("hello")).await;
    assert_eq!(reply["type"], "message.edited", "{reply}");
    let edited = ann_socket.expect("message.edited").await;
    assert_eq!(edited["payload"]["messageId"], said.as_str());
    assert_eq!(edited["payload"]["content"], "hello");
    assert!(edited["payload"]["editedAt"].is_string(), "{edited}");

    // The clock that counts is that of Redis; the window is over when it says so.
    let late = testkit::eventually("the window is over", testkit::wait::PATIENCE, || async {
        let reply = bob_socket.request("message.edit", edit("too late")).await;
        (reply["type"] == "error").then_some(reply)
    });
    assert_error(&late.await, "forbidden");
    assert_error(
        &bob_socket.request("message.delete", delete.clone()).await,
        "forbidden",
    );
    // An administrator of the group deletes, and does not put words into anybody's mouth.
    assert_error(
        &ann_socket.request("message.edit", edit("mine")).await,
        "forbidden",
    );
    let reply = root_socket.request("message.edit", edit("moderated")).await;
    assert_eq!(reply["type"], "message.edited", "{reply}");
    let reply = ann_socket.request("message.delete", delete).await;
    assert_eq!(reply["type"], "message.deleted", "{reply}");
    let deleted = bob_socket.expect("message.deleted").await;
    assert_eq!(deleted["payload"]["messageId"], said.as_str());
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_told_and_the_socket_lives() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let long = "x".repeat(16 * 1024 + 1);
    for (payload, code) in [
        (json!({"conversationId": id, "message": long}), "too_large"),
        (json!({"conversationId": id, "message": ""}), "bad_request"),
        (json!({"conversationId": id}), "bad_request"),
        (json!({"message": "hi"}), "bad_request"),
        (
            json!({"conversationId": "x", "message": "hi"}),
            "bad_request",
        ),
        (
            json!({"conversationId": id, "targetUser": bob.id, "message": "hi"}),
            "bad_request",
        ),
        (
            json!({"targetUser": ann.id, "message": "hi"}),
            "bad_request",
        ),
        (
            json!({"conversationId": id, "message": "hi", "messageType": "SYSTEM"}),
            "bad_request",
        ),
    ] {
        let reply = socket.request("chat.message", payload.clone()).await;
        assert_error(&reply, code);
    }
    let made_up = "01890a5d-ac96-774b-bcce-b302099a8057";
    for (name, payload, code) in [
        (
            "mark.read",
            json!({"conversationId": id, "upTo": made_up}),
            "not_found",
        ),
        ("mark.read", json!({"conversationId": id}), "bad_request"),
        (
            "message.edit",
            json!({"messageId": made_up, "message": "x"}),
            "not_found",
        ),
        ("message.delete", json!({"messageId": "x"}), "bad_request"),
    ] {
        assert_error(&socket.request(name, payload).await, code);
    }
    let full = "y".repeat(16 * 1024);
    say(&socket, &id, &full).await;
    expect_message(&socket, &full).await;
}

#[tokio::test]
async fn a_retry_gets_its_first_answer_whatever_has_happened_since() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (socket, _) = tidegate.connect(1, &bob, "phone").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let message = json!({"conversationId": id, "message": "hello"});
    let said = socket
        .request_as("say", "chat.message", message.clone())
        .await;
    let other = say(&socket, &id, "something else").await;
    let of = |message: &Value| json!({"messageId": message, "message": "changed"});
    let first = &said["payload"]["messageId"];
    let edited = socket.request_as("edit", "message.edit", of(first)).await;
    assert_eq!(edited["type"], "message.edited", "{edited}");
    let another = socket
        .request_as("edit", "message.edit", of(&json!(other)))
        .await;
    assert_error(&another, "conflict");
    let delete = json!({"messageId": first, "conversationId": id});
    let deleted = socket
        .request_as("delete", "message.delete", delete.clone())
        .await;
    assert_eq!(deleted["type"], "message.deleted", "{deleted}");
    let mut late = of(first);
    for place in [Value::Null, json!(id)] {
        late["conversationId"] = place;
        assert_error(
            &socket.request("message.edit", late.clone()).await,
            "not_found",
        );
    }
    let member = format!("PATCH /conversations/{id}/participants/{}", bob.id);
    let until = json!({"mutedUntil": "2099-01-01T00:00:00Z"});
    ask(&tidegate, 0, &ann, &member, until).await;

    for (name, request, payload, answer) in [
        ("say", "chat.message", message, &said),
        ("edit", "message.edit", of(first), &edited),
        ("delete", "message.delete", delete, &deleted),
    ] {
        let again = socket.request_as(name, request, payload).await;
        assert_eq!(again["payload"], answer["payload"], "{again}");
    }
    let payload = json!({"conversationId": id, "message": "new"});
    assert_error(&socket.request("chat.message", payload).await, "forbidden");
    expect_change(&ann_socket, "muted").await;
    assert_eq!(ann_socket.count("message.edited"), 1);
    assert_eq!(ann_socket.count("message.deleted"), 1);
}
