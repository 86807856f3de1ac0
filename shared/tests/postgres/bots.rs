use shared::{domain::*, postgres::Audit};
use uuid::Uuid;

use crate::support::*;

fn what() -> Audit {
    Audit {
        actor: None,
        action: "test".into(),
        target: "bots".into(),
        details: serde_json::json!({}),
        request_id: None,
        address: None,
    }
}

#[tokio::test]
async fn a_bot_is_a_user_found_by_its_key_until_that_is_revoked() {
    let record = Record::new().await;
    let postgres = &record.postgres;
    let id = user();
    let bot = postgres.create_bot(id, "Gardener", &what()).await.unwrap();
    let bot = bot.unwrap();
    assert!(bot.is_bot && bot.id == id);
    assert_eq!(
        postgres
            .create_bot(user(), "gardener", &what())
            .await
            .unwrap(),
        None
    );

    // No password opens it.
    assert_eq!(postgres.user_by_name("gardener").await.unwrap(), None);

    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    for (key, hash) in [(one, [1; 32]), (other, [2; 32])] {
        let what = what();
        let made = postgres.create_api_key(key, id, &hash, "laptop", &what);
        assert!(made.await.unwrap());
    }
    let whose = async |hash| postgres.api_key(&hash).await.unwrap();
    assert_eq!(whose([1; 32]).await, Some(bot.clone()));
    assert_eq!(whose([3; 32]).await, None);
    assert_eq!(
        postgres.revoke_api_key(one, &what()).await.unwrap(),
        Some(id)
    );
    let again = postgres.revoke_api_key(one, &what()).await.unwrap();
    assert_eq!(again, Some(id), "what follows from it may be done again");
    let unknown = postgres.revoke_api_key(Uuid::now_v7(), &what()).await;
    assert_eq!(unknown.unwrap(), None);
    assert_eq!(whose([1; 32]).await, None);
    assert_eq!(whose([2; 32]).await, Some(bot));
    let keys = postgres.api_keys(id).await.unwrap();
    let revoked: Vec<_> = keys
        .iter()
        .map(|key| (key.id, key.revoked_at.is_some()))
        .collect();
    assert_eq!(revoked, [(one, true), (other, false)]);
    let done = record
        .database
        .count("SELECT count(*) FROM audit_log")
        .await;
    assert_eq!(done, 5, "a bot, two keys, and each time one was revoked");
}

#[tokio::test]
async fn people_get_no_keys() {
    let record = Record::new().await;
    let ann = record.registered("ann").await;
    let what = what();
    for nobody in [ann, user()] {
        let made = record
            .postgres
            .create_api_key(Uuid::now_v7(), nobody, &[1; 32], "x", &what);
        assert!(!made.await.unwrap());
    }
    let found = record.postgres.user_by_id(ann).await.unwrap().unwrap();
    assert!(!found.is_bot);
    assert_eq!(found.id, UserId(ann.0));
}
