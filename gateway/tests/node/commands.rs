use serde_json::{Value, json};
use shared::domain::{Code, Timestamp, UserId};
use uuid::Uuid;

use crate::{
    desk::Desk,
    support::{Ask, PATIENCE},
};

fn create(to: UserId, content: &str) -> Value {
    json!({
        "commandType": "message", "content": content, "broadcast": "user",
        "targetUser": to, "categories": ["news"],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_reaches_its_recipient_and_a_retry_changes_nothing() {
    let desk = Desk::open().await;
    let [anna, bert, carl] = [
        desk.world.user("anna").await,
        desk.world.user("bert").await,
        desk.world.user("carl").await,
    ];
    let client = Ask::of(bert).client(&desk.app.fanout).await;
    let first = desk
        .answer(anna, Some("r1"), "command.create", create(bert, "hello"))
        .await;
    assert_eq!(first["status"], "pending");
    let again = desk
        .answer(anna, Some("r1"), "command.create", create(bert, "hello"))
        .await;
    assert_eq!(first, again);
    let code = desk
        .refusal(anna, Some("r1"), "command.create", create(bert, "other"))
        .await;
    assert_eq!(code, Code::Conflict);
    let code = desk
        .refusal(anna, Some("r1"), "command.create", create(carl, "hello"))
        .await;
    assert_eq!(code, Code::Conflict);
    // Another sender's id is another id; no id is always new.
    desk.answer(
        carl,
        Some("r1"),
        "command.create",
        create(bert, "from carl"),
    )
    .await;
    desk.answer(anna, None, "command.create", create(bert, "hello"))
        .await;
    client.sees(3).await;
    assert_eq!(client.seen.texts(), ["hello", "from carl", "hello"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_gets_the_first_answer_though_the_command_has_expired() {
    let desk = Desk::open().await;
    let [anna, bert] = [desk.world.user("anna").await, desk.world.user("bert").await];
    let expires = desk.app.store.clock().now().0 + 500;
    let expiring = |content: &str| {
        let mut body = create(bert, content);
        body["expiresAt"] = json!(Timestamp(expires));
        body
    };
    let first = desk
        .answer(anna, Some("r1"), "command.create", expiring("hello"))
        .await;
    testkit::eventually("its time passes", PATIENCE, async || {
        (desk.app.store.clock().now().0 > expires).then_some(())
    })
    .await;
    let again = desk
        .answer(anna, Some("r1"), "command.create", expiring("hello"))
        .await;
    assert_eq!(first, again);
    for (id, content, code) in [
        (Some("r1"), "other", Code::Conflict),
        (Some("r2"), "hello", Code::BadRequest),
        (None, "hello", Code::BadRequest),
    ] {
        let refused = desk
            .refusal(anna, id, "command.create", expiring(content))
            .await;
        assert_eq!(refused, code, "{id:?} {content}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_tells_what_waits_page_by_page() {
    let desk = Desk::open().await;
    let [anna, bert] = [desk.world.user("anna").await, desk.world.user("bert").await];
    for number in 0..5 {
        desk.answer(
            anna,
            None,
            "command.create",
            create(bert, &number.to_string()),
        )
        .await;
    }
    let client = Ask::of(bert).client(&desk.app.fanout).await;
    client.sees(5).await;
    drop(client);
    testkit::eventually(
        "the cursor is written",
        crate::support::PATIENCE,
        async || {
            let at = desk.world.store.furthest_cursor(bert).await.ok()?;
            (at.offset > 0).then_some(())
        },
    )
    .await;
    desk.answer(anna, None, "command.create", create(bert, "5"))
        .await;

    let page = desk
        .answer(bert, None, "command.queue", json!({ "limit": 4 }))
        .await;
    let contents = |page: &Value| -> Vec<String> {
        let commands = page["commands"].as_array().unwrap();
        commands
            .iter()
            .map(|command| command["content"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(contents(&page), ["0", "1", "2", "3"]);
    assert_eq!(page["commands"][0]["status"], "delivered");
    assert_eq!(page["commands"][0]["senderName"], "anna");
    let rest = json!({ "limit": 4, "cursor": page["nextCursor"] });
    let page = desk.answer(bert, None, "command.queue", rest).await;
    assert_eq!(contents(&page), ["4", "5"]);
    assert_eq!(page["commands"][1]["status"], "pending");
    assert_eq!(page.get("nextCursor"), None);
    let pending = desk
        .answer(bert, None, "command.queue", json!({ "status": "pending" }))
        .await;
    assert_eq!(contents(&pending), ["5"]);
    let delivered = desk
        .answer(
            bert,
            None,
            "command.queue",
            json!({ "status": "delivered" }),
        )
        .await;
    assert_eq!(contents(&delivered).len(), 5);
    let completed = desk
        .answer(
            bert,
            None,
            "command.queue",
            json!({ "status": "completed" }),
        )
        .await;
    assert!(contents(&completed).is_empty());
    let since = json!({ "since": "2999-01-01T00:00:00Z" });
    assert!(contents(&desk.answer(bert, None, "command.queue", since).await).is_empty());

    // Completed, it no longer waits.
    let id = pending["commands"][0]["commandId"].clone();
    let done = desk
        .answer(bert, None, "command.complete", json!({ "commandId": id }))
        .await;
    assert_eq!(done["commandId"], id);
    assert!(done["completedAt"].is_string());
    let pending = desk
        .answer(bert, None, "command.queue", json!({ "status": "pending" }))
        .await;
    assert!(contents(&pending).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_of_a_new_command_has_its_code() {
    let desk = Desk::open().await;
    let [anna, bert] = [desk.world.user("anna").await, desk.world.user("bert").await];
    let with = |field: &str, value: Value| {
        let mut body = create(bert, "hello");
        body[field] = value;
        body
    };
    let long = "é".repeat(8192);
    desk.answer(anna, None, "command.create", with("content", json!(long)))
        .await;
    let tags: Vec<_> = (0..16).map(|n| format!("tag_{n}-x")).collect();
    desk.answer(
        anna,
        None,
        "command.create",
        with("categories", json!(tags)),
    )
    .await;
    desk.answer(
        anna,
        None,
        "command.create",
        with("data", json!({"a": [1, null]})),
    )
    .await;
    desk.answer(
        anna,
        None,
        "command.create",
        with("durability", json!("memory")),
    )
    .await;
    let soon = shared::domain::Timestamp(desk.app.store.clock().now().0 + 60_000).to_string();
    desk.answer(anna, None, "command.create", with("expiresAt", json!(soon)))
        .await;
    let far =
        shared::domain::Timestamp(desk.app.store.clock().now().0 + 15 * 86_400_000).to_string();
    let seventeen: Vec<_> = (0..17).map(|n| format!("t{n}")).collect();
    let file = json!([{ "hash": "00", "filename": "a" }]);
    for (body, code) in [
        (with("content", json!(format!("{long}!"))), Code::TooLarge),
        (with("content", Value::Null), Code::BadRequest),
        (with("content", json!(7)), Code::BadRequest),
        (with("commandType", json!("order")), Code::BadRequest),
        (with("commandType", Value::Null), Code::BadRequest),
        (with("broadcast", json!("allcast")), Code::BadRequest),
        (with("broadcast", json!("category")), Code::BadRequest),
        (with("broadcast", json!("nobody")), Code::BadRequest),
        (with("targetUser", Value::Null), Code::BadRequest),
        (with("targetUser", json!("bert")), Code::BadRequest),
        (with("targetUser", json!(Uuid::now_v7())), Code::NotFound),
        (with("categories", json!(seventeen)), Code::BadRequest),
        (with("categories", json!(["No"])), Code::BadRequest),
        (with("categories", json!([""])), Code::BadRequest),
        (with("categories", json!(["unknown"])), Code::BadRequest),
        (
            with("categories", json!(["a".repeat(33)])),
            Code::BadRequest,
        ),
        (with("files", file), Code::BadRequest),
        (with("expiresAt", json!("tomorrow")), Code::BadRequest),
        (
            with("expiresAt", json!("2020-01-01T00:00:00Z")),
            Code::BadRequest,
        ),
        (with("expiresAt", json!(far)), Code::BadRequest),
        (with("durability", json!("eternal")), Code::BadRequest),
        (json!({}), Code::BadRequest),
    ] {
        assert_eq!(
            desk.refusal(anna, None, "command.create", body.clone())
                .await,
            code,
            "{body}"
        );
    }
    // A refusal is not remembered.
    let wrong = with("targetUser", json!(Uuid::now_v7()));
    assert_eq!(
        desk.refusal(anna, Some("x"), "command.create", wrong).await,
        Code::NotFound
    );
    desk.answer(anna, Some("x"), "command.create", create(bert, "now"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_final_state_counts() {
    let desk = Desk::open().await;
    let [anna, bert] = [desk.world.user("anna").await, desk.world.user("bert").await];
    let created = desk
        .answer(anna, None, "command.create", create(bert, "do it"))
        .await;
    let by_id = json!({ "commandId": created["commandId"] });
    // Not the recipient's to the sender, and without a worker the record does not know it.
    assert_eq!(
        desk.refusal(anna, None, "command.complete", by_id.clone())
            .await,
        Code::NotFound
    );
    let done = desk
        .answer(bert, None, "command.complete", by_id.clone())
        .await;
    assert_eq!(done["commandId"], created["commandId"]);
    let unknown = json!({ "commandId": Uuid::from_u128(1) });
    for name in ["command.complete", "command.cancel"] {
        assert_eq!(
            desk.refusal(bert, None, name, unknown.clone()).await,
            Code::NotFound
        );
        assert_eq!(
            desk.refusal(bert, None, name, json!({ "commandId": "x" }))
                .await,
            Code::BadRequest
        );
        assert_eq!(
            desk.refusal(bert, None, name, json!({})).await,
            Code::BadRequest
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_requests_are_answered_and_unknown_ones_refused() {
    let desk = Desk::open().await;
    let anna = desk.world.user("anna").await;
    assert_eq!(desk.answer(anna, None, "ping", json!({})).await, json!({}));
    let beat = desk
        .answer(anna, None, "heartbeat", json!({ "timestamp": 12 }))
        .await;
    assert_eq!(beat["timestamp"], 12);
    assert!(beat["serverTime"].as_str().unwrap().ends_with('Z'));
    // What asks for nothing but an answer gets it without an id, too; the rest does not.
    for (name, body, always) in [
        ("ping", json!({}), true),
        ("heartbeat", json!({}), true),
        ("command.queue", json!({}), true),
        ("command.create", create(anna, "to herself"), false),
    ] {
        let reply = desk.ask(anna, None, name, &body).await.unwrap();
        assert_eq!(reply.always, always, "{name}");
    }
    assert_eq!(
        desk.refusal(anna, None, "no.such", json!({})).await,
        Code::UnknownType
    );
}
