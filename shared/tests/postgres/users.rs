use shared::{
    domain::*,
    postgres::{Role, UserStatus},
};

use crate::support::*;

#[tokio::test]
async fn a_name_is_taken_whatever_its_case() {
    let record = Record::new().await;
    let ann = user();
    let made = record
        .postgres
        .create_user(ann, "Ann", "hash")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((made.id, made.username.as_str()), (ann, "Ann"));
    assert_eq!((made.role, made.status), (Role::User, UserStatus::Active));
    assert_eq!(
        record
            .postgres
            .create_user(user(), "aNN", "other")
            .await
            .unwrap(),
        None
    );
    let (found, hash) = record.postgres.user_by_name("ANN").await.unwrap().unwrap();
    assert_eq!((found.id, hash.as_str()), (ann, "hash"));
    assert_eq!(record.postgres.user_by_id(ann).await.unwrap(), Some(made));
    assert_eq!(record.postgres.user_by_id(user()).await.unwrap(), None);
    assert!(record.postgres.user_by_name("bob").await.unwrap().is_none());
}

#[tokio::test]
async fn revocations_are_told_while_they_are_in_force() {
    let record = Record::new().await;
    let entry_of = |revocation: &Revocation| {
        entry(Entry {
            topic: Topic::Revocations,
            position: at(1),
            id: id_at(now()),
            kind: Kind::Revocation,
            at: now(),
            body: serde_json::to_vec(revocation).unwrap().into(),
        })
    };
    let live = Revocation {
        user_id: user(),
        token_id: Some("jti".into()),
        issued_until: 17,
        expires_at: Timestamp(now().0 + 60_000),
    };
    let over = Revocation {
        token_id: None,
        expires_at: Timestamp(now().0 - 60_000),
        ..live.clone()
    };
    record.write(vec![entry_of(&live), entry_of(&over)]).await;
    assert_eq!(
        record.postgres.live_revocations().await.unwrap(),
        vec![live]
    );
    assert_eq!(
        record.postgres.forget_revocations(now(), 10).await.unwrap(),
        1
    );
    assert_eq!(
        record
            .database
            .count("SELECT count(*) FROM revocations")
            .await,
        1
    );
}

#[tokio::test]
async fn an_entry_in_the_wrong_topic_is_quarantined() {
    let record = Record::new().await;
    let ann = user();
    let mut wrong = command_entry(id_at(now()), 1, &body(ann, user()));
    wrong.topic = Topic::User(ann);
    let pending = record.begin(vec![entry(wrong)]).await.unwrap();
    assert_eq!(pending.buried.len(), 1);
    assert!(matches!(unreadable().what, Persist::Unreadable { .. }));
}
