//! What administrators keep, against a real Postgres. Each test has a database of its own.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::json;
use shared::{
    domain::{Category, Digest, GroupName, UserId},
    postgres::*,
};

use testkit::Database;
use uuid::Uuid;

/// A database with the schema.
struct Record {
    database: Database,
    postgres: Postgres,
}

impl Record {
    async fn new() -> Self {
        let database = Database::create("directory").await;
        let postgres = Postgres::new(&database.url(), 4, Duration::from_secs(5)).unwrap();
        postgres.migrate().await.unwrap();
        Self { database, postgres }
    }

    /// How a connection of the pool would answer a question.
    async fn plan(&self, question: &str, types: &str, arguments: &str) -> String {
        let plan = format!(
            "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
             SET plan_cache_mode = force_generic_plan; \
             PREPARE asked({types}) AS {question}; EXPLAIN EXECUTE asked({arguments})"
        );
        format!("{:?}", self.database.query(&plan).await)
    }
}

fn user() -> UserId {
    UserId(Uuid::now_v7())
}

fn audit(target: &str) -> Audit {
    Audit {
        actor: None,
        action: "test".to_owned(),
        target: target.to_owned(),
        details: json!({"a": 1}),
        request_id: Some("r-1".to_owned()),
        address: Some("192.0.2.1".to_owned()),
    }
}

fn tag(name: &str) -> Category {
    name.parse().unwrap()
}

fn group(name: &str) -> GroupName {
    name.parse().unwrap()
}

async fn person(record: &Record, name: &str) -> UserId {
    let id = user();
    record.postgres.create_user(id, name, "hash").await.unwrap();
    id
}

#[tokio::test]
async fn an_empty_table_is_seeded_once() {
    let record = Record::new().await;
    let seed = ["general", "adult"].map(|name| (tag(name), name.to_uppercase()));
    let (one, other) = tokio::join!(
        record.postgres.seed_categories(&seed),
        record.postgres.seed_categories(&seed)
    );
    assert_eq!(one.unwrap() + other.unwrap(), 2);
    let more = [(tag("late"), "Late".to_owned())];
    assert_eq!(record.postgres.seed_categories(&more).await.unwrap(), 0);
    let names: Vec<_> = record.postgres.categories().await.unwrap();
    assert_eq!(names[0].name.as_str(), "adult");
    assert_eq!((names.len(), &*names[1].title), (2, "GENERAL"));
}

#[tokio::test]
async fn a_category_is_made_renamed_retired_and_used_again() {
    let record = Record::new().await;
    let pg = &record.postgres;
    let key = |key: &str, body: &str| RequestKey {
        scope: "anna".to_owned(),
        key: key.to_owned(),
        digest: Digest::of(body.as_bytes()),
    };
    let make = async |name: &str, key: Option<&RequestKey>| {
        pg.create_category(&tag(name), "Art", key, &audit(name))
            .await
            .unwrap()
    };
    let first = key("k1", "art");
    let Created::Done(made) = make("art", Some(&first)).await else {
        panic!("not made");
    };
    // The same request again is the same answer and does nothing; another under its key is not.
    assert_eq!(make("art", Some(&first)).await, Created::Done(made.clone()));
    assert_eq!(
        make("music", Some(&key("k1", "music"))).await,
        Created::OtherRequest
    );
    assert_eq!(make("art", None).await, Created::Taken);
    // What was refused is not remembered.
    let second = key("k2", "art");
    assert_eq!(make("art", Some(&second)).await, Created::Taken);
    assert_eq!(make("art", Some(&second)).await, Created::Taken);
    assert_eq!(pg.audit_log(None, 10).await.unwrap().len(), 1);

    let change = async |title: Option<&str>, retired| {
        let change = CategoryChange {
            title: title.map(str::to_owned),
            retired,
        };
        pg.change_category(&tag("art"), &change, &audit("art"))
            .await
            .unwrap()
            .unwrap()
    };
    assert_eq!(change(Some("Fine arts"), None).await.title, "Fine arts");
    let retired = change(None, Some(true)).await;
    assert!(retired.retired_at.is_some());
    assert_eq!(change(None, Some(true)).await, retired, "since when stays");
    assert_eq!(change(None, None).await, retired);
    assert_eq!(change(None, Some(false)).await.retired_at, None);
    let none = pg
        .change_category(&tag("none"), &CategoryChange::default(), &audit("x"))
        .await;
    assert_eq!(none.unwrap(), None);
}

#[tokio::test]
async fn a_key_is_free_again_after_a_day() {
    let record = Record::new().await;
    let request = |body: &[u8]| RequestKey {
        scope: "s".into(),
        key: "k".into(),
        digest: Digest::of(body),
    };
    let make = async |name: &str, key: RequestKey| {
        let pg = &record.postgres;
        pg.create_category(&tag(name), "t", Some(&key), &audit(name))
            .await
            .unwrap()
    };
    assert!(matches!(make("a", request(b"a")).await, Created::Done(_)));
    assert_eq!(make("b", request(b"b")).await, Created::OtherRequest);
    record
        .database
        .query("UPDATE idempotency_keys SET at = at - interval '25 hours'")
        .await;
    assert!(matches!(make("b", request(b"b")).await, Created::Done(_)));
    assert_eq!(make("c", request(b"c")).await, Created::OtherRequest);
}

#[tokio::test]
async fn members_have_the_rights_of_their_groups() {
    let record = Record::new().await;
    let pg = &record.postgres;
    let ann = person(&record, "ann").await;
    let may = async || pg.user_by_id(ann).await.unwrap().unwrap().may_allcast;
    let add = async |name: &str, user| {
        pg.add_member(&group(name), user, &audit(name))
            .await
            .unwrap()
    };
    assert_eq!(add("crew", ann).await, MemberChange::NoGroup);
    pg.put_group(&group("crew"), false, &audit("crew"))
        .await
        .unwrap();
    assert_eq!(add("crew", user()).await, MemberChange::NoUser);
    assert_eq!(add("crew", ann).await, MemberChange::Done);
    assert_eq!(add("crew", ann).await, MemberChange::Done);
    assert!(!may().await);
    pg.put_group(&group("crew"), true, &audit("crew"))
        .await
        .unwrap();
    assert!(may().await);
    let members = pg.members(&group("crew"), None, 10).await.unwrap().unwrap();
    assert_eq!((members.len(), &*members[0].username), (1, "ann"));
    assert_eq!(
        pg.members(&group("crew"), Some(ann), 10).await.unwrap(),
        Some(vec![])
    );
    assert_eq!(pg.members(&group("none"), None, 10).await.unwrap(), None);
    let remove = async || {
        pg.remove_member(&group("crew"), ann, &audit("crew"))
            .await
            .unwrap()
    };
    assert_eq!(remove().await, MemberChange::Done);
    assert_eq!(remove().await, MemberChange::NoMember);
    assert!(!may().await);
    let names: Vec<_> = pg.groups(None, 10).await.unwrap();
    assert_eq!((names.len(), names[0].may_allcast), (1, true));
    assert!(pg.groups(Some("crew"), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn users_are_listed_by_prefix_in_pages() {
    let record = Record::new().await;
    for name in ["Anna", "anNe", "bob", "an_x", "ANTON", "A"] {
        person(&record, name).await;
    }
    let list = async |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        let found = record.postgres.users(prefix, after, limit).await.unwrap();
        found.into_iter().map(|user| user.username).collect()
    };
    assert_eq!(
        list("An", None, 10).await,
        ["an_x", "Anna", "anNe", "ANTON"]
    );
    assert_eq!(list("an", None, 2).await, ["an_x", "Anna"]);
    assert_eq!(list("an", Some("anna"), 10).await, ["anNe", "ANTON"]);
    assert_eq!(list("", None, 10).await.len(), 6);
    assert!(list("%", None, 10).await.is_empty());
}

#[tokio::test]
async fn one_active_administrator_always_remains() {
    let record = Record::new().await;
    let pg = &record.postgres;
    let (ann, bob) = (person(&record, "ann").await, person(&record, "bob").await);
    let change = async |id, role, status| {
        let change = UserChange { role, status };
        pg.change_user(id, change, |_| true, &audit("u"))
            .await
            .unwrap()
    };
    let (admin, plain) = (Some(Role::Admin), Some(Role::User));
    change(ann, admin, None).await;
    change(bob, admin, None).await;
    // Both at once: one of them stays.
    let (one, other) = tokio::join!(change(ann, plain, None), change(bob, plain, None));
    let kept = [&one, &other].map(|it| *it == UserChanged::LastAdmin);
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 1);
    let last = if kept[0] { ann } else { bob };
    let banned = change(last, None, Some(UserStatus::Banned)).await;
    assert_eq!(banned, UserChanged::LastAdmin);
    assert_eq!(change(user(), None, None).await, UserChanged::NoUser);
    let refused = pg
        .change_user(ann, UserChange::default(), |_| false, &audit("u"))
        .await;
    assert_eq!(refused.unwrap(), UserChanged::Forbidden);
    assert_eq!(
        pg.audit_log(None, 10).await.unwrap().len(),
        3,
        "what was done"
    );
}

#[tokio::test]
async fn the_audit_log_is_paged_newest_first() {
    let record = Record::new().await;
    for number in 0..5 {
        let what = audit(&number.to_string());
        record.postgres.audit(&what, "forbidden").await.unwrap();
    }
    let page = record.postgres.audit_log(None, 3).await.unwrap();
    let targets: Vec<_> = page.iter().map(|it| &*it.what.target).collect();
    assert_eq!(targets, ["4", "3", "2"]);
    assert_eq!(page[0].outcome, "forbidden");
    assert_eq!(page[0].what.details, json!({"a": 1}));
    let rest = record
        .postgres
        .audit_log(Some(page[2].id), 3)
        .await
        .unwrap();
    assert_eq!(rest.len(), 2);
}

#[tokio::test]
async fn questions_about_the_directory_use_indexes() {
    let record = Record::new().await;
    for (question, types, arguments, index) in [
        (
            r#"SELECT id FROM users WHERE lower(username) COLLATE "C" >= $1
               AND lower(username) COLLATE "C" > $2 AND lower(username) COLLATE "C" < $3
               ORDER BY lower(username) COLLATE "C" LIMIT 5"#,
            "text, text, text",
            "'a', '', 'b'",
            "users_by_name",
        ),
        (
            "SELECT EXISTS (SELECT FROM users WHERE role = 'admin' AND status = 'active' AND id <> $1)",
            "uuid",
            "'00000000-0000-0000-0000-000000000000'",
            "users_admins",
        ),
        (
            "SELECT user_id FROM user_groups WHERE group_name = $1 AND user_id > $2 ORDER BY user_id LIMIT 5",
            "text, uuid",
            "'a', '00000000-0000-0000-0000-000000000000'",
            "user_groups_members",
        ),
    ] {
        let plan = record.plan(question, types, arguments).await;
        assert!(plan.contains(index), "{plan}");
        assert!(!plan.contains("Seq Scan"), "{plan}");
    }
}
