use shared::{domain::*, postgres::PartitionBatch};

use crate::support::*;

#[tokio::test]
async fn a_log_comes_back_as_one_sequence_without_ended_commands() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let fine = body(ann, bob);
    let ids: Vec<_> = (0..4).map(|_| id_at(now())).collect();
    let told = CommandStatus {
        command_id: ids[0],
        recipient_id: Some(ann),
        status: CommandState::Delivered,
        broadcast: None,
        categories: vec![],
        at: Some(now()),
    };
    let mut entries: Vec<_> = (0..4)
        .map(|n| command(ids[n], n as u64 + 1, &fine))
        .collect();
    entries.insert(2, status(bob, 10, &told));
    entries.push(ended(bob, 11, ids[1], CommandState::Completed));
    entries.push(ended(bob, 12, ids[2], CommandState::Cancelled));
    entries.push(delivered(bob, 0, 1));
    entries.push(command(id_at(now()), 2, &body(ann, user())));
    // A later epoch with a smaller offset comes last.
    let mut late = command_entry(id_at(now()), 1, &fine);
    late.position.epoch += 1;
    entries.push(entry(late.clone()));
    record.write(entries).await;

    let read = async |after, before, limit| {
        let found = record
            .postgres
            .entries_between(bob, after, before, limit)
            .await
            .unwrap();
        found
            .into_iter()
            .map(|entry| (entry.position, entry.kind))
            .collect::<Vec<_>>()
    };
    let new = Kind::CommandNew;
    let changed = Kind::CommandStatus;
    let all = [
        (at(1), new),
        (at(4), new),
        (at(10), changed),
        (at(11), changed),
        (at(12), changed),
        (late.position, new),
    ];
    assert_eq!(read(Position::START, Position::END, 100).await, all);
    assert_eq!(read(Position::START, Position::END, 3).await, all[..3]);
    assert_eq!(read(at(4), late.position, 100).await, all[2..5]);
    assert_eq!(read(at(12), at(13), 100).await, []);

    let found = record
        .postgres
        .entries_between(bob, at(12), Position::END, 1)
        .await
        .unwrap();
    assert_eq!(found, [late], "byte for byte");
}

#[tokio::test]
async fn reading_a_log_uses_the_indexes_of_every_day() {
    let record = Record::new().await;
    let arguments = format!("'{}', 1, 1, 2, 2, 10, 'pending', 'delivered'", user());
    let plan = record
        .plan(
            shared::postgres::ENTRIES_BETWEEN,
            "uuid, bigint, bigint, bigint, bigint, bigint, text, text",
            &arguments,
        )
        .await;
    for index in [
        "recipient_id_state_epoch_offse",
        "user_events_20",
        "commands_20",
        "inbox_20",
        "message_of",
    ] {
        assert!(plan.contains(index), "{index} in {plan}");
    }
    // In the order of the log, so that the limit stops each day early; nothing is sorted before.
    let log_half = plan.split("CTE happened").next().unwrap();
    assert!(log_half.contains("Merge Append"), "{plan}");
    assert!(!log_half.contains("Sort  "), "{plan}");
    let copies = plan.split("CTE copied").nth(1).unwrap();
    let copies = copies.split("CTE ").next().unwrap();
    let copies = copies.split("Function Scan").next().unwrap();
    assert!(
        copies.contains("Merge Append") && !copies.contains("Sort  "),
        "{plan}"
    );
}

#[tokio::test]
async fn a_command_is_found_with_what_became_of_it() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let id = id_at(now());
    let sent = body(ann, bob);
    record
        .write(vec![command(id, 1, &sent), delivered(bob, 0, 1)])
        .await;
    let found = record.postgres.command(id).await.unwrap().unwrap();
    assert_eq!(
        (found.id, found.position, found.state),
        (id, at(1), CommandState::Delivered)
    );
    assert!(found.delivered_at.is_some() && found.completed_at.is_none());
    assert_eq!(
        serde_json::to_string(&found.body).unwrap(),
        serde_json::to_string(&sent).unwrap()
    );
    assert!(
        record
            .postgres
            .command(id_at(now()))
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn commands_of_a_state_come_newest_first_page_by_page() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let start = now();
    let ids: Vec<_> = (0..6)
        .map(|n| id_at(Timestamp(start.0 + n * 1000)))
        .collect();
    let mut entries: Vec<_> = (0..6)
        .map(|n| command(ids[n], n as u64 + 1, &body(ann, bob)))
        .collect();
    entries.extend((0..5).map(|n| ended(bob, n as u64 + 10, ids[n], CommandState::Completed)));
    record.write(entries).await;
    let page = async |since, before, limit| {
        let found = record
            .postgres
            .commands_in_state(bob, CommandState::Completed, since, before, limit)
            .await
            .unwrap();
        found.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    let first = page(None, None, 3).await;
    assert_eq!(first, [ids[4], ids[3], ids[2]]);
    assert_eq!(page(None, Some(ids[2]), 3).await, [ids[1], ids[0]]);
    assert_eq!(
        page(Some(Timestamp(start.0 + 3000)), None, 9).await,
        [ids[4], ids[3]]
    );
}

#[tokio::test]
async fn many_partitions_share_a_transaction() {
    let record = Record::new().await;
    let leases: Vec<_> = (0..256).map(|n| (Partition(n), 1)).collect();
    let claimed = record.postgres.claim_partitions(&leases).await.unwrap();
    let batches: Vec<_> = leases
        .iter()
        .zip(claimed)
        .map(|((partition, _), (token, after))| PartitionBatch {
            partition: *partition,
            token,
            after,
            records: (1..3)
                .map(|n| command(id_at(now()), n, &body(user(), user())))
                .collect(),
        })
        .collect();
    record
        .postgres
        .begin_batch(&batches)
        .await
        .unwrap()
        .commit()
        .await
        .unwrap();
    assert_eq!(
        record.database.count("SELECT count(*) FROM commands").await,
        512
    );
    let moved = "SELECT count(*) FROM persist_positions WHERE position <> '0-0'";
    assert_eq!(record.database.count(moved).await, 256);
}
