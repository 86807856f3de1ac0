//! When users were seen, and who shares a conversation with whom.

use std::collections::HashSet;

use shared::{domain::*, postgres::ConversationCreated};

use crate::support::*;

fn seen(users: &[(UserId, Timestamp)]) -> PersistRecord {
    record(Persist::Seen {
        users: users.to_vec(),
        at: now(),
    })
}

#[tokio::test]
async fn the_latest_time_counts_in_whatever_order_two_are_written() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let found = async || record.postgres.last_seen(&[ann, bob]).await.unwrap();
    assert!(found().await.is_empty());
    let (early, late) = (Timestamp(1_000_000), Timestamp(2_000_123));
    record
        .write(vec![seen(&[(ann, late), (user(), late)])])
        .await;
    record
        .write(vec![
            seen(&[(ann, early), (bob, early)]),
            seen(&[(bob, late)]),
        ])
        .await;
    assert_eq!(found().await, [(ann, late), (bob, late)].into());
}

#[tokio::test]
async fn who_shares_a_conversation_is_found_in_both_directions() {
    let record = Record::new().await;
    let mut users = Vec::new();
    for name in ["ann", "bob", "cid", "eve"] {
        users.push(record.registered(name).await);
    }
    let [ann, bob, cid, eve] = users[..] else {
        panic!()
    };
    let mut made = Vec::new();
    for members in [[ann, bob], [bob, cid]] {
        let new = new_conversation(ConversationType::Group, &members);
        let conversation = record.postgres.create_conversation(&new, system).await;
        let ConversationCreated::New { members, .. } = conversation.unwrap() else {
            panic!("it was there");
        };
        made.push(members.conversation);
    }
    let pairs = [
        (ann, bob),
        (bob, ann),
        (ann, cid),
        (ann, eve),
        (ann, user()),
    ];
    let sharing = async || {
        record
            .postgres
            .who_share_a_conversation(&pairs)
            .await
            .unwrap()
    };
    assert_eq!(sharing().await, HashSet::from([(ann, bob), (bob, ann)]));
    let contacts = async |user, most| record.postgres.contacts_of(user, most).await.unwrap();
    assert_eq!(contacts(ann, 9).await, [bob]);
    let of_bob: HashSet<_> = contacts(bob, 9).await.into_iter().collect();
    assert_eq!(of_bob, [ann, cid].into());
    assert_eq!(contacts(bob, 1).await.len(), 1);
    assert_eq!(contacts(eve, 9).await, []);
    let archived = "UPDATE conversations SET archived_at = now() WHERE id = ";
    record
        .database
        .query(&format!("{archived}'{}'", made[0]))
        .await;
    assert!(sharing().await.is_empty(), "it is archived");
    assert_eq!(contacts(ann, 9).await, []);
    let exist = record.postgres.existing_users(&[ann, user(), eve]).await;
    assert_eq!(exist.unwrap(), HashSet::from([ann, eve]));
}
