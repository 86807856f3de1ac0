use shared::{domain::*, postgres::PgError};

use crate::support::*;

#[tokio::test]
async fn copies_come_back_in_the_order_of_the_log_as_messages_read_now() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let group = record.group(&[ann, bob]).await;
    let ids: Vec<_> = (0..3).map(|_| id_at(now())).collect();
    let (edit, deletion) = (id_at(now()), id_at(now()));
    let time = now();
    let copied = |kind, id, of, offset| copy(bob, kind, id, of, group, offset, time);
    let command = command(id_at(now()), 3, &body(ann, bob));
    record
        .write(vec![
            message(ids[0], 1, &words(group, ann, "zero")),
            message(ids[1], 2, &words(group, ann, "one")),
            message(ids[2], 3, &words(group, ann, "two")),
            edited(ids[1], edit, 4, &words(group, ann, "changed")),
            gone(group, ids[2], ann, deletion, 5),
            copied(Kind::MessageNew, ids[0], ids[0], 1),
            copied(Kind::MessageNew, ids[1], ids[1], 2),
            command,
            copied(Kind::MessageNew, ids[2], ids[2], 4),
            copied(Kind::MessageEdited, edit, ids[1], 5),
            copied(Kind::MessageDeleted, deletion, ids[2], 6),
            // Somebody else's.
            copy(ann, Kind::MessageNew, ids[0], ids[0], group, 1, time),
        ])
        .await;
    let read = async |after, before, limit| {
        let found = record.postgres.entries_between(bob, after, before, limit);
        found.await.unwrap()
    };
    let all = read(Position::START, Position::END, 100).await;
    let told: Vec<_> = all
        .iter()
        .map(|it| (it.position.offset, it.kind, it.id))
        .collect();
    let new = Kind::MessageNew;
    assert_eq!(told[0], (1, new, ids[0]));
    assert_eq!(told[1], (2, new, ids[1]));
    assert_eq!(told[2].1, Kind::CommandNew);
    assert_eq!(told[3], (4, Kind::MessageDeleted, ids[2]));
    assert_eq!(told[4], (5, Kind::MessageEdited, edit));
    assert_eq!(told[5], (6, Kind::MessageDeleted, deletion));
    let first: MessageBody = serde_json::from_slice(&all[0].body).unwrap();
    assert_eq!(
        (first.message_id, first.content.as_str()),
        (Some(ids[0]), "zero")
    );
    assert!(first.created_at.is_some() && !first.uncopied);
    let second: MessageBody = serde_json::from_slice(&all[1].body).unwrap();
    assert_eq!(second.content, "changed");
    let change: MessageEdited = serde_json::from_slice(&all[4].body).unwrap();
    assert_eq!(
        (change.message_id, change.content.as_str()),
        (ids[1], "changed")
    );
    assert!(change.edited_at.is_some() && change.edited_by == ann);
    let deleted: MessageDeleted = serde_json::from_slice(&all[5].body).unwrap();
    assert_eq!((deleted.message_id, deleted.deleted_by), (ids[2], ann));
    assert!(deleted.deleted_at.is_some());
    assert_eq!(all[5].at, time);

    assert_eq!(read(Position::START, Position::END, 2).await, all[..2]);
    assert_eq!(read(at(2), at(5), 100).await, all[2..4]);
}

#[tokio::test]
async fn a_message_that_is_not_written_yet_is_waited_for_and_one_that_is_gone_is_not() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let group = record.group(&[ann, bob]).await;
    let (early, late, last) = (id_at(now()), id_at(now()), id_at(now()));
    let hours_ago = Timestamp(now().0 - 3 * 3_600_000);
    record
        .write(vec![
            copy(bob, Kind::MessageNew, early, early, group, 1, hours_ago),
            copy(bob, Kind::MessageNew, late, late, group, 2, now()),
            message(last, 2, &words(group, ann, "last")),
            copy(bob, Kind::MessageNew, last, last, group, 3, now()),
        ])
        .await;
    let read = async |limit| {
        let found = record
            .postgres
            .entries_between(bob, Position::START, Position::END, limit);
        let found = found.await?;
        Ok::<_, PgError>(found.into_iter().map(|it| it.id).collect::<Vec<_>>())
    };
    let error = read(10).await.unwrap_err();
    assert!(matches!(error, PgError::Unavailable(_)), "{error:?}");
    record
        .write(vec![message(late, 1, &words(group, ann, "late"))])
        .await;
    assert_eq!(read(10).await.unwrap(), [late, last]);
    // A page is full, whatever is gone: a short one would be taken for the last.
    assert_eq!(read(1).await.unwrap(), [late]);
}
