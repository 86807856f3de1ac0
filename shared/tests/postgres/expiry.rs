use shared::domain::*;

use crate::support::*;

#[tokio::test]
async fn due_commands_expire_reach_the_archive_and_are_forgotten() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let ids: Vec<_> = (0..4).map(|_| id_at(now())).collect();
    let over = |ago: i64| CommandBody {
        expires_at: Timestamp(now().0 - ago),
        ..body(ann, bob)
    };
    record
        .write(vec![
            command(ids[0], 1, &over(1000)),
            command(ids[1], 2, &over(2000)),
            command(ids[2], 3, &over(3000)),
            command(ids[3], 4, &body(ann, bob)),
            ended(bob, 5, ids[2], CommandState::Completed),
        ])
        .await;

    let first = record.postgres.due_commands(now(), None, 1).await.unwrap();
    assert_eq!(
        (first[0].id, first[0].recipient, first[0].position),
        (ids[1], bob, at(2))
    );
    let rest = record
        .postgres
        .due_commands(now(), first.last(), 10)
        .await
        .unwrap();
    assert_eq!(rest.iter().map(|due| due.id).collect::<Vec<_>>(), [ids[0]]);

    assert_eq!(record.postgres.archive_expired(10).await.unwrap(), 0);
    let changes = record
        .write(vec![
            ended(bob, 6, ids[0], CommandState::Expired),
            ended(bob, 7, ids[1], CommandState::Expired),
        ])
        .await;
    assert_eq!(changes.len(), 2);
    assert_eq!(
        record.postgres.due_commands(now(), None, 10).await.unwrap(),
        []
    );
    let listed = async || {
        let found = record
            .postgres
            .commands_in_state(bob, CommandState::Expired, None, None, 9)
            .await
            .unwrap();
        found.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [ids[1], ids[0]]);
    assert_eq!(record.postgres.archive_expired(1).await.unwrap(), 1);
    assert_eq!(listed().await, [ids[1], ids[0]], "half of it archived");
    assert_eq!(record.postgres.archive_expired(10).await.unwrap(), 1);
    assert_eq!(listed().await, [ids[1], ids[0]]);
    assert_eq!(
        record
            .postgres
            .command(ids[1])
            .await
            .unwrap()
            .unwrap()
            .state,
        CommandState::Expired
    );
    assert_eq!(
        record.database.count("SELECT count(*) FROM commands").await,
        2
    );

    assert_eq!(
        record
            .postgres
            .forget_archived(Timestamp(now().0 - 60_000), 10)
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        record
            .postgres
            .forget_archived(Timestamp(now().0 + 60_000), 10)
            .await
            .unwrap(),
        2
    );
    assert!(record.postgres.command(ids[1]).await.unwrap().is_none());
}
