//! Commands for many, and what users want to see of them, as one node takes requests about them.

use serde_json::{Value, json};
use shared::{
    domain::{
        Broadcast, Category, Code, CommandState, CommandStatus, Digest, DirectoryChange,
        Durability, Kind, MessageId, Topic, UserId,
    },
    postgres::{Audit, CategoryChange},
    redis::{Append, Appended, IdempotencyKey},
};
use uuid::Uuid;

use crate::{
    desk::Desk,
    support::{Ask, PATIENCE, publish_to},
};

fn to_many(content: &str, tags: &[&str]) -> Value {
    json!({
        "commandType": "message", "content": content, "broadcast": "category",
        "categories": tags,
    })
}

fn to_one(user: UserId, content: &str, tags: &[&str]) -> Value {
    json!({
        "commandType": "message", "content": content, "targetUser": user, "categories": tags,
    })
}

fn by_id(accepted: &Value) -> Value {
    json!({ "commandId": accepted["commandId"] })
}

fn contents(page: &Value) -> Vec<&str> {
    let commands = page["commands"].as_array().unwrap().iter();
    commands
        .map(|command| command["content"].as_str().unwrap())
        .collect()
}

impl Desk {
    async fn three(&self) -> [UserId; 3] {
        [
            self.world.user("anna").await,
            self.world.user("bert").await,
            self.world.user("carl").await,
        ]
    }

    async fn blocks(&self, user: UserId, tags: &[&str]) -> Value {
        let chosen = json!({ "blockedCategories": tags });
        self.answer(user, None, "preferences.update", chosen).await
    }

    async fn queue(&self, user: UserId) -> Value {
        self.answer(user, None, "command.queue", json!({})).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_reaches_whoever_wants_it_and_a_retry_changes_nothing() {
    let desk = Desk::open().await;
    let [anna, bert, carl] = desk.three().await;
    desk.blocks(carl, &["feet"]).await;
    let bert_client = Ask::of(bert).client(&desk.app.fanout).await;
    let carl_client = Ask::of(carl).client(&desk.app.fanout).await;
    let many = |content: &str| to_many(content, &["feet", "mild"]);
    let first = desk
        .answer(anna, Some("r1"), "command.create", many("a"))
        .await;
    assert_eq!(first["status"], "pending");
    let again = desk
        .answer(anna, Some("r1"), "command.create", many("a"))
        .await;
    assert_eq!(first, again);
    let mut allcast = many("a");
    allcast["broadcast"] = json!("allcast");
    for other in [many("b"), to_one(bert, "a", &["feet", "mild"])] {
        let code = desk
            .refusal(anna, Some("r1"), "command.create", other)
            .await;
        assert_eq!(code, Code::Conflict);
    }
    assert_eq!(
        desk.refusal(anna, None, "command.create", allcast).await,
        Code::Forbidden,
    );
    desk.answer(anna, None, "command.create", to_many("b", &["mild"]))
        .await;
    bert_client.hears(&["a", "b"]).await;
    carl_client.hears(&["b"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_it_reaches_completes_a_broadcast_for_themselves() {
    let desk = Desk::open().await;
    let [anna, bert, carl] = desk.three().await;
    desk.blocks(carl, &["feet"]).await;
    let created = desk
        .answer(anna, None, "command.create", to_many("do it", &["feet"]))
        .await;
    let done = desk
        .answer(bert, None, "command.complete", by_id(&created))
        .await;
    assert_eq!(done["commandId"], created["commandId"]);
    let again = desk
        .answer(bert, None, "command.complete", by_id(&created))
        .await;
    assert_eq!(done, again);
    // Not changed by a later choice: it is done.
    desk.blocks(bert, &["feet"]).await;
    let again = desk
        .answer(bert, None, "command.complete", by_id(&created))
        .await;
    assert_eq!(done, again);
    // Others still have it, whoever is kept from it has not.
    desk.answer(anna, None, "command.complete", by_id(&created))
        .await;
    let in_an_hour = desk.app.store.clock().now().0 + 3_600_000;
    let later = UserId(Uuid::from_u128(
        (in_an_hour as u128) << 80 | 7 << 76 | 2 << 62,
    ));
    for stranger in [carl, later] {
        let refused = desk
            .refusal(stranger, None, "command.complete", by_id(&created))
            .await;
        assert_eq!(refused, Code::NotFound);
    }
    desk.blocks(carl, &[]).await;
    desk.answer(carl, None, "command.complete", by_id(&created))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_its_sender_takes_a_broadcast_back() {
    let desk = Desk::open().await;
    let [anna, bert, carl] = desk.three().await;
    desk.blocks(carl, &["feet"]).await;
    let created = desk
        .answer(anna, None, "command.create", to_many("oh", &["feet"]))
        .await;
    for (user, code) in [(bert, Code::Forbidden), (carl, Code::NotFound)] {
        let refused = desk
            .refusal(user, None, "command.cancel", by_id(&created))
            .await;
        assert_eq!(refused, code);
    }
    assert_eq!(contents(&desk.queue(bert).await), ["oh"]);
    let cancelled = desk
        .answer(anna, None, "command.cancel", by_id(&created))
        .await;
    assert_eq!(
        cancelled,
        json!({
            "commandId": created["commandId"], "status": "cancelled", "at": cancelled["at"],
            "broadcast": "category",
        }),
    );
    assert!(cancelled["at"].is_string());
    assert!(contents(&desk.queue(bert).await).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_is_not_taken_back() {
    let desk = Desk::open().await;
    let anna = desk.world.user("anna").await;
    let created = desk
        .answer(anna, None, "command.create", to_many("oh", &["feet"]))
        .await;
    let id: MessageId = created["commandId"].as_str().unwrap().parse().unwrap();
    // As a worker does, but without taking it from the log.
    let state = CommandState::Expired;
    let told = CommandStatus {
        command_id: id,
        recipient_id: None,
        status: state,
        broadcast: Some(Broadcast::Category),
        categories: vec!["feet".parse::<Category>().unwrap()],
        at: None,
    };
    let end = Append::new(
        Topic::Broadcast,
        Kind::CommandStatus,
        serde_json::to_vec(&told).unwrap(),
        IdempotencyKey::end_of(id, None),
        Digest::of(state.as_str().as_bytes()),
        Durability::Memory,
    );
    let appended = desk.app.store.append(end).await.unwrap();
    assert!(matches!(appended, Appended::New { .. }));
    let refused = desk
        .refusal(anna, None, "command.cancel", by_id(&created))
        .await;
    assert_eq!(refused, Code::Conflict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_one_list_of_what_is_wanted_now() {
    let desk = Desk::open().await;
    let [anna, bert, _] = desk.three().await;
    let mut ids = Vec::new();
    for (number, tag) in ["feet", "mild", "feet", "mild", "feet", "mild"]
        .into_iter()
        .enumerate()
    {
        let content = number.to_string();
        let body = if number % 3 == 0 {
            to_one(bert, &content, &[tag])
        } else {
            to_many(&content, &[tag])
        };
        ids.push(desk.answer(anna, None, "command.create", body).await);
    }
    let whole = desk.queue(bert).await;
    assert_eq!(contents(&whole), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(whole["commands"][1]["broadcast"], "category");
    assert_eq!(whole["commands"][1]["status"], "pending");

    let (mut listed, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let query = json!({ "limit": 2, "cursor": cursor });
        let page = desk.answer(bert, None, "command.queue", query).await;
        listed.extend(contents(&page).into_iter().map(str::to_owned));
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(
        listed,
        ["0", "1", "2", "3", "4", "5"],
        "each once, in order"
    );

    desk.blocks(bert, &["mild"]).await;
    assert_eq!(contents(&desk.queue(bert).await), ["0", "2", "4"]);
    for done in [0, 2] {
        desk.answer(bert, None, "command.complete", by_id(&ids[done]))
            .await;
    }
    assert_eq!(contents(&desk.queue(bert).await), ["4"]);
    desk.blocks(bert, &[]).await;
    assert_eq!(contents(&desk.queue(bert).await), ["1", "3", "4", "5"]);

    // What cannot be read is passed over, and the rest is listed.
    let unreadable = "{\"content\":\"poison\",".to_owned();
    for topic in [Topic::Broadcast, Topic::User(bert)] {
        publish_to(&desk.app.store, topic, Kind::CommandNew, unreadable.clone()).await;
    }
    assert_eq!(contents(&desk.queue(bert).await), ["1", "3", "4", "5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_registers_later_has_no_earlier_broadcasts() {
    let desk = Desk::open().await;
    let anna = desk.world.user("anna").await;
    desk.answer(anna, None, "command.create", to_many("early", &["mild"]))
        .await;
    let in_an_hour = desk.app.store.clock().now().0 + 3_600_000;
    let later = UserId(Uuid::from_u128(
        (in_an_hour as u128) << 80 | 7 << 76 | 2 << 62,
    ));
    assert!(contents(&desk.queue(later).await).is_empty());
    assert_eq!(contents(&desk.queue(anna).await), ["early"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_choice_is_an_entry_that_every_device_hears() {
    let desk = Desk::open().await;
    let [anna, bert, _] = desk.three().await;
    let client = Ask::of(anna).client(&desk.app.fanout).await;
    let nothing = json!({ "blockedCategories": [], "allowedCategories": [] });
    let get = async |user| desk.answer(user, None, "preferences.get", json!({})).await;
    assert_eq!(get(anna).await, nothing);
    let chosen = json!({ "blockedCategories": ["feet"], "allowedCategories": ["mild", "feet"] });
    let update = |id: &'static str, body: Value| {
        let desk = &desk;
        async move {
            desk.answer(anna, Some(id), "preferences.update", body)
                .await
        }
    };
    let answer = update("p1", chosen.clone()).await;
    let sorted = json!({ "blockedCategories": ["feet"], "allowedCategories": ["feet", "mild"] });
    assert_eq!(answer, sorted);
    assert_eq!(update("p1", chosen.clone()).await, sorted);
    assert_eq!(get(anna).await, sorted);
    assert_eq!(get(bert).await, nothing, "not somebody else's");
    client.sees(1).await;
    let other = json!({ "blockedCategories": [] });
    let code = desk
        .refusal(anna, Some("p1"), "preferences.update", other.clone())
        .await;
    assert_eq!(code, Code::Conflict);
    assert_eq!(
        update("p2", other).await,
        nothing,
        "what is absent is empty"
    );
    client.sees(2).await;
    assert_eq!(client.seen.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_category_is_refused_in_new_commands_only() {
    let desk = Desk::open().await;
    let [anna, bert, _] = desk.three().await;
    let first = desk
        .answer(anna, Some("r1"), "command.create", to_many("a", &["feet"]))
        .await;
    let retired = CategoryChange {
        title: None,
        retired: Some(true),
    };
    let what = Audit {
        actor: None,
        action: "test".to_owned(),
        target: "categories/feet".to_owned(),
        details: json!({}),
        request_id: None,
        address: None,
    };
    let postgres = &desk.world.postgres;
    let feet: Category = "feet".parse().unwrap();
    let changed = postgres.change_category(&feet, &retired, &what).await;
    changed.unwrap().unwrap();
    desk.app.directory.hear(&DirectoryChange::Categories);
    testkit::eventually("the node knows", PATIENCE, async || {
        let categories = desk.app.directory.categories().ok()?;
        let feet = categories.iter().find(|it| it.name.as_str() == "feet")?;
        feet.retired_at.map(|_| ())
    })
    .await;

    for body in [
        to_many("b", &["feet"]),
        to_one(bert, "b", &["mild", "feet"]),
    ] {
        let refused = desk.refusal(anna, None, "command.create", body).await;
        assert_eq!(refused, Code::BadRequest);
    }
    // What was accepted stays so, and can still be chosen against.
    let again = desk
        .answer(anna, Some("r1"), "command.create", to_many("a", &["feet"]))
        .await;
    assert_eq!(first, again);
    assert_eq!(contents(&desk.queue(bert).await), ["a"]);
    desk.blocks(bert, &["feet"]).await;
    assert!(contents(&desk.queue(bert).await).is_empty());
    let never = json!({ "blockedCategories": ["never-one"] });
    let refused = desk.refusal(bert, None, "preferences.update", never).await;
    assert_eq!(refused, Code::BadRequest);
}
