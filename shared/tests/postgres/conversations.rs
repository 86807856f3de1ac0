use std::time::Duration;

use shared::{
    domain::*,
    postgres::{ConversationChanged, ConversationCreated, UserStatus},
};

use crate::support::*;

fn joined(users: &[UserId]) -> ConversationChange {
    ConversationChange::Joined {
        user_ids: users.to_vec(),
    }
}

fn left(user_id: UserId) -> ConversationChange {
    ConversationChange::Left { user_id }
}

impl Record {
    async fn change(
        &self,
        conversation: ConversationId,
        changes: &[ConversationChange],
    ) -> ConversationChanged {
        self.postgres
            .change_conversation(conversation, changes, |_| true, system, now())
            .await
            .unwrap()
    }

    async fn members(&self, conversation: ConversationId) -> Members {
        let found = self.postgres.conversation_members(conversation).await;
        found.unwrap().unwrap()
    }

    /// Versions that wait to be told.
    async fn untold(&self) -> Vec<u64> {
        let mut versions = Vec::new();
        let conversations = self.to_tell(Duration::ZERO, None, 100).await;
        for conversation in conversations {
            let untold = self.postgres.untold_changes_of(conversation).await;
            versions.extend(untold.unwrap().into_iter().map(|it| it.version));
        }
        versions
    }

    async fn to_tell(
        &self,
        age: Duration,
        after: Option<ConversationId>,
        limit: u32,
    ) -> Vec<ConversationId> {
        let found = self.postgres.conversations_to_tell(age, after, limit);
        found.await.unwrap()
    }
}

fn done(changed: ConversationChanged) -> (Members, Vec<ConversationChange>) {
    let ConversationChanged::Done { members, untold } = changed else {
        panic!("{changed:?}");
    };
    let changes = untold.iter().map(|it| {
        let body: MessageBody = serde_json::from_str(&it.body).unwrap();
        assert_eq!(body.conversation_id, it.conversation);
        body.change.unwrap()
    });
    (members.clone(), changes.collect())
}

#[tokio::test]
async fn two_nodes_that_make_a_direct_conversation_at_once_make_one() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let other = connect(&record.database.url());
    for round in 0..10 {
        let eve = record.registered(&format!("eve{round}")).await;
        // Each from its own side.
        let (mine, theirs) = (
            new_conversation(ConversationType::Direct, &[ann, eve]),
            new_conversation(ConversationType::Direct, &[eve, ann]),
        );
        let (one, two) = tokio::join!(
            record.postgres.create_conversation(&mine, system),
            other.create_conversation(&theirs, system)
        );
        let ids: Vec<_> = [one.unwrap(), two.unwrap()]
            .into_iter()
            .map(|made| match made {
                ConversationCreated::New { members, .. } => (members.conversation, true),
                ConversationCreated::Existing(id) => (id, false),
                ConversationCreated::NoUser(nobody) => panic!("{nobody}"),
            })
            .collect();
        assert_eq!(ids[0].0, ids[1].0);
        assert_ne!(ids[0].1, ids[1].1, "one of the two made it");
    }
    let count = "SELECT count(*) FROM conversations";
    assert_eq!(record.database.count(count).await, 10);
    let direct = async |one, other| {
        record
            .postgres
            .direct_conversation(one, other)
            .await
            .unwrap()
    };
    assert_eq!(direct(bob, ann).await, None);
    // Another pair has another one, and a group of the same two is none of it.
    let made = record
        .conversation(ConversationType::Direct, &[ann, bob])
        .await;
    assert_eq!(
        (direct(bob, ann).await, direct(ann, bob).await),
        (Some(made), Some(made))
    );
    record.group(&[ann, bob]).await;
    assert_eq!(record.database.count(count).await, 12);
}

#[tokio::test]
async fn a_conversation_is_made_once_and_only_of_users_who_may_come_in() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let new = new_conversation(ConversationType::Group, &[ann, bob, ann]);
    let made = record.postgres.create_conversation(&new, system).await;
    let ConversationCreated::New { members, untold } = made.unwrap() else {
        panic!("it is new");
    };
    assert_eq!(members, record.members(new.id).await);
    assert_eq!((members.version, members.all.len()), (1, 2));
    assert_eq!(members.get(ann).unwrap().role, ParticipantRole::Admin);
    assert_eq!(members.get(bob).unwrap().role, ParticipantRole::Member);
    assert_eq!((untold.version, untold.conversation), (1, new.id));
    let again = record.postgres.create_conversation(&new, system).await;
    assert_eq!(again.unwrap(), ConversationCreated::Existing(new.id));
    assert_eq!(record.untold().await, [1]);

    let nobody = user();
    let banned = record.registered("eve").await;
    let sql = format!(
        "UPDATE users SET status = '{}' WHERE id = '{banned}'",
        UserStatus::Banned.as_str()
    );
    record.database.query(&sql).await;
    for who in [nobody, banned] {
        let new = new_conversation(ConversationType::Group, &[ann, who]);
        let made = record.postgres.create_conversation(&new, system).await;
        assert_eq!(made.unwrap(), ConversationCreated::NoUser(who));
        let changed = record.change(members.conversation, &[joined(&[who])]).await;
        assert_eq!(changed, ConversationChanged::NoUser(who));
    }
    assert_eq!(
        record
            .postgres
            .conversation_members(ConversationId(nobody.0))
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn every_change_has_a_version_and_a_note_until_it_is_told() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let eve = record.registered("eve").await;
    let group = record.group(&[ann, bob]).await;
    let admin = ConversationChange::Role {
        user_id: eve,
        role: ParticipantRole::Admin,
    };
    let renamed = ConversationChange::Renamed {
        title: "roses".into(),
    };
    let muted = ConversationChange::Muted {
        user_id: bob,
        until: Some(Timestamp(now().0 + 1000)),
    };
    let asked = [
        joined(&[eve, bob]),
        admin.clone(),
        renamed.clone(),
        muted.clone(),
    ];
    let (members, told) = done(record.change(group, &asked).await);
    assert_eq!(told, [joined(&[eve]), admin, renamed, muted.clone()]);
    assert_eq!(members, record.members(group).await);
    assert_eq!(members.version, 5);
    assert_eq!(members.get(eve).unwrap().joined, 2);
    assert!(members.get(bob).unwrap().muted_until.is_some());
    // Once more is nothing.
    let again = record.change(group, &asked).await;
    assert_eq!(again, ConversationChanged::Nothing(members));

    let (members, told) = done(record.change(group, &[left(ann)]).await);
    assert_eq!(told, [left(ann)], "eve manages it, too");
    assert!(members.get(ann).is_none());
    assert_eq!(members.at(5).count(), 3);
    assert_eq!(members, record.members(group).await);
    assert_eq!(record.untold().await, [1, 2, 3, 4, 5, 6]);
    for version in [1, 2, 3, 5] {
        let told = record.postgres.conversation_change_told(group, version);
        told.await.unwrap();
    }
    assert_eq!(record.untold().await, [4, 6]);
    let young = record.to_tell(Duration::from_secs(60), None, 10).await;
    assert_eq!(young, []);
}

#[tokio::test]
async fn conversations_that_are_to_be_told_come_in_pages_each_once() {
    let record = Record::new().await;
    let ann = record.registered("ann").await;
    let mut made = Vec::new();
    for _ in 0..5 {
        let group = record.group(&[ann]).await;
        record.change(group, &[ConversationChange::Archived]).await;
        made.push(group);
    }
    made.sort_unstable();
    let (mut found, mut after) = (Vec::<ConversationId>::new(), None);
    loop {
        let page = record.to_tell(Duration::ZERO, after, 2).await;
        found.extend(&page);
        after = page.last().copied();
        if page.len() < 2 {
            break;
        }
    }
    assert_eq!(found, made);
}

#[tokio::test]
async fn what_is_not_allowed_at_that_moment_changes_nothing() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let group = record.group(&[ann, bob]).await;
    let before = record.members(group).await;
    let changed = record
        .postgres
        .change_conversation(
            group,
            &[ConversationChange::Archived],
            |members| {
                assert_eq!(*members, before);
                false
            },
            system,
            now(),
        )
        .await
        .unwrap();
    assert_eq!(changed, ConversationChanged::Forbidden);
    // All or none.
    let half = [ConversationChange::Archived, left(user())];
    let changed = record.change(group, &half).await;
    assert!(matches!(changed, ConversationChanged::NoParticipant(_)));
    let demoted = ConversationChange::Role {
        user_id: ann,
        role: ParticipantRole::Member,
    };
    let changed = record.change(group, &[demoted]).await;
    assert_eq!(changed, ConversationChanged::LastAdmin);
    let nowhere = record.change(ConversationId(user().0), &[ConversationChange::Archived]);
    assert_eq!(nowhere.await, ConversationChanged::NoConversation);
    let direct = record
        .conversation(ConversationType::Direct, &[ann, bob])
        .await;
    let renamed = ConversationChange::Renamed { title: "x".into() };
    for change in [left(ann), renamed, joined(&[ann])] {
        let changed = record.change(direct, &[change]).await;
        assert_eq!(changed, ConversationChanged::IsDirect);
    }
    assert_eq!(record.members(group).await, before);
    assert_eq!(record.untold().await, [1, 1]);
}

#[tokio::test]
async fn archiving_is_a_change_like_any_other_also_of_a_direct_one() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let direct = record
        .conversation(ConversationType::Direct, &[ann, bob])
        .await;
    let (members, _) = done(record.change(direct, &[ConversationChange::Archived]).await);
    assert!(members.is_archived && record.members(direct).await.is_archived);
    let idle = async |before: Timestamp| {
        let found = record.postgres.idle_conversations(before, None, 10).await;
        found
            .unwrap()
            .into_iter()
            .map(|it| it.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(idle(now()).await, []);
    let (members, _) = done(
        record
            .change(direct, &[ConversationChange::Unarchived])
            .await,
    );
    assert!(!members.is_archived && !record.members(direct).await.is_archived);
    assert_eq!(idle(now()).await, [direct]);
    assert_eq!(idle(Timestamp(now().0 - 7_200_000)).await, []);
}

#[tokio::test]
async fn changes_of_many_nodes_at_once_all_have_their_own_version() {
    let record = Record::new().await;
    let mut users = Vec::new();
    for n in 0..9 {
        users.push(record.registered(&format!("user{n}")).await);
    }
    let group = record.group(&users[..1]).await;
    let others = connect(&record.database.url());
    let joins = users[1..].iter().enumerate().map(|(n, user)| {
        let postgres = if n % 2 == 0 {
            &record.postgres
        } else {
            &others
        };
        let change = [joined(&[*user])];
        async move {
            let changed = postgres.change_conversation(group, &change, |_| true, system, now());
            done(changed.await.unwrap()).0.version
        }
    });
    let mut versions = futures_util::future::join_all(joins).await;
    versions.sort_unstable();
    assert_eq!(versions, (2..=9).collect::<Vec<_>>());
    assert_eq!(record.members(group).await.present().count(), 9);
}

#[tokio::test]
async fn who_comes_back_keeps_what_they_have_read_and_owes_nothing_from_between() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let group = record.group(&[ann, bob]).await;
    let ids: Vec<_> = (0..3)
        .map(|n| id_at(Timestamp(now().0 - 1000 + n)))
        .collect();
    let said = words(group, ann, "hello");
    record
        .write(vec![
            message(ids[0], 1, &said),
            upto(group, Kind::MessageRead, bob, ids[0], 2),
            message(ids[1], 3, &said),
        ])
        .await;
    let bobs = async || {
        record
            .postgres
            .conversation(group, bob, 9)
            .await
            .unwrap()
            .unwrap()
    };
    assert_eq!(bobs().await.unread, 1);
    record.change(group, &[left(bob)]).await;
    assert_eq!(bobs().await.unread, 0, "no participant");
    assert_eq!(bobs().await.participant_count, 1);
    record.write(vec![message(ids[2], 4, &said)]).await;
    let (members, _) = done(record.change(group, &[joined(&[bob])]).await);
    assert_eq!(members.get(bob).unwrap().joined, 3);
    let back = bobs().await;
    assert_eq!((back.unread, back.participant_count), (0, 2));
    let read: Vec<_> = back
        .participants
        .iter()
        .map(|it| (it.user, it.last_read))
        .collect();
    assert!(read.contains(&(bob, Some(ids[0]))), "{read:?}");
    let lowest = record.postgres.lowest_pointers(group).await.unwrap();
    assert_eq!(
        lowest.status(ids[2], ann),
        MessageStatus::Read,
        "nothing from before counts"
    );
    let new = id_at(Timestamp(now().0 + 1000));
    record.write(vec![message(new, 5, &said)]).await;
    assert_eq!(bobs().await.unread, 1);
}
