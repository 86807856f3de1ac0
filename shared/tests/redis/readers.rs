//! How far devices have read conversations of which nothing is copied.

use shared::{
    domain::{ConversationId, Kind, Position, Topic, UserId},
    redis::{Append, Appended, Author, ConversationReader, Copier, Reading, Store},
};
use testkit::{Redis, cluster::Cluster};

use super::support::{by, connect, conversation, said, user};

fn reader(conversation: ConversationId, user: UserId, device: &str) -> ConversationReader {
    ConversationReader {
        conversation,
        user,
        device: device.parse().unwrap(),
        joined: 3,
    }
}

fn at(offset: u64) -> Position {
    Position { epoch: 1, offset }
}

/// How far it has come, and how far the user's furthest.
async fn cursors(
    store: &Store,
    reader: &ConversationReader,
) -> (Option<Position>, Option<Position>) {
    let Reading { own, furthest, .. } = store.reading(reader).await.unwrap();
    (own, furthest)
}

#[tokio::test]
async fn a_device_goes_forward_and_a_new_one_learns_where_the_furthest_is() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (group, ann) = (conversation(), user());
    let (phone, tablet) = (reader(group, ann, "phone"), reader(group, ann, "tablet"));
    assert_eq!(cursors(&store, &phone).await, (None, None));
    let read = [(phone.clone(), at(5)), (tablet.clone(), at(2))];
    store.read_upto(&read).await.unwrap();
    for (position, expected) in [(at(3), at(5)), (at(7), at(7))] {
        store.read_upto(&[(phone.clone(), position)]).await.unwrap();
        let now = cursors(&store, &phone).await;
        assert_eq!(now, (Some(expected), Some(expected)));
    }
    assert_eq!(cursors(&store, &tablet).await, (Some(at(2)), Some(at(7))));
    let watch = reader(group, ann, "watch");
    assert_eq!(cursors(&store, &watch).await, (None, Some(at(7))));
    let ben = reader(group, user(), "phone");
    assert_eq!(cursors(&store, &ben).await, (None, None));

    let keys = server.call(&["KEYS", "*:reader:*"]).await;
    let [key] = keys.list() else {
        panic!("one reader, not {keys:?}")
    };
    let left = server.call(&["PTTL", &key.text().unwrap()]).await;
    let left: i64 = left.text().unwrap().parse().unwrap();
    let two_weeks = 14 * 86_400_000;
    assert!(left > two_weeks - 60_000 && left <= two_weeks, "{left}");
}

#[tokio::test]
async fn cursors_of_an_earlier_time_in_the_conversation_count_no_more() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let before = reader(conversation(), user(), "phone");
    let tablet = reader(before.conversation, before.user, "tablet");
    let read = [(before.clone(), at(5)), (tablet, at(6))];
    store.read_upto(&read).await.unwrap();
    let again = ConversationReader {
        joined: 8,
        ..before.clone()
    };
    assert_eq!(cursors(&store, &again).await, (None, None));
    store.read_upto(&[(again.clone(), at(2))]).await.unwrap();
    assert_eq!(cursors(&store, &again).await, (Some(at(2)), Some(at(2))));
    // What a node confirms late.
    store.read_upto(&[(before, at(9))]).await.unwrap();
    assert_eq!(cursors(&store, &again).await, (Some(at(2)), Some(at(2))));
}

#[tokio::test]
async fn a_reader_has_so_many_devices_and_the_longest_unseen_goes() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (group, ann) = (conversation(), user());
    let of = |n: u64| reader(group, ann, &format!("device{n}"));
    for n in 0..16 {
        store.read_upto(&[(of(n), at(n + 1))]).await.unwrap();
    }
    let seen = async || {
        let mut seen = Vec::new();
        for n in 0..18 {
            if store.reading(&of(n)).await.unwrap().own.is_some() {
                seen.push(n);
            }
        }
        seen
    };
    assert_eq!(seen().await, (0..16).collect::<Vec<_>>());
    // By the clock of Redis, whose steps are longer than a call.
    let keys = server.call(&["KEYS", "*:reader:*"]).await;
    let key = keys.list()[0].text().unwrap();
    server.call(&["HSET", &key, "device7", "1:8:5"]).await;
    store.read_upto(&[(of(16), at(20))]).await.unwrap();
    let left: Vec<u64> = (0..17).filter(|n| *n != 7).collect();
    assert_eq!(seen().await, left);
}

#[tokio::test]
async fn it_is_known_where_the_last_message_stands_that_is_in_no_inbox() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let phone = reader(conversation(), user(), "phone");
    let group = phone.conversation;
    store.keep_version(group, 3).await.unwrap();
    let append = async |kind, author| {
        let append = Append {
            kind,
            ..said(group, author, "{}")
        };
        match store.append(append).await.unwrap() {
            Appended::New { position, .. } => position,
            other => panic!("{other:?}"),
        }
    };
    let copied = || Author::By {
        version: 3,
        copier: Some(Copier::new(&"node".parse().unwrap(), 1)),
    };
    let uncopied = async || store.reading(&phone).await.unwrap().uncopied;
    append(Kind::MessageNew, copied()).await;
    append(Kind::MessageRead, by(3)).await;
    assert_eq!(uncopied().await, Position::START);
    for kind in [Kind::MessageNew, Kind::MessageEdited, Kind::MessageDeleted] {
        let last = append(kind, by(3)).await;
        assert_eq!(uncopied().await, last, "{kind}");
        append(Kind::MessageDelivered, by(3)).await;
        append(kind, copied()).await;
        assert_eq!(uncopied().await, last, "{kind}");
    }
    let reading = store.reading(&phone).await.unwrap();
    let standing = store.standing(group).await.unwrap();
    assert_eq!((reading.version, reading.head), standing);
    assert_eq!(standing.0, Some(3));
}

#[tokio::test]
async fn many_are_written_in_a_call_wherever_they_live() {
    let cluster = Cluster::start().await;
    let store = connect(&cluster.url()).await;
    let read: Vec<_> = (1..=300)
        .map(|n| (reader(conversation(), user(), "phone"), at(n)))
        .collect();
    store.read_upto(&read).await.unwrap();
    for (reader, position) in read {
        let topic = Topic::Conversation(reader.conversation);
        let cursors = cursors(&store, &reader).await;
        assert_eq!(cursors, (Some(position), Some(position)), "{topic}");
    }
}
