use shared::domain::{
    MessageStatus::{Delivered, Read, Sent},
    *,
};

use crate::support::*;

#[tokio::test]
async fn the_status_of_a_message_is_what_everybody_but_its_sender_has_done() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let eve = record.registered("eve").await;
    let group = record.group(&[ann, bob, eve]).await;
    let (first, second) = (id_at(now()), id_at(now()));
    record
        .write(vec![
            message(first, 1, &words(group, ann, "one")),
            message(second, 2, &words(group, bob, "two")),
        ])
        .await;
    let status = async || {
        let lowest = record.postgres.lowest_pointers(group).await.unwrap();
        [lowest.status(first, ann), lowest.status(second, bob)]
    };
    let mut offset = 2;
    let mut then = async |kind, user, message, expected: [MessageStatus; 2]| {
        offset += 1;
        record
            .write(vec![upto(group, kind, user, message, offset)])
            .await;
        assert_eq!(status().await, expected, "{kind} {offset}");
    };
    assert_eq!(status().await, [Sent, Sent]);
    then(Kind::MessageDelivered, bob, first, [Sent, Sent]).await;
    then(Kind::MessageDelivered, eve, second, [Delivered, Sent]).await;
    then(Kind::MessageRead, ann, second, [Delivered, Delivered]).await;
    then(Kind::MessageRead, bob, first, [Delivered, Delivered]).await;
    then(Kind::MessageRead, eve, first, [Read, Delivered]).await;
    // What comes late takes nothing back.
    then(Kind::MessageDelivered, eve, first, [Read, Delivered]).await;
    then(Kind::MessageRead, eve, second, [Read, Read]).await;
    then(Kind::MessageRead, eve, first, [Read, Read]).await;
    // Nobody outside is needed or counted.
    then(Kind::MessageRead, user(), first, [Read, Read]).await;
    assert_eq!(
        record
            .database
            .count("SELECT count(*) FROM conversation_participants")
            .await,
        3
    );
    // Who joins now does not make old messages unread.
    let joined = [ConversationChange::Joined {
        user_ids: vec![record.registered("max").await],
    }];
    let at = Timestamp(now().0 + 1000);
    let changed = record
        .postgres
        .change_conversation(group, &joined, |_| true, system, at);
    changed.await.unwrap();
    assert_eq!(status().await, [Read, Read]);
}

#[tokio::test]
async fn who_is_furthest_behind_is_found_in_the_index() {
    let record = Record::new().await;
    let plan = record
        .plan(
            shared::postgres::LOWEST_POINTERS,
            "uuid",
            &format!("'{}'", user()),
        )
        .await;
    for index in [
        "conversation_participants_read",
        "conversation_participants_delivered",
    ] {
        assert!(plan.contains(index), "{plan}");
    }
    assert!(!plan.contains("Sort"), "{plan}");
}
