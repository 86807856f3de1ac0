//! What a batch makes of the states of commands.

use shared::domain::{
    CommandState::{Cancelled, Completed, Delivered, Expired},
    *,
};

use crate::support::*;

#[tokio::test]
async fn a_command_that_was_appended_again_stands_where_it_was_appended_last() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let (id, both) = (id_at(now()), id_at(now()));
    // Redis lost (e, 7) in a failover, and the sender's second try came to stand at (e + 1, 1000007).
    let again = |id, offset: u64| {
        let mut entry = command_entry(id, offset + 1_000_000, &body(ann, bob));
        entry.position.epoch += 1;
        entry
    };
    record
        .write(vec![command(id, 7, &body(ann, bob)), delivered(bob, 0, 7)])
        .await;
    let moved = again(id, 7);
    record.write(vec![entry(moved.clone())]).await;
    let late = vec![entry(again(both, 8)), command(both, 8, &body(ann, bob))];
    record.write(late).await;
    // The first one comes once more.
    record.write(vec![command(id, 7, &body(ann, bob))]).await;

    let found = record.postgres.command(id).await.unwrap().unwrap();
    assert_eq!(
        (found.position, found.state),
        (moved.position, CommandState::Delivered)
    );
    let found = record.postgres.command(both).await.unwrap().unwrap();
    assert_eq!(found.position, again(both, 8).position);
}

#[tokio::test]
async fn what_had_ended_before_it_was_confirmed_is_not_delivered() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let ids: Vec<_> = (0..4).map(|_| id_at(now())).collect();
    let mut batch: Vec<_> = (0..4)
        .map(|n| command(ids[n], n as u64 + 1, &body(ann, bob)))
        .collect();
    batch.extend([
        delivered(bob, 0, 1),
        ended(bob, 5, ids[1], CommandState::Cancelled),
        ended(bob, 6, ids[0], CommandState::Expired),
        ended(bob, 7, ids[3], CommandState::Completed),
        delivered(bob, 1, 7),
        ended(bob, 8, ids[2], CommandState::Expired),
    ]);
    let told: Vec<_> = record
        .write(batch)
        .await
        .iter()
        .map(|it| (it.command, it.state))
        .collect();
    let heard = |n: usize| -> Vec<_> {
        let of = told.iter().filter(|(id, _)| *id == ids[n]);
        of.map(|(_, state)| *state).collect()
    };
    assert_eq!(heard(0), [Delivered, Expired], "confirmed, then over");
    assert_eq!(heard(1), [Cancelled], "over before it was confirmed");
    assert_eq!(heard(2), [Delivered, Expired]);
    assert_eq!(heard(3), [Delivered, Completed], "done is delivered, too");
    assert_eq!(
        record.states().await,
        ["expired", "cancelled", "expired", "completed"]
    );
    let times = "SELECT count(*) FROM command_assignments WHERE delivered_at IS NULL";
    assert_eq!(record.database.count(times).await, 1);
}

#[tokio::test]
async fn a_record_that_delivers_a_whole_log_is_written_in_steps() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let commands: Vec<_> = (1..=4500)
        .map(|n| command(id_at(now()), n, &body(ann, bob)))
        .collect();
    let last = commands.last().unwrap().id.clone();
    record.write(commands).await;
    let batch = record.batch(
        &last,
        vec![
            unreadable(),
            delivered(bob, 0, 4500),
            ended(bob, 4501, id_at(now()), Completed),
        ],
    );
    let mut steps = Vec::new();
    loop {
        let pending = record
            .postgres
            .begin_batch(std::slice::from_ref(&batch))
            .await
            .unwrap();
        steps.push(pending.changes.len());
        let (complete, buried) = (pending.is_complete, pending.buried.len());
        pending.commit().await.unwrap();
        assert_eq!(buried, usize::from(complete), "buried once, with the last");
        let position = record.postgres.persist_position(HOME).await.unwrap();
        if complete {
            assert_eq!(position, batch.upto());
            break;
        }
        assert_eq!(position, last, "not before everything is done");
    }
    assert_eq!(steps, [2000, 2000, 500]);
    let states = "SELECT count(*) FROM command_assignments WHERE state = 'delivered'";
    assert_eq!(record.database.count(states).await, 4500);
}
