use shared::domain::{
    MessageStatus::{Delivered, Read, Sent},
    *,
};

use shared::postgres::ReadingStart;

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
async fn who_has_no_cursor_begins_behind_what_they_have_or_had_no_right_to() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let group = record.group(&[ann, bob]).await;
    let ago = |seconds: i64| id_at(Timestamp(now().0 - seconds * 1000));
    // Before bob took part, and then.
    let ids = [ago(7200), ago(5400), ago(1800), ago(1200), ago(600)];
    let all = ids.iter().zip(1..);
    let all = all.map(|(id, offset)| message(*id, offset, &words(group, ann, "hi")));
    record.write(all.collect()).await;
    let start = async |user, at| {
        let start = record.postgres.reading_start(group, user, at);
        start.await.unwrap()
    };
    let of = |start: Option<ReadingStart>| start.map(|it| it.position);
    let any = Timestamp(0);
    assert_eq!(of(start(user(), any).await), None, "no participant");
    assert_eq!(of(start(bob, any).await), Some(at(2)));
    let late = Timestamp(now().0 - 1500 * 1000);
    assert_eq!(
        of(start(bob, late).await),
        Some(at(3)),
        "not from so long ago"
    );
    let beyond = Timestamp(now().0 + 1000);
    assert_eq!(of(start(bob, beyond).await), Some(at(5)));
    record
        .write(vec![upto(group, Kind::MessageDelivered, bob, ids[3], 6)])
        .await;
    let delivered = start(bob, any).await.unwrap();
    assert_eq!((delivered.after, delivered.position), (ids[3], at(4)));
    record
        .write(vec![upto(group, Kind::MessageRead, bob, ids[4], 7)])
        .await;
    assert_eq!(of(start(bob, any).await), Some(at(5)));
    // Where nothing was said yet.
    let empty = record.group(&[ann, bob]).await;
    let start = record
        .postgres
        .reading_start(empty, bob, any)
        .await
        .unwrap();
    assert_eq!(start.unwrap().position, Position::START);
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
