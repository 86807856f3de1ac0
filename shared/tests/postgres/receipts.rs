//! What devices confirmed.

use std::collections::HashMap;

use shared::domain::{
    CommandState::{Cancelled, Delivered},
    *,
};

use crate::support::*;

#[tokio::test]
async fn what_a_device_was_kept_from_stays_pending() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let mut batch: Vec<_> = (1..=6)
        .map(|n| command(id_at(now()), n, &body(ann, bob)))
        .collect();
    batch.push(crate::support::record(Persist::Delivered {
        user: bob,
        from: at(1),
        to: at(6),
        // In any order, twice, outside of the stretch.
        skipped: [5, 2, 3, 3, 1, 9].map(at).to_vec(),
        at: now(),
    }));
    let told = record.write(batch).await;
    assert_eq!(told.len(), 2);
    assert_eq!(
        record.states().await,
        [
            "pending",
            "pending",
            "pending",
            "delivered",
            "pending",
            "delivered"
        ]
    );
    let again = vec![delivered(bob, 0, 2), delivered(bob, 0, 6)];
    assert_eq!(record.write(again).await.len(), 4, "confirmed after all");
}

#[tokio::test]
async fn receipts_that_cannot_be_true_cost_no_other_and_make_no_day() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let days = "SELECT count(*) FROM daily_partitions";
    let before = record.database.count(days).await;
    let day = |n: i64| Timestamp(now().0 + n * 86_400_000);
    let (good, gone) = (id_at(now()), id_at(day(-30)));
    let made_up = [
        id_at(day(-400)),
        id_at(day(3)),
        MessageId(uuid::Uuid::nil()),
        MessageId(uuid::Uuid::max()),
    ];
    let mut named = made_up.to_vec();
    named.extend([good, gone]);
    let pending = record
        .begin(vec![
            received(&[(bob, &named), (ann, &[good])], now()),
            done(bob, 1, gone, now()),
            done(bob, 2, made_up[1], now()),
            // A direct command is nobody's to confirm in this way, nor to end as if it were one.
            command(id_at(now()), 3, &body(ann, bob)),
        ])
        .await
        .unwrap();
    let reasons: Vec<_> = pending.buried.iter().map(|it| it.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "4 receipts name commands that cannot be",
            "completes a command that cannot be"
        ]
    );
    pending.commit().await.unwrap();
    assert_eq!(record.database.count(days).await, before);
    let rows = format!("SELECT count(*) FROM command_assignments WHERE command_id = '{good}'");
    assert_eq!(record.database.count(&rows).await, 2);
    let events = "SELECT count(*) FROM user_events";
    assert_eq!(record.database.count(events).await, 1, "said, all the same");
    let kept = "SELECT count(*) FROM quarantine WHERE convert_from(record, 'UTF8') LIKE '%' || $$";
    let kept = format!("{kept}{bob} {}$$ || '%'", made_up[0]);
    assert_eq!(record.database.count(&kept).await, 1, "readable");
}

#[tokio::test]
async fn a_receipt_makes_the_day_its_broadcast_will_need() {
    let record = Record::new().await;
    // Nobody has worked for long: today has no partition, and the receipts come first.
    record
        .database
        .query("DO $$ DECLARE it record; BEGIN FOR it IN SELECT name FROM daily_partitions WHERE day >= now()::date \
                LOOP EXECUTE 'DROP TABLE ' || it.name; END LOOP; END $$")
        .await;
    let (id, bob) = (id_at(now()), user());
    record.write(vec![received(&[(bob, &[id])], now())]).await;
    record.write(vec![command(id, 1, &broadcast(user()))]).await;
    let states = record.postgres.states_of(bob, &[id]).await.unwrap();
    assert_eq!(states, HashMap::from([(id, Delivered)]));
}

#[tokio::test]
async fn receipts_and_completions_do_not_touch_direct_commands() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let ids = [id_at(now()), id_at(now())];
    let early = Timestamp(now().0 - 1000);
    let batch = vec![
        command(ids[0], 1, &body(ann, bob)),
        received(&[(bob, &ids)], early),
        done(bob, 5, ids[0], early),
        received(&[(ann, &ids[1..])], early),
    ];
    assert_eq!(record.write(batch).await, []);
    assert_eq!(record.states().await, ["pending", "delivered", "delivered"]);
    // A broadcast cannot be ended for one user as if it were a direct command.
    let end = vec![ended(ann, 6, ids[1], Cancelled)];
    assert_eq!(record.write(end).await, []);
    // When a direct command was delivered is not for receipts to say.
    record.write(vec![delivered(bob, 0, 1)]).await;
    record
        .write(vec![received(&[(bob, &ids[..1])], early)])
        .await;
    let found = record.postgres.command(ids[0]).await.unwrap().unwrap();
    assert!(found.delivered_at > Some(early));
    assert_eq!(record.states().await, ["delivered"; 3]);
    // The direct command of the second id comes late: its place is not lost.
    record
        .write(vec![command(ids[1], 2, &body(ann, bob))])
        .await;
    let found = record.postgres.command(ids[1]).await.unwrap().unwrap();
    assert_eq!((found.position, found.state), (at(2), Delivered));
}
