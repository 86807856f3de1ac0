//! Copies of what is said are made by one copier at a time, in the order of the log, and whatever
//! happens to copiers, all of them are.

use std::{collections::BTreeSet, time::Duration};

use shared::{
    domain::{ConversationId, Entry, Kind, Position, Topic},
    redis::{Append, Appended, Author, Copier, Copying, Store},
};
use testkit::{HostClock, Redis, RedisOptions};

use super::support::{append, by, connect, conversation, copier, eventually, said};

/// Longer than a copier may be silent.
const LAPSED: i64 = 5_001;

/// A server whose time of day the test sets.
async fn server() -> (HostClock, Redis) {
    let clock = HostClock::default();
    let server = Redis::start_with(RedisOptions {
        clock: Some(clock.clone()),
        ..RedisOptions::default()
    })
    .await;
    (clock, server)
}

fn copied_by(version: u64, copier: &Copier) -> Author {
    Author::By {
        version,
        copier: Some(copier.clone()),
    }
}

/// Says something; answers who copies it.
async fn say(
    store: &Store,
    conversation: ConversationId,
    copier: &Copier,
    body: &str,
) -> (Copying, Position) {
    let entry = said(conversation, copied_by(1, copier), body);
    match store.append(entry).await.unwrap() {
        Appended::New {
            copying, position, ..
        } => (copying, position),
        other => panic!("{other:?}"),
    }
}

/// What a copier was told comes next, as texts.
fn bodies(next: Option<&Vec<(Entry, u64)>>) -> Vec<&str> {
    next.expect("somebody else copies")
        .iter()
        .map(|(entry, _)| std::str::from_utf8(&entry.body).unwrap())
        .collect()
}

async fn uncopied(store: &Store, conversation: ConversationId, age_s: u64) -> Vec<ConversationId> {
    let partition = Topic::Conversation(conversation).partition(store.partitions());
    let age = Duration::from_secs(age_s);
    store.uncopied(partition, age, 10).await.unwrap()
}

#[tokio::test]
async fn one_copies_and_goes_on_with_what_others_say_meanwhile() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (conversation, one, two) = (conversation(), copier("one"), copier("two"));
    store.keep_version(conversation, 1).await.unwrap();
    let (copying, first) = say(&store, conversation, &one, "1").await;
    assert_eq!(copying, Copying::Mine);
    for (copier, body) in [(&two, "2"), (&one, "3")] {
        let (copying, _) = say(&store, conversation, copier, body).await;
        assert_eq!(copying, Copying::NotMine, "{body}");
    }
    // Receipts are in the log as well, and nobody's inbox has them.
    let receipt = Append {
        kind: Kind::MessageRead,
        ..said(conversation, by(1), "read")
    };
    append(&store, receipt).await;
    let change = Author::Change {
        version: 2,
        copier: Some(two.clone()),
    };
    append(&store, said(conversation, change, "4")).await;

    assert_eq!(
        store.copied(conversation, &two, first).await.unwrap(),
        None,
        "who was not asked copies nothing"
    );
    assert_eq!(
        store.take_over_copies(conversation, &two).await.unwrap(),
        None
    );
    let next = store.copied(conversation, &one, first).await.unwrap();
    assert_eq!(bodies(next.as_ref()), ["2", "3", "4"]);
    let versions = next.iter().flatten().map(|(_, version)| *version);
    assert_eq!(versions.collect::<Vec<_>>(), [1, 1, 2]);
    let last = next.unwrap()[2].0.position;
    assert_eq!(
        uncopied(&store, conversation, 0).await,
        [conversation],
        "the rest is not done yet"
    );
    assert_eq!(
        store.copied(conversation, &one, last).await.unwrap(),
        Some(vec![])
    );
    assert!(uncopied(&store, conversation, 0).await.is_empty());

    let after = said(conversation, copied_by(2, &two), "5");
    let Appended::New { copying, .. } = store.append(after).await.unwrap() else {
        panic!("it is new")
    };
    assert_eq!(copying, Copying::Mine, "nobody was copying any more");
    assert_eq!(
        store.copied(conversation, &one, last).await.unwrap(),
        None,
        "who has finished is the copier no longer"
    );
}

#[tokio::test]
async fn a_second_try_makes_nobody_the_copier() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (conversation, one) = (conversation(), copier("one"));
    store.keep_version(conversation, 1).await.unwrap();
    let once = said(conversation, copied_by(1, &one), "1");
    let (_, position, _) = append(&store, once.clone()).await;
    store.copied(conversation, &one, position).await.unwrap();
    let again = store.append(once).await.unwrap();
    assert!(matches!(again, Appended::Duplicate { .. }));
    let (copying, _) = say(&store, conversation, &one, "2").await;
    assert_eq!(copying, Copying::Mine);
}

#[tokio::test]
async fn much_is_copied_in_pages_and_nothing_is_left_out() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (conversation, one) = (conversation(), copier("one"));
    store.keep_version(conversation, 1).await.unwrap();
    let (_, mut upto) = say(&store, conversation, &one, "first").await;
    let long = "x".repeat(100_000);
    let mut expected = Vec::new();
    for n in 0..150 {
        // In between what is not copied.
        append(&store, said(conversation, by(1), "read")).await;
        let body = if n < 6 {
            format!("{n}{long}")
        } else {
            n.to_string()
        };
        say(&store, conversation, &one, &body).await;
        expected.push(body);
    }
    let (mut found, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let next = store.copied(conversation, &one, upto).await.unwrap();
        let page = bodies(next.as_ref());
        if page.is_empty() {
            break;
        }
        sizes.push(page.len());
        found.extend(page.into_iter().map(str::to_owned));
        upto = next.unwrap().last().unwrap().0.position;
    }
    // The one that goes beyond 256 KiB is the last of its page; there are at most 64.
    assert_eq!(sizes, [3, 3, 64, 64, 16]);
    assert!(found == expected);
}

#[tokio::test]
async fn who_is_silent_for_long_loses_what_is_left_to_another() {
    let (clock, server) = server().await;
    let store = connect(&server.url()).await;
    let (conversation, one, two) = (conversation(), copier("one"), copier("two"));
    store.keep_version(conversation, 1).await.unwrap();
    let (_, first) = say(&store, conversation, &one, "1").await;
    say(&store, conversation, &two, "2").await;
    clock.set(LAPSED);
    assert!(uncopied(&store, conversation, 10).await.is_empty());
    let (copying, third) = say(&store, conversation, &two, "3").await;
    assert_eq!(copying, Copying::Abandoned, "1 and 2 come first");
    clock.set(2 * LAPSED);
    assert_eq!(uncopied(&store, conversation, 10).await, [conversation]);

    let taken = store.take_over_copies(conversation, &two).await.unwrap();
    assert_eq!(bodies(taken.as_ref()), ["1", "2", "3"]);
    // It comes to itself.
    assert_eq!(store.copied(conversation, &one, first).await.unwrap(), None);
    assert!(
        !store
            .still_copying(conversation, &one, first)
            .await
            .unwrap()
    );
    assert_eq!(
        store.copied(conversation, &two, third).await.unwrap(),
        Some(vec![])
    );
    assert!(uncopied(&store, conversation, 0).await.is_empty());
}

#[tokio::test]
async fn who_says_that_it_still_copies_goes_on() {
    let (clock, server) = server().await;
    let store = connect(&server.url()).await;
    let (conversation, one, two) = (conversation(), copier("one"), copier("two"));
    store.keep_version(conversation, 1).await.unwrap();
    let (_, first) = say(&store, conversation, &one, "1").await;
    let (_, second) = say(&store, conversation, &one, "2").await;
    for step in 1..4 {
        clock.set(step * (LAPSED - 1_000));
        let still = store.still_copying(conversation, &one, first).await;
        assert!(still.unwrap());
        let taken = store.take_over_copies(conversation, &two).await;
        assert_eq!(taken.unwrap(), None);
    }
    // It took long, but nobody else has come.
    clock.set(10 * LAPSED);
    let next = store.copied(conversation, &one, first).await.unwrap();
    assert_eq!(bodies(next.as_ref()), ["2"]);
    // What was said to be copied stays so, in whatever order that is told.
    say(&store, conversation, &one, "3").await;
    let still = store.still_copying(conversation, &one, second).await;
    assert!(still.unwrap());
    let next = store.copied(conversation, &one, first).await.unwrap();
    assert_eq!(bodies(next.as_ref()), ["3"]);
}

#[tokio::test]
async fn a_copier_does_not_outlast_a_clock_that_is_set_back() {
    let (clock, server) = server().await;
    let store = connect(&server.url()).await;
    let (conversation, one, two) = (conversation(), copier("one"), copier("two"));
    store.keep_version(conversation, 1).await.unwrap();
    say(&store, conversation, &one, "1").await;
    clock.set(-600_000);
    assert_eq!(uncopied(&store, conversation, 10).await, [conversation]);
    let taken = store.take_over_copies(conversation, &two).await.unwrap();
    assert_eq!(bodies(taken.as_ref()), ["1"]);
}

#[tokio::test]
async fn trimming_leaves_what_is_not_copied_also_from_before_a_restart() {
    let (clock, server) = server().await;
    let store = connect(&server.url()).await;
    let (conversation, one, two) = (conversation(), copier("one"), copier("two"));
    let topic = Topic::Conversation(conversation);
    let partition = topic.partition(store.partitions());
    store.keep_version(conversation, 1).await.unwrap();
    let (_, first) = say(&store, conversation, &one, "1").await;
    say(&store, conversation, &one, "2").await;
    assert!(
        store
            .still_copying(conversation, &one, first)
            .await
            .unwrap()
    );

    server.restart().await;
    eventually("redis is back", || async {
        store.keep_version(conversation, 1).await.is_ok()
    })
    .await;
    append(&store, said(conversation, by(1), "read")).await;
    let entry = said(conversation, copied_by(1, &two), "3");
    let (_, third, last) = append(&store, entry).await;
    assert!(third.epoch > first.epoch);
    // Postgres has it all, and all of it is old.
    store.persist_commit(partition, &last).await.unwrap();
    let trim = async || {
        let (mut cursor, mut removed) = (0, 0);
        loop {
            let step = store.trim_step(0, cursor, Duration::ZERO, 1000).await;
            let step = step.unwrap();
            removed += step.entries;
            match step.next {
                Some(next) => cursor = next,
                None => return removed,
            }
        }
    };
    assert_eq!(trim().await, 1, "only the first is copied");
    clock.set(LAPSED);
    let taken = store.take_over_copies(conversation, &two).await.unwrap();
    assert_eq!(bodies(taken.as_ref()), ["2", "3"]);
    assert_eq!(trim().await, 0);
    let done = store.copied(conversation, &two, third).await.unwrap();
    assert_eq!(done, Some(vec![]));
    assert_eq!(trim().await, 3);
}

/// A process that copies until it dies.
struct Process {
    copier: Copier,
    work: Vec<Entry>,
}

#[tokio::test]
async fn copiers_that_die_anywhere_leave_an_inbox_whole_and_in_order() {
    let (clock, server) = server().await;
    let store = connect(&server.url()).await;
    let conversation = conversation();
    store.keep_version(conversation, 1).await.unwrap();
    let mut processes: Vec<Process> = (0..3)
        .map(|n| Process {
            copier: copier(&format!("n{n}")),
            work: Vec::new(),
        })
        .collect();
    // What is in the inbox is there once, as appends under a key of their own are.
    let (mut inbox, mut seen, mut expected) = (Vec::new(), BTreeSet::new(), Vec::new());
    let mut chance = 0x2545_F491_4F6C_DD1D_u64;
    let mut choose = |upto: u64| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance % upto
    };
    let mut elapsed = 0;
    let (mut deaths, mut taken_over) = (0, 0);
    for step in 0..2_000 {
        let process = &mut processes[choose(3) as usize];
        match choose(10) {
            0..3 if step < 1_900 => {
                let body = expected.len().to_string();
                let (copying, position) = say(&store, conversation, &process.copier, &body).await;
                expected.push(position);
                if copying == Copying::Mine {
                    let found = store.read(
                        Topic::Conversation(conversation),
                        Position {
                            offset: position.offset - 1,
                            ..position
                        },
                        1,
                    );
                    let shared::redis::Page::Entries { entries, .. } = found.await.unwrap() else {
                        panic!("it was appended a moment ago")
                    };
                    process.work = entries;
                }
            }
            3..7 => {
                // Some of its work; whoever has been replaced does not know yet.
                let most = choose(4) as usize;
                let work: Vec<Entry> = process.work.drain(..most.min(process.work.len())).collect();
                for entry in &work {
                    if seen.insert(entry.position) {
                        inbox.push(entry.position);
                    }
                }
                let (Some(last), true) = (work.last(), process.work.is_empty()) else {
                    continue;
                };
                let next = store.copied(conversation, &process.copier, last.position);
                let next = next.await.unwrap().unwrap_or_default();
                process.work = next.into_iter().map(|(entry, _)| entry).collect();
            }
            7 => {
                deaths += usize::from(!process.work.is_empty());
                process.work.clear();
            }
            8 if choose(4) == 0 => {
                elapsed += LAPSED;
                clock.set(elapsed);
            }
            _ => {
                let next = store.take_over_copies(conversation, &process.copier);
                if let Some(next) = next.await.unwrap().filter(|next| !next.is_empty()) {
                    taken_over += 1;
                    process.work = next.into_iter().map(|(entry, _)| entry).collect();
                }
            }
        }
    }
    // Whoever is left.
    clock.set(elapsed + LAPSED);
    let last = copier("last");
    let mut next = store.take_over_copies(conversation, &last).await.unwrap();
    while let Some(work) = next.filter(|work| !work.is_empty()) {
        for (entry, _) in &work {
            if seen.insert(entry.position) {
                inbox.push(entry.position);
            }
        }
        let upto = work.last().unwrap().0.position;
        next = store.copied(conversation, &last, upto).await.unwrap();
    }
    assert!(deaths > 10 && taken_over > 10, "{deaths} {taken_over}");
    assert!(expected.len() > 100);
    assert_eq!(inbox, expected);
    assert!(uncopied(&store, conversation, 0).await.is_empty());
}
