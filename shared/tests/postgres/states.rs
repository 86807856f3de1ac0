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
