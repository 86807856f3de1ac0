//! The power of Redis' host fails: what was not fsynced is gone. kill -9 cannot show this, because
//! what a dead process has written is still in the page cache.
#![cfg(target_os = "linux")]

use testkit::{Deployment, Disk, RedisKind, RedisOptions};

use super::{Load, Plan, TURN, loaded, times, under_load, unlimited, usual};

/// A Redis that fsyncs like this, on a disk that can be cut.
fn on_a_watched_disk(appendfsync: &'static str) -> Plan {
    unlimited().redis(RedisKind::Standalone(RedisOptions {
        appendfsync,
        disk: Some(Disk::default()),
        ..RedisOptions::default()
    }))
}

/// Load while nobody takes anything out of Redis – the worker stands still, and the gateway with
/// half of the devices – and then the power of all three fails. So Redis' disk is the only
/// place where what was promised can be.
async fn power_fails(tidegate: &Deployment, load: &Load) -> u64 {
    let (gateway, worker) = (&tidegate.gateways[0], &tidegate.workers[0]);
    worker.process().signal("STOP");
    gateway.process().signal("STOP");
    load.flows(200).await;
    let gone = tidegate.redis().lose_power();
    gateway.kill9();
    worker.kill9();
    tidegate.redis().restart().await;
    for node in [gateway, worker] {
        node.start().await;
        node.until_ready().await;
    }
    gone
}

#[tokio::test]
async fn the_power_of_redis_fails() {
    under_load(on_a_watched_disk("always"), async |tidegate, load| {
        for _ in 0..times(3, 15) {
            let gone = power_fails(tidegate, load).await;
            eprintln!("{gone} bytes had not been fsynced");
            load.flows(50).await;
            // And with everybody at work.
            tidegate.redis().lose_power();
            tidegate.redis().restart().await;
            load.flows(50).await;
        }
    })
    .await;
}

/// The test above can fail: this is the same with a Redis that leaves syncing to the kernel, and a
/// gateway that is content with its memory (as `durable` it would refuse everything).
#[tokio::test]
async fn a_redis_that_does_not_fsync_loses_what_was_promised() {
    let _turn = TURN.lock().await;
    let plan = on_a_watched_disk("no").with("TIDEGATE_DELIVERY__DURABILITY", "memory");
    let tidegate = Deployment::start_with(plan).await;
    let load = loaded(tidegate, usual(), async |tidegate, load| {
        assert!(power_fails(tidegate, load).await > 0);
    })
    .await;
    let (_, verdict) = load.finish_within(testkit::wait::PATIENCE / 4).await;
    assert!(!verdict.lost.is_empty(), "{verdict}");
    assert!(!verdict.rows.is_empty(), "{verdict}");
}
