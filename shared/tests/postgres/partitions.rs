use shared::{domain::*, postgres::KeptFrom};

use crate::support::*;

const DAY: i64 = 86_400_000;

#[tokio::test]
async fn a_week_is_made_ahead_and_missing_days_are_filled() {
    let record = Record::new().await;
    assert_eq!(record.postgres.partition_days_ahead().await.unwrap(), 7);
    assert_eq!(record.postgres.make_partitions().await.unwrap(), 0);
    // As if nobody had made any for twelve days.
    record
        .database
        .query("DO $$ DECLARE it record; BEGIN FOR it IN SELECT name FROM daily_partitions WHERE day > now()::date - 1 \
                LOOP EXECUTE 'DROP TABLE ' || it.name; END LOOP; END $$")
        .await;
    assert!(record.postgres.partition_days_ahead().await.unwrap() < 0);
    assert_eq!(record.postgres.make_partitions().await.unwrap(), 40);
    assert_eq!(record.postgres.partition_days_ahead().await.unwrap(), 7);
    assert_eq!(
        record
            .database
            .count("SELECT count(*) FROM daily_partitions")
            .await,
        45
    );
}

#[tokio::test]
async fn a_day_is_dropped_once_nothing_in_it_is_open() {
    let record = Record::new().await;
    let yesterday = Timestamp(now().0 - DAY);
    let (ann, bob) = (user(), user());
    let (old, new) = (id_at(yesterday), id_at(now()));
    record
        .write(vec![
            command(old, 1, &body(ann, bob)),
            command(new, 2, &body(ann, bob)),
        ])
        .await;
    let kept = KeptFrom {
        record: now().to_datetime().date(),
        messages: None,
    };

    let left = record.postgres.drop_partitions_before(kept).await.unwrap();
    assert_eq!(
        (left.dropped.len(), left.kept),
        (0, vec![yesterday.to_datetime().date()])
    );
    record
        .write(vec![ended(bob, 3, old, CommandState::Completed)])
        .await;
    let done = record.postgres.drop_partitions_before(kept).await.unwrap();
    assert_eq!((done.dropped.len(), done.kept.len()), (4, 0));
    assert_eq!(
        record.database.count("SELECT count(*) FROM commands").await,
        1
    );
    assert!(record.postgres.command(old).await.unwrap().is_none());
    assert!(record.postgres.command(new).await.unwrap().is_some());
    // Other work goes on, on the same pool.
    record
        .write(vec![command(id_at(now()), 4, &body(ann, bob))])
        .await;
}

#[tokio::test]
async fn a_day_that_is_missing_is_made_and_nothing_is_buried() {
    let record = Record::new().await;
    record
        .database
        .query(
            "DO $$ DECLARE it record; BEGIN FOR it IN SELECT name FROM daily_partitions \
                LOOP EXECUTE 'DROP TABLE ' || it.name; END LOOP; END $$",
        )
        .await;
    let (ann, bob) = (user(), user());
    // From before all that make_partitions would make: Postgres was away for long.
    let (new, old) = (id_at(now()), id_at(Timestamp(now().0 - 20 * DAY)));
    let pending = record
        .begin(vec![
            command(old, 1, &body(ann, bob)),
            command(new, 2, &body(ann, bob)),
        ])
        .await
        .unwrap();
    assert_eq!(pending.buried, []);
    pending.commit().await.unwrap();
    for id in [old, new] {
        assert!(record.postgres.command(id).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn no_day_is_made_for_an_id_of_another_age() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let before = "SELECT count(*) FROM daily_partitions";
    let days = record.database.count(before).await;
    let ages = [Timestamp(DAY), Timestamp(now().0 + 400 * DAY)];
    let mut batch: Vec<_> = ages
        .map(|age| command(id_at(age), 1, &body(ann, bob)))
        .into();
    batch.push(command(id_at(now()), 2, &body(ann, bob)));
    let pending = record.begin(batch).await.unwrap();
    assert_eq!(pending.buried.len(), 2, "{:?}", pending.buried);
    pending.commit().await.unwrap();
    assert_eq!(record.database.count(before).await, days);
    assert_eq!(record.states().await, ["pending"]);
}
