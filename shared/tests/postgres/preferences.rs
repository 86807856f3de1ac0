use shared::domain::*;

use crate::support::*;

fn chosen(blocked: &[&str], allowed: &[&str]) -> Preferences {
    let set = |tags: &[&str]| tags.iter().map(|tag| tag.parse().unwrap()).collect();
    Preferences {
        blocked_categories: set(blocked),
        allowed_categories: set(allowed),
    }
}

fn chooses(user: UserId, offset: u64, preferences: &Preferences) -> PersistRecord {
    told(
        Topic::User(user),
        Kind::Preferences,
        offset,
        now(),
        preferences,
    )
}

#[tokio::test]
async fn the_later_choice_wins_in_whatever_order_two_are_written() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let choices = [
        chosen(&["feet", "adult"], &[]),
        chosen(&[], &["general", "mild"]),
        chosen(&["extreme"], &["mild"]),
    ];
    let entries: Vec<_> = (0..3)
        .map(|n| chooses(ann, n as u64 + 1, &choices[n]))
        .collect();
    let found = async |user| record.postgres.preferences(user).await.unwrap();
    assert_eq!(found(ann).await, None);
    record.write(vec![entries[1].clone()]).await;
    assert_eq!(found(ann).await, Some((at(2), choices[1].clone())));
    record.write(vec![entries[0].clone()]).await;
    assert_eq!(found(ann).await, Some((at(2), choices[1].clone())));
    // Within a batch, too, and once more.
    record
        .write(vec![
            entries[2].clone(),
            entries[0].clone(),
            entries[2].clone(),
        ])
        .await;
    assert_eq!(found(ann).await, Some((at(3), choices[2].clone())));
    // The first choice of a new epoch is later than any of the old one.
    let mut late = match chooses(ann, 1, &Preferences::default()).what {
        Persist::Entry(entry) => entry,
        other => panic!("{other:?}"),
    };
    late.position.epoch += 1;
    record.write(vec![entry(late.clone())]).await;
    assert_eq!(
        found(ann).await,
        Some((late.position, Preferences::default()))
    );
    assert_eq!(found(bob).await, None);
}

#[tokio::test]
async fn a_choice_is_part_of_the_users_log() {
    let record = Record::new().await;
    let (ann, bob) = (user(), user());
    let wanted = chosen(&["feet"], &[]);
    record
        .write(vec![
            command(id_at(now()), 1, &body(bob, ann)),
            chooses(ann, 2, &wanted),
            command(id_at(now()), 3, &body(bob, ann)),
        ])
        .await;
    let log = record
        .postgres
        .entries_between(ann, Position::START, Position::END, 9)
        .await
        .unwrap();
    let kinds: Vec<_> = log.iter().map(|entry| entry.kind).collect();
    assert_eq!(
        kinds,
        [Kind::CommandNew, Kind::Preferences, Kind::CommandNew]
    );
    let said: Preferences = serde_json::from_slice(&log[1].body).unwrap();
    assert_eq!(said, wanted);
}
