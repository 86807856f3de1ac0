//! Commands for many, and what becomes of them.

use std::collections::HashMap;

use shared::{
    domain::{
        CommandState::{Cancelled, Completed, Delivered, Expired, Pending},
        *,
    },
    postgres::{RecipientCounts, StoredCommand},
};

use crate::support::*;

#[tokio::test]
async fn the_log_of_broadcasts_comes_back_as_one_sequence() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let ids: Vec<_> = (0..4).map(|_| id_at(now())).collect();
    let sent = broadcast(ann);
    let mut entries: Vec<_> = (0..4)
        .map(|n| command(ids[n], n as u64 + 1, &sent))
        .collect();
    entries.push(over(5, ids[1], Cancelled, now()));
    entries.push(over(6, ids[2], Expired, now()));
    // In the same places, but of somebody's own log.
    entries.push(command(id_at(now()), 2, &body(ann, bob)));
    entries.push(status(bob, 3, &expired_of(bob)));
    // A later epoch with a smaller offset comes last.
    let mut late = command_entry(id_at(now()), 1, &sent);
    late.position.epoch += 1;
    entries.push(entry(late.clone()));
    record.write(entries).await;

    let read = async |after, before, limit| {
        let found = record
            .postgres
            .broadcasts_between(after, before, limit)
            .await
            .unwrap();
        assert!(found.iter().all(|it| it.topic == Topic::Broadcast));
        found
            .into_iter()
            .map(|entry| (entry.position, entry.kind))
            .collect::<Vec<_>>()
    };
    let all = [
        (at(1), Kind::CommandNew),
        (at(4), Kind::CommandNew),
        (at(5), Kind::CommandStatus),
        (at(6), Kind::CommandStatus),
        (late.position, Kind::CommandNew),
    ];
    assert_eq!(read(Position::START, Position::END, 100).await, all);
    assert_eq!(read(Position::START, Position::END, 2).await, all[..2]);
    assert_eq!(read(at(4), late.position, 100).await, all[2..4]);
    let last = record
        .postgres
        .broadcasts_between(at(6), Position::END, 9)
        .await
        .unwrap();
    assert_eq!(last, [late], "byte for byte");

    let own = record
        .postgres
        .entries_between(bob, Position::START, Position::END, 9)
        .await
        .unwrap();
    assert_eq!(own.len(), 2, "a user's log has none of it");
}

fn expired_of(user: UserId) -> CommandStatus {
    CommandStatus {
        command_id: id_at(now()),
        recipient_id: Some(user),
        status: Expired,
        broadcast: None,
        categories: vec![],
        at: None,
    }
}

#[tokio::test]
async fn who_registers_begins_behind_the_last_broadcast_from_before() {
    let record = Record::new().await;
    let start = Timestamp(now().0 - 2 * 86_400_000);
    let minute = |n: i64| Timestamp(start.0 + n * 60_000);
    let begins = async |at| {
        let place = record.postgres.last_broadcast_before(at).await.unwrap();
        place.map(|place| place.offset)
    };
    assert_eq!(begins(now()).await, None);
    let ids = [0, 10, 20].map(|n| id_at(minute(n)));
    let mut entries: Vec<_> = (0..3)
        .map(|n| command(ids[n], n as u64 + 1, &broadcast(user())))
        .collect();
    // Ends stand in the log, too. It was taken at minute 30, whenever its id was minted.
    entries.push(over(4, ids[0], Cancelled, minute(30)));
    record.write(entries).await;
    for (minutes, expected) in [
        (-1, None),
        (0, None),
        (1, Some(1)),
        (10, Some(1)),
        (11, Some(2)),
        (29, Some(3)),
        (5000, Some(4)),
    ] {
        assert_eq!(begins(minute(minutes)).await, expected, "{minutes}");
    }
}

#[tokio::test]
async fn a_broadcast_is_pending_until_it_ends_for_everybody() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let id = id_at(now());
    record
        .write(vec![
            command(id, 7, &broadcast(ann)),
            received(&[(bob, &[id])], now()),
        ])
        .await;
    let found = async || record.postgres.command(id).await.unwrap().unwrap();
    let open = found().await;
    assert_eq!((open.position, open.state), (at(7), Pending));
    assert!(open.delivered_at.is_none());
    // Appended again, later: Redis had lost it. The first one comes once more.
    record
        .write(vec![
            command(id, 1_000_007, &broadcast(ann)),
            command(id, 7, &broadcast(ann)),
        ])
        .await;
    assert_eq!(found().await.position, at(1_000_007));
    let ends = vec![
        over(8, id, Cancelled, now()),
        over(9, id, Expired, now()),
        command(id, 1_000_007, &broadcast(ann)),
    ];
    assert_eq!(record.write(ends).await, [], "no sender is told");
    record.write(vec![over(10, id, Expired, now())]).await;
    assert_eq!(found().await.state, Cancelled, "the first end counts");
    let owner =
        "SELECT count(*) FROM user_events WHERE user_id = '00000000-0000-0000-0000-000000000000'";
    assert_eq!(record.database.count(owner).await, 3);
}

#[tokio::test]
async fn recipients_are_counted_and_paged_by_state() {
    let record = Record::new().await;
    let (id, direct, unknown) = (id_at(now()), id_at(now()), id_at(now()));
    let mut users: Vec<_> = (0..7).map(|_| user()).collect();
    users.sort_unstable();
    let all: Vec<_> = users.iter().map(|user| (*user, [id])).collect();
    let all: Vec<_> = all.iter().map(|(user, ids)| (*user, &ids[..])).collect();
    record
        .write(vec![
            command(id, 1, &broadcast(users[0])),
            command(direct, 1, &body(users[0], users[3])),
            received(&all, now()),
            done(users[2], 1, id, now()),
            done(users[5], 1, id, now()),
        ])
        .await;
    let page =
        async |state, after, limit| {
            let found = record.postgres.recipients_of(id, state, after, limit).await;
            let found = found.unwrap();
            assert!(found.iter().all(|it| it.delivered_at.is_some()
                && it.completed_at.is_some() == (it.state == Completed)));
            found.into_iter().map(|it| it.user).collect::<Vec<_>>()
        };
    assert_eq!(page(None, None, 3).await, users[..3]);
    assert_eq!(page(None, Some(users[2]), 9).await, users[3..]);
    assert_eq!(page(Some(Completed), None, 9).await, [users[2], users[5]]);
    assert_eq!(
        page(Some(Delivered), Some(users[3]), 9).await,
        [users[4], users[6]]
    );
    let counts = async |id| record.postgres.recipient_counts(id).await.unwrap();
    let some = RecipientCounts {
        delivered: 5,
        completed: 2,
        ..RecipientCounts::default()
    };
    assert_eq!(counts(id).await, some);
    assert_eq!(counts(direct).await.pending, 1);
    assert_eq!(counts(unknown).await, RecipientCounts::default());

    let asked = [id, direct, unknown];
    let states = record.postgres.states_of(users[3], &asked);
    let expected = HashMap::from([(id, Delivered), (direct, Pending)]);
    assert_eq!(states.await.unwrap(), expected);
    let none = record.postgres.states_of(users[3], &[]).await.unwrap();
    assert!(none.is_empty());
}

#[tokio::test]
async fn ones_history_and_what_one_sent_are_paged_through_both_sorts() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let start = Timestamp(now().0 - 1_000_000);
    let ids: Vec<_> = (0..8)
        .map(|n| id_at(Timestamp(start.0 + n * 100_000)))
        .collect();
    let mut entries = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let offset = n as u64 + 1;
        // Every other one is for many; the last is not done.
        if n % 2 == 0 {
            entries.push(command(*id, offset, &broadcast(ann)));
            entries.push(done(bob, offset + 10, *id, now()));
        } else {
            entries.push(command(*id, offset, &body(ann, bob)));
            if n < 7 {
                entries.push(ended(bob, offset + 10, *id, Completed));
            }
        }
    }
    // Of a broadcast that the record does not have yet: no gap in a page.
    entries.push(done(bob, 30, id_at(Timestamp(start.0 + 250_000)), now()));
    // Somebody else's.
    entries.push(received(&[(user(), &ids)], now()));
    entries.push(done(user(), 1, ids[0], now()));
    record.write(entries).await;

    let id_of = |found: Vec<StoredCommand>| found.iter().map(|it| it.id).collect::<Vec<_>>();
    let history = async |since, before, limit| {
        let found = record
            .postgres
            .commands_in_state(bob, Completed, since, before, limit)
            .await
            .unwrap();
        assert!(found.iter().all(|it| it.state == Completed));
        id_of(found)
    };
    let newest: Vec<_> = ids[..7].iter().rev().copied().collect();
    assert_eq!(history(None, None, 99).await, newest);
    let since = Some(Timestamp(start.0 + 400_000));
    assert_eq!(history(since, None, 99).await, newest[..3]);
    let mut walked = Vec::new();
    loop {
        let page = history(None, walked.last().copied(), 3).await;
        walked.extend(&page);
        if page.len() < 3 {
            break;
        }
    }
    assert_eq!(walked, newest);

    let sent = async |since, before, limit| {
        let found = record
            .postgres
            .sent_commands(ann, since, before, limit)
            .await
            .unwrap();
        found
            .into_iter()
            .map(|it| (it.id, it.state))
            .collect::<Vec<_>>()
    };
    let states = [
        Pending, Completed, Pending, Completed, Pending, Completed, Pending, Pending,
    ];
    let mut expected: Vec<_> = ids.iter().copied().zip(states).collect();
    expected.reverse();
    assert_eq!(sent(None, None, 99).await, expected);
    assert_eq!(sent(None, Some(ids[5]), 2).await, expected[3..5]);
    assert_eq!(sent(since, None, 99).await, expected[..4]);
    // One expires and is archived: still in its place, and still what bob has done.
    record.write(vec![over(40, ids[2], Expired, now())]).await;
    expected[5].1 = Expired;
    for _ in 0..2 {
        assert_eq!(sent(None, None, 99).await, expected);
        assert_eq!(history(None, None, 99).await, newest);
        record.postgres.archive_expired_broadcasts(9).await.unwrap();
    }
}

#[tokio::test]
async fn what_one_had_and_did_not_do_in_time_is_expired_in_ones_history() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let ids: Vec<_> = (0..5).map(|_| id_at(now())).collect();
    let mut entries: Vec<_> = (0..4)
        .map(|n| command(ids[n], n as u64 + 1, &broadcast(ann)))
        .collect();
    entries.extend([
        command(ids[4], 1, &body(ann, bob)),
        // The first is done, the second and third he has, the fourth never reached him.
        received(&[(bob, &ids[..3])], now()),
        done(bob, 2, ids[0], now()),
        ended(bob, 3, ids[4], Expired),
    ]);
    let overs = [0, 1, 3].map(|n| over(n as u64 + 10, ids[n], Expired, now()));
    entries.extend(overs);
    record.write(entries).await;
    let page = async |before, limit| {
        let found = record
            .postgres
            .commands_in_state(bob, Expired, None, before, limit)
            .await
            .unwrap();
        found
            .iter()
            .map(|it| (it.id, it.state, it.delivered_at.is_some()))
            .collect::<Vec<_>>()
    };
    let direct = (ids[4], Expired, false);
    for archived in [false, true] {
        let second = (ids[1], Expired, true);
        assert_eq!(page(None, 9).await, [direct, second], "{archived}");
        assert_eq!(page(Some(ids[4]), 9).await, [second]);
        assert_eq!(page(None, 1).await, [direct]);
        record.postgres.archive_expired_broadcasts(9).await.unwrap();
        record.postgres.archive_expired(9).await.unwrap();
    }
}

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

#[tokio::test]
async fn broadcasts_in_wrong_places_are_quarantined() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let fine = id_at(now());
    let direct = body(ann, bob);
    let in_a_users_log = CommandBody {
        broadcast: Broadcast::Allcast,
        ..direct.clone()
    };
    let unknown_tag = serde_json::json!({"blockedCategories": ["No!"], "allowedCategories": []});
    let pending = record
        .begin(vec![
            command(id_at(now()), 1, &in_a_users_log),
            told(Topic::Broadcast, Kind::CommandNew, 2, now(), &direct),
            told(
                Topic::Broadcast,
                Kind::CommandStatus,
                3,
                now(),
                &expired_of(bob),
            ),
            over(4, fine, Completed, now()),
            told(Topic::User(bob), Kind::Preferences, 5, now(), &unknown_tag),
            told(
                Topic::Broadcast,
                Kind::Preferences,
                6,
                now(),
                &Preferences::default(),
            ),
            told(Topic::Directory, Kind::CommandNew, 7, now(), &direct),
            // These two are in order.
            told(
                Topic::Directory,
                Kind::DirectoryChange,
                8,
                now(),
                &DirectoryChange::Groups,
            ),
            command(fine, 9, &broadcast(ann)),
        ])
        .await
        .unwrap();
    assert_eq!(pending.buried.len(), 7, "{:?}", pending.buried);
    pending.commit().await.unwrap();
    for (table, rows) in [
        ("commands", 1),
        ("command_assignments", 0),
        ("user_events", 0),
    ] {
        let sql = format!("SELECT count(*) FROM {table}");
        assert_eq!(record.database.count(&sql).await, rows, "{table}");
    }
}
