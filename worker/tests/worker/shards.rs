//! One shard of a cluster is away: what needs it waits, everything else flows.

use shared::domain::*;
use testkit::{cluster::Cluster, eventually};
use worker::jobs::{archive_idle, expire_commands, tell_changes};

use crate::support::*;

async fn reaches(deployment: &Deployment, id: MessageId, state: CommandState) {
    eventually("the state in the record", PATIENCE, async || {
        let found = deployment.postgres.command(id).await.unwrap()?;
        (found.state == state).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_dead_shard_holds_up_only_what_needs_it() {
    let cluster = Cluster::start().await;
    // Otherwise the others refuse their own keys, too.
    for master in cluster.nodes() {
        let setting = ["CONFIG", "SET", "cluster-require-full-coverage", "no"];
        master.call(&setting).await;
    }
    let deployment = Deployment::start_on(cluster.url()).await;
    let worker = deployment
        .worker_with("one", |settings| settings.persist.lanes = 1)
        .await;
    // The list of nodes is on it, too.
    let dead = cluster.owner_of(cluster.slot_of("nodes").await).await;
    let shard_of = async |user: UserId| {
        let key = format!("{{p{}}}:meta", deployment.partition(user).0);
        cluster.owner_of(cluster.slot_of(&key).await).await
    };
    let (mut here, mut there) = (Vec::new(), Vec::new());
    while here.len() < 4 || there.len() < 2 {
        let user = user();
        let list = if shard_of(user).await == dead {
            &mut there
        } else {
            &mut here
        };
        // Each in a partition of their own.
        if list
            .iter()
            .all(|it| deployment.partition(*it) != deployment.partition(user))
        {
            list.push(user);
        }
    }
    let (ann, bob, eve, carl) = (here[0], here[1], here[2], here[3]);
    let (gone, lost) = (there[0], there[1]);
    let early = Timestamp(a_minute_ago().0 - 60_000);
    let send = async |from, to, expires| {
        deployment
            .send(&body(from, to, expires), Durability::Stored)
            .await
    };
    let (from_gone, at_from_gone) = send(gone, eve, in_an_hour()).await;
    let (to_lost, _) = send(ann, lost, in_an_hour()).await;
    let (to_bob, at_bob) = send(ann, bob, in_an_hour()).await;
    cluster.nodes()[dead].kill9();

    // Whose sender is away: the partition waits. Written before the others' are.
    deployment.confirm(eve, at_from_gone).await;
    deployment.confirm(bob, at_bob).await;
    reaches(&deployment, to_bob, CommandState::Delivered).await;
    let (new, at_new) = deployment
        .send(&body(ann, bob, in_an_hour()), Durability::Memory)
        .await;
    deployment.confirm(bob, at_new).await;
    reaches(&deployment, new, CommandState::Delivered).await;

    // Leases that can be renewed are.
    let mut lease = None;
    for n in 0..deployment.store.partitions().0 {
        let key = format!("lease:partition:{n}");
        let owner = cluster.owner_of(cluster.slot_of(&key).await).await;
        if owner != dead {
            lease = Some((owner, key));
        }
    }
    let (owner, key) = lease.unwrap();
    let until = async || {
        let reply = cluster.nodes()[owner].call(&["HGET", &key, "until"]).await;
        format!("{reply:?}")
    };
    let before = until().await;
    eventually("a lease renewed", PATIENCE, async || {
        (until().await != before).then_some(())
    })
    .await;

    // What is overdue expires where it can.
    deployment
        .database
        .query(&format!(
            "UPDATE command_assignments SET expires_at = now() - interval '2 min' WHERE command_id = '{to_lost}'"
        ))
        .await;
    let (over, _) = deployment
        .send(&body(ann, carl, early), Durability::Memory)
        .await;
    eventually("expired", PATIENCE, async || {
        let _ = expire_commands::run(worker.context.clone()).await;
        let found = deployment.postgres.command(over).await.unwrap()?;
        (found.state == CommandState::Expired).then_some(())
    })
    .await;

    cluster.nodes()[dead].restart().await;
    reaches(&deployment, from_gone, CommandState::Delivered).await;
    deployment
        .waits_until_told(gone, &[(from_gone, CommandState::Delivered)])
        .await;
    reaches(&deployment, to_lost, CommandState::Expired).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_dead_shard_holds_up_no_other_conversations() {
    let cluster = Cluster::start().await;
    for master in cluster.nodes() {
        let setting = ["CONFIG", "SET", "cluster-require-full-coverage", "no"];
        master.call(&setting).await;
    }
    let deployment = Deployment::start_on(cluster.url()).await;
    let context = deployment
        .context("one", |settings| {
            settings.conversations.archive_after = Some(std::time::Duration::from_hours(24));
        })
        .await;
    let dead = cluster.owner_of(cluster.slot_of("nodes").await).await;
    let ann = deployment.registered("ann").await;
    let (mut here, mut there) = (Vec::new(), Vec::new());
    while here.len() < 2 || there.len() < 2 {
        let group = deployment.group(&[ann]).await;
        let partition = Topic::Conversation(group).partition(deployment.store.partitions());
        let key = format!("{{p{}}}:meta", partition.0);
        if cluster.owner_of(cluster.slot_of(&key).await).await == dead {
            there.push(group);
        } else {
            here.push(group);
        }
    }
    deployment.changes_age().await;
    cluster.nodes()[dead].kill9();

    assert!(tell_changes::run(context.clone()).await.is_err());
    for group in &here {
        let (version, _) = deployment.store.standing(*group).await.unwrap();
        assert_eq!(version, Some(1), "one that can be told is");
    }
    let idle =
        "UPDATE conversations SET active_at = now() - interval '3 d', epoch = 1e10, \"offset\" = 1";
    deployment.database.query(idle).await;
    assert!(archive_idle::run(context).await.is_err());
    for (groups, expected) in [(&here, true), (&there, false)] {
        for group in groups {
            let members = deployment.postgres.conversation_members(*group).await;
            assert_eq!(members.unwrap().unwrap().is_archived, expected);
        }
    }
}
