use std::time::Duration;

use gateway::fanout::CloseReason;
use shared::domain::DirectoryChange;
use testkit::{eventually, wait::within};

use crate::{
    desk::Desk,
    support::{Ask, PATIENCE},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_asks_for_it_waits_to_learn_what_a_user_is_now() {
    let desk = Desk::open().await;
    let (world, users) = (&desk.world, &desk.app.users);
    let anna = world.user("anna").await;
    assert_eq!(users.get(anna).await.unwrap().name, "anna");

    // A change on its way, which keeps everybody from reading users until it is there. Who waits for a
    // lock longer than two seconds gives up.
    let changing = world.database.query(
        "LOCK TABLE users IN ACCESS EXCLUSIVE MODE; UPDATE users SET display_name = 'Anna'; \
         SELECT pg_sleep(1.5)",
    );
    let asking = async {
        let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'users'::regclass \
                     AND mode = 'AccessExclusiveLock' AND granted";
        eventually("the table is locked", PATIENCE, async || {
            (world.database.count(locks).await == 1).then_some(())
        })
        .await;
        desk.app.directory.hear(&DirectoryChange::Groups);
        let quickly = Duration::from_millis(500);
        for _ in 0..2 {
            let told = within("what is known", quickly, users.get(anna)).await;
            assert_eq!(told.unwrap().name, "anna");
        }
        assert_eq!(users.get_fresh(anna).await.unwrap().name, "Anna");
        assert_eq!(users.get(anna).await.unwrap().name, "Anna");
        desk.app.directory.hear(&DirectoryChange::Groups);
        world
            .database
            .query("UPDATE users SET display_name = 'Ann'")
            .await;
        eventually("it is read beside requests", PATIENCE, async || {
            (users.get(anna).await.unwrap().name == "Ann").then_some(())
        })
        .await;
    };
    tokio::join!(changing, asking);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_slipped_past_a_ban_is_sent_away() {
    let desk = Desk::open().await;
    let bert = desk.world.user("bert").await;
    let ban = format!("UPDATE users SET status = 'banned' WHERE id = '{}'", bert.0);
    desk.world.database.query(&ban).await;
    eventually("the node knows it", PATIENCE, async || {
        desk.app.users.is_banned(bert).then_some(())
    })
    .await;
    // Below where it is asked who is banned, as if it had been asked before the ban.
    let client = Ask::of(bert).client(&desk.app.fanout).await;
    assert_eq!(client.closed().await, CloseReason::Banned);
}
