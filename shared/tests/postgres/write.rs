use shared::{
    domain::*,
    postgres::{PartitionBatch, WriteError},
};

use crate::support::*;

#[tokio::test]
async fn a_batch_written_again_changes_nothing() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let id = id_at(now());
    let batch = vec![
        command(id, 1, &body(ann, bob)),
        delivered(bob, 0, 1),
        ended(bob, 2, id, CommandState::Completed),
    ];
    let changes = record.write(batch.clone()).await;
    let told: Vec<_> = changes
        .iter()
        .map(|it| (it.command, it.sender, it.recipient, it.state))
        .collect();
    assert_eq!(
        told,
        vec![
            (id, ann, bob, CommandState::Delivered),
            (id, ann, bob, CommandState::Completed)
        ]
    );

    // The same records once more, as if the position had been lost.
    assert_eq!(record.write(batch).await, vec![]);
    for table in ["commands", "command_assignments", "user_events"] {
        assert_eq!(
            record
                .database
                .count(&format!("SELECT count(*) FROM {table}"))
                .await,
            1,
            "{table}"
        );
    }
    assert_eq!(record.states().await, ["completed"]);
}

#[tokio::test]
async fn a_batch_that_is_not_committed_leaves_nothing_and_can_be_repeated() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let batch = record.batch(
        "0-0",
        vec![
            command(id_at(now()), 1, &body(ann, bob)),
            delivered(bob, 0, 1),
        ],
    );
    let first = record
        .postgres
        .begin_batch(std::slice::from_ref(&batch))
        .await
        .unwrap();
    let changes = first.changes.clone();
    drop(first);
    let again = record
        .postgres
        .begin_batch(std::slice::from_ref(&batch))
        .await
        .unwrap();
    assert_eq!(again.changes, changes);
    again.commit().await.unwrap();
    assert_eq!(
        record.postgres.persist_position(HOME).await.unwrap(),
        batch.records[1].id
    );
}

#[tokio::test]
async fn a_fenced_zombie_writes_nothing() {
    let record = Record::new().await;
    let other = Partition(9);
    let (token, _) = record
        .postgres
        .claim_partitions(&[(other, 1)])
        .await
        .unwrap()
        .remove(0);
    let (new_token, position) = record
        .postgres
        .claim_partitions(&[(HOME, 7)])
        .await
        .unwrap()
        .remove(0);
    assert!(new_token > record.token);
    assert_eq!(position, "0-0");
    let batches = |token_of_home| {
        vec![
            PartitionBatch {
                token: token_of_home,
                ..record.batch("0-0", vec![command(id_at(now()), 1, &body(user(), user()))])
            },
            PartitionBatch {
                partition: other,
                token,
                ..record.batch("0-0", vec![command(id_at(now()), 1, &body(user(), user()))])
            },
        ]
    };
    let fenced = record
        .postgres
        .begin_batch(&batches(record.token))
        .await
        .unwrap_err();
    assert!(
        matches!(&fenced, WriteError::Fenced(whom) if whom == &[HOME]),
        "{fenced:?}"
    );
    assert_eq!(
        record.database.count("SELECT count(*) FROM commands").await,
        0
    );
    assert_eq!(
        record.postgres.persist_position(other).await.unwrap(),
        "0-0"
    );

    record
        .postgres
        .begin_batch(&batches(new_token))
        .await
        .unwrap()
        .commit()
        .await
        .unwrap();
    assert_eq!(
        record.database.count("SELECT count(*) FROM commands").await,
        2
    );
    // The right token from a position that has moved is fenced, too.
    let late = record
        .postgres
        .begin_batch(&batches(new_token)[..1])
        .await
        .unwrap_err();
    assert!(matches!(late, WriteError::Fenced(_)));
}

#[tokio::test]
async fn a_claim_raises_the_token_even_if_redis_counts_from_the_start_again() {
    let record = Record::new().await;
    let (high, _) = record
        .postgres
        .claim_partitions(&[(HOME, 500)])
        .await
        .unwrap()
        .remove(0);
    let (higher, _) = record
        .postgres
        .claim_partitions(&[(HOME, 1)])
        .await
        .unwrap()
        .remove(0);
    assert!(high >= 500 && higher > high);
}

#[tokio::test]
async fn states_only_move_forward() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let ids: Vec<_> = (0..3).map(|_| id_at(now())).collect();
    let body = body(ann, bob);
    record
        .write(
            (0..3)
                .map(|n| command(ids[n], n as u64 + 1, &body))
                .collect(),
        )
        .await;

    // Done before it was confirmed: the sender hears both, the late confirmation changes nothing.
    let changes = record
        .write(vec![ended(bob, 4, ids[0], CommandState::Completed)])
        .await;
    let states: Vec<_> = changes.iter().map(|it| it.state).collect();
    assert_eq!(states, [CommandState::Delivered, CommandState::Completed]);
    let changes = record.write(vec![delivered(bob, 0, 1)]).await;
    assert_eq!(changes, vec![]);

    // The first end counts, within a batch and between batches.
    record
        .write(vec![
            ended(bob, 5, ids[1], CommandState::Cancelled),
            ended(bob, 6, ids[1], CommandState::Completed),
        ])
        .await;
    assert_eq!(
        record
            .write(vec![ended(bob, 7, ids[0], CommandState::Expired)])
            .await,
        vec![]
    );
    assert_eq!(record.states().await, ["completed", "cancelled", "pending"]);
    let times = "SELECT count(*) FROM command_assignments WHERE delivered_at IS NOT NULL AND completed_at = delivered_at";
    assert_eq!(record.database.count(times).await, 1);
}

#[tokio::test]
async fn a_stretch_delivers_what_lies_in_it_for_its_user_only() {
    let record = Record::new().await;
    let (ann, bob, eve) = (user(), user(), user());
    let batch = (1..=4)
        .map(|n| command(id_at(now()), n, &body(ann, bob)))
        .chain([command(id_at(now()), 2, &body(ann, eve))])
        .collect();
    record.write(batch).await;
    let changes = record.write(vec![delivered(bob, 1, 3)]).await;
    assert_eq!(changes.len(), 2);
    assert!(
        changes.iter().all(|it| it.recipient == bob
            && it.sender == ann
            && it.state == CommandState::Delivered)
    );
    let rows = record
        .database
        .query("SELECT \"offset\" FROM command_assignments WHERE state = 'delivered' ORDER BY 1")
        .await;
    assert_eq!(rows, [["2"], ["3"]]);
}

#[tokio::test]
async fn stretches_may_overlap_in_a_batch() {
    let record = Record::new().await;
    let (ann, bob, eve) = (user(), user(), user());
    let mut batch: Vec<_> = (1..=5)
        .flat_map(|n| [bob, eve].map(|who| command(id_at(now()), n, &body(ann, who))))
        .collect();
    batch.extend(
        [(0, 3), (0, 3), (2, 4), (1, 2), (4, 4)].map(|(from, to)| delivered(bob, from, to)),
    );
    batch.push(delivered(eve, 0, 1));
    let changes = record.write(batch).await;
    assert_eq!(changes.iter().filter(|it| it.recipient == bob).count(), 4);
    assert_eq!(changes.len(), 5);
}

#[tokio::test]
async fn what_a_worker_told_the_sender_is_stored_but_changes_no_state() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let (id, own) = (id_at(now()), id_at(now()));
    record
        .write(vec![
            command(id, 1, &body(ann, bob)),
            command(own, 1, &body(ann, ann)),
        ])
        .await;
    let told = |recipient_id, command_id, status| CommandStatus {
        command_id,
        recipient_id: Some(recipient_id),
        status,
        broadcast: None,
        categories: vec![],
        at: Some(now()),
    };
    let changes = record
        .write(vec![
            status(ann, 2, &told(bob, id, CommandState::Completed)),
            // To oneself: the recipient is the owner of the log, but `at` shows who wrote it.
            status(ann, 3, &told(ann, own, CommandState::Delivered)),
        ])
        .await;
    assert_eq!(changes, vec![]);
    assert_eq!(record.states().await, ["pending", "pending"]);
    assert_eq!(
        record
            .database
            .count("SELECT count(*) FROM user_events")
            .await,
        2
    );
}

#[tokio::test]
async fn bad_rows_are_quarantined_and_the_others_flow() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let fine = body(ann, bob);
    let nul = Revocation {
        user_id: ann,
        token_id: Some("a\0b".into()),
        issued_until: 0,
        expires_at: now(),
    };
    let nul = Entry {
        topic: Topic::Revocations,
        kind: Kind::Revocation,
        body: serde_json::to_vec(&nul).unwrap().into(),
        ..command_entry(id_at(now()), 1, &fine)
    };
    let mut raw = command_entry(id_at(now()), 5, &fine);
    raw.body = vec![b'{', 0, b'}'].into();
    let mut latin = command_entry(id_at(now()), 6, &fine);
    latin.body = vec![b'"', 0xe9, b'"'].into();
    let done = id_at(now());
    let mut batch: Vec<_> = (10..40).map(|n| command(id_at(now()), n, &fine)).collect();
    batch.push(command(done, 40, &fine));
    batch.insert(3, entry(nul));
    batch.insert(17, command(id_at(Timestamp(86_400_000)), 2, &fine));
    batch.insert(18, entry(raw));
    batch.insert(20, unreadable());
    batch.insert(21, entry(latin));
    batch.push(ended(bob, 41, done, CommandState::Completed));
    let pending = record.begin(batch).await.unwrap();
    assert_eq!(pending.buried.len(), 5, "{:?}", pending.buried);
    assert_eq!(pending.changes.len(), 2);
    pending.commit().await.unwrap();

    assert_eq!(
        record
            .database
            .count("SELECT count(*) FROM command_assignments")
            .await,
        31
    );
    let reasons = record
        .database
        .query("SELECT reason FROM quarantine ORDER BY reason")
        .await
        .concat();
    assert!(reasons[0].starts_with("22021"), "{reasons:?}");
    assert!(reasons[4].starts_with("the id was minted"), "{reasons:?}");
    assert!(
        reasons.iter().all(|reason| !reason.contains("water")),
        "{reasons:?}"
    );
    let kept = "SELECT count(*) FROM quarantine WHERE convert_from(record, 'UTF8') LIKE '%water%'";
    assert_eq!(record.database.count(kept).await, 1);
}

#[tokio::test]
async fn two_workers_with_the_same_rows_in_opposite_order_do_not_deadlock() {
    let record = Record::new().await;
    let partitions: Vec<_> = (20..24).map(Partition).collect();
    let leases: Vec<_> = partitions.iter().map(|partition| (*partition, 1)).collect();
    let tokens = record.postgres.claim_partitions(&leases).await.unwrap();
    let (ann, bob) = (user(), user());
    for round in 0..12_u64 {
        let commands: Vec<_> = (0..200)
            .map(|n| command(id_at(now()), round * 200 + n + 1, &body(ann, bob)))
            .collect();
        let mut turned = commands.clone();
        turned.reverse();
        let batch = |half: &[usize], records: &[_]| -> Vec<PartitionBatch> {
            half.iter()
                .map(|&n| PartitionBatch {
                    partition: partitions[n],
                    token: tokens[n].0,
                    after: if round == 0 {
                        "0-0".into()
                    } else {
                        format!("r{}", round - 1)
                    },
                    records: records
                        .iter()
                        .cloned()
                        .chain([shared::domain::PersistRecord {
                            id: format!("r{round}"),
                            ..delivered(bob, 0, 1)
                        }])
                        .collect(),
                })
                .collect()
        };
        let (one, other) = (batch(&[0, 1], &commands), batch(&[3, 2], &turned));
        let write = async |batches| {
            record
                .postgres
                .begin_batch(batches)
                .await
                .unwrap()
                .commit()
                .await
                .unwrap();
        };
        tokio::join!(write(&one), write(&other));
    }
    assert_eq!(
        record.database.count("SELECT count(*) FROM commands").await,
        2400
    );
}
