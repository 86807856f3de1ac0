//! Devices that take the user's log apart have a cursor in each queue, beside those of the others.

use shared::{
    domain::{Device, Persist, Position, Queue, Topic, UserId},
    redis::{Ack, Append, Appended, OpenSession, OpenedSession, Refused, Store},
};
use testkit::{Redis, resp::Reply};

use super::support::{BYTES, append, connect, entry, session, user};

fn device(name: &str) -> Device {
    name.parse().unwrap()
}

async fn confirm(
    store: &Store,
    user: UserId,
    name: &str,
    queue: Option<Queue>,
    position: Position,
) {
    let ack = Ack {
        user,
        device: device(name),
        queue,
        position,
        skipped: Vec::new(),
    };
    store.ack(&[ack]).await.unwrap();
}

/// A session of a device that asks for queues by themselves.
async fn by_queue(store: &Store, user: UserId, name: &str) -> OpenedSession {
    let open = OpenSession {
        device: device(name),
        dialect: "json",
        by_queue: true,
        page: 0,
        ..session(user)
    };
    store.session_open(open).await.unwrap()
}

async fn whole(store: &Store, user: UserId, name: &str) -> OpenedSession {
    let open = OpenSession {
        device: device(name),
        ..session(user)
    };
    store.session_open(open).await.unwrap()
}

/// Stretches of which Postgres was told that they are delivered.
async fn delivered(store: &Store, user: UserId) -> Vec<(Position, Position)> {
    let partition = Topic::User(user).partition(store.partitions());
    let records = store.persist_read(partition, "0-0", 1000, BYTES).await;
    let records = records.unwrap().records.into_iter();
    records
        .filter_map(|record| match record.what {
            Persist::Delivered { from, to, .. } => Some((from, to)),
            _ => None,
        })
        .collect()
}

async fn fill(store: &Store, user: UserId) -> Vec<Position> {
    let mut positions = Vec::new();
    for n in 0..6 {
        let (_, position, _) = append(store, entry(user, &n.to_string())).await;
        positions.push(position);
    }
    positions
}

#[tokio::test]
async fn a_queue_moves_by_itself_and_a_device_goes_on_in_each() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let at = fill(&store, user).await;
    let start = Position::START;
    assert_eq!(by_queue(&store, user, "stomp").await.queues, [start; 3]);
    confirm(&store, user, "stomp", Some(Queue::Messages), at[3]).await;
    confirm(&store, user, "stomp", Some(Queue::Notifications), at[1]).await;
    let opened = by_queue(&store, user, "stomp").await;
    assert_eq!(opened.queues, [start, at[3], at[1]]);
    // Only forward, and not beyond the log.
    confirm(&store, user, "stomp", Some(Queue::Messages), at[2]).await;
    let beyond = Position {
        offset: at[5].offset + 1,
        ..at[5]
    };
    confirm(&store, user, "stomp", Some(Queue::Notifications), beyond).await;
    let opened = by_queue(&store, user, "stomp").await;
    assert_eq!(opened.queues, [start, at[3], at[1]]);
    assert_eq!(store.furthest_cursor(user).await.unwrap(), start);

    // Another begins where any device is furthest, in the queue or in the whole log.
    confirm(&store, user, "phone", None, at[2]).await;
    let opened = by_queue(&store, user, "other").await;
    assert_eq!(opened.queues, [at[2], at[3], at[2]]);
    // One that had the whole log goes on from there.
    assert_eq!(by_queue(&store, user, "phone").await.queues, [at[2]; 3]);
}

#[tokio::test]
async fn a_device_that_begins_with_the_whole_log_misses_nothing_of_any_queue() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let at = fill(&store, user).await;
    confirm(&store, user, "stomp", Some(Queue::Commands), at[3]).await;
    confirm(&store, user, "stomp", Some(Queue::Messages), at[4]).await;
    let opened = whole(&store, user, "first").await;
    assert_eq!(
        opened.cursor,
        Position::START,
        "of one queue nothing is known"
    );
    confirm(&store, user, "stomp", Some(Queue::Notifications), at[1]).await;
    assert_eq!(whole(&store, user, "second").await.cursor, at[1]);
    confirm(&store, user, "first", None, at[0]).await;
    assert_eq!(whole(&store, user, "third").await.cursor, at[0]);
    // Who has a cursor keeps it.
    assert_eq!(whole(&store, user, "second").await.cursor, at[1]);
}

#[tokio::test]
async fn a_session_that_asks_for_queues_leaves_no_cursor_in_the_whole_log() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let at = fill(&store, user).await;
    by_queue(&store, user, "stomp").await;
    confirm(&store, user, "phone", None, at[3]).await;
    assert_eq!(
        whole(&store, user, "stomp").await.cursor,
        at[3],
        "it is new to the whole log"
    );
}

#[tokio::test]
async fn where_a_queue_was_begun_others_do_not_move_it() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let at = fill(&store, user).await;
    let messages = Queue::Messages;
    let begin = async |position| {
        let stomp = device("stomp");
        let done = store.begin_queue(user, &stomp, messages, position);
        done.await.unwrap();
    };
    begin(at[1]).await;
    begin(at[0]).await;
    confirm(&store, user, "other", Some(messages), at[4]).await;
    confirm(&store, user, "phone", None, at[5]).await;
    let opened = by_queue(&store, user, "stomp").await;
    assert_eq!(opened.queues, [at[5], at[1], at[5]]);
    confirm(&store, user, "stomp", Some(messages), at[2]).await;
    begin(at[0]).await;
    assert_eq!(by_queue(&store, user, "stomp").await.queues[1], at[2]);
}

#[tokio::test]
async fn commands_become_delivered_by_their_queue_and_by_the_whole_log() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let at = fill(&store, user).await;
    confirm(&store, user, "stomp", Some(Queue::Messages), at[5]).await;
    confirm(&store, user, "stomp", Some(Queue::Notifications), at[5]).await;
    assert_eq!(delivered(&store, user).await, []);
    confirm(&store, user, "stomp", Some(Queue::Commands), at[1]).await;
    confirm(&store, user, "other", Some(Queue::Commands), at[0]).await;
    confirm(&store, user, "stomp", Some(Queue::Commands), at[2]).await;
    let start = Position::START;
    let by_queue = [(start, at[1]), (at[1], at[2])];
    assert_eq!(delivered(&store, user).await, by_queue);
    assert_eq!(store.furthest_cursor(user).await.unwrap(), at[2]);

    // The whole log has its own furthest; what it has told needs not be told again.
    confirm(&store, user, "phone", None, at[4]).await;
    confirm(&store, user, "stomp", Some(Queue::Commands), at[3]).await;
    confirm(&store, user, "stomp", Some(Queue::Commands), at[5]).await;
    let mut all = by_queue.to_vec();
    all.extend([(start, at[4]), (at[4], at[5])]);
    assert_eq!(delivered(&store, user).await, all);
    assert_eq!(store.furthest_cursor(user).await.unwrap(), at[5]);
}

#[tokio::test]
async fn what_a_queue_of_commands_has_confirmed_cannot_be_taken_back() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let at = fill(&store, user).await;
    let cancel = async |position| {
        let guarded = Append {
            unless_delivered: Some(position),
            ..entry(user, "cancel")
        };
        store.append(guarded).await.unwrap()
    };
    confirm(&store, user, "stomp", Some(Queue::Messages), at[5]).await;
    assert!(matches!(cancel(at[0]).await, Appended::New { .. }));
    confirm(&store, user, "phone", None, at[0]).await;
    confirm(&store, user, "stomp", Some(Queue::Commands), at[2]).await;
    assert_eq!(cancel(at[0]).await, Appended::Delivered);
    assert_eq!(cancel(at[2]).await, Appended::Delivered);
    assert!(matches!(cancel(at[3]).await, Appended::New { .. }));
    confirm(&store, user, "phone", None, at[3]).await;
    assert_eq!(cancel(at[3]).await, Appended::Delivered);
}

#[tokio::test]
async fn a_user_has_a_hundred_devices_of_either_sort_and_no_more() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let at = fill(&store, user).await;
    store.keep_preferences(user, None).await.unwrap();
    let begin = async |name: &str, queue| {
        let device = device(name);
        let done = store.begin_queue(user, &device, queue, at[0]);
        done.await.unwrap();
    };
    for n in 0..150 {
        let name = format!("d{n}");
        if n % 2 == 0 {
            whole(&store, user, &name).await;
        } else {
            by_queue(&store, user, &name).await;
            for queue in Queue::ALL {
                begin(&name, queue).await;
            }
        }
    }
    let partition = Topic::User(user).partition(store.partitions());
    let key = format!("{{{partition}}}:user:{user}");
    let fields = server.call(&["HKEYS", &key]).await;
    let fields: Vec<String> = fields.list().iter().filter_map(Reply::text).collect();
    let devices: std::collections::BTreeSet<&str> = fields
        .iter()
        .filter(|field| *field != "=")
        .map(|field| field.rsplit(':').next().unwrap())
        .collect();
    assert!(devices.len() <= 100, "{}", devices.len());
    assert!(devices.contains("d149") && devices.contains("d148"));
    assert!(
        fields.iter().any(|field| field == "="),
        "what they chose stays"
    );
    // The last ones are whole.
    for queue in Queue::ALL {
        assert!(fields.contains(&format!("{queue}:d149")));
    }
}

#[tokio::test]
async fn refusals_are_counted_by_entry_and_only_so_many_are_remembered() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let at = |offset| Position { epoch: 7, offset };
    let of = |device: &str, queue, offset| Refused {
        device: device.parse().unwrap(),
        queue,
        position: at(offset),
    };
    let phone = |offset| of("phone", Some(Queue::Messages), offset);
    let nack = async |offset| store.nack(user, &phone(offset)).await.unwrap();
    assert_eq!((nack(1).await, nack(1).await, nack(2).await), (1, 2, 1));
    // Other queues, broadcasts and other devices are something else.
    for other in [
        of("phone", Some(Queue::Commands), 1),
        of("phone", None, 1),
        of("tablet", Some(Queue::Messages), 1),
    ] {
        assert_eq!(store.nack(user, &other).await.unwrap(), 1);
    }
    store.forget_nack(user, &phone(1)).await.unwrap();
    assert_eq!(nack(1).await, 1);

    for offset in 100..400 {
        assert_eq!(nack(offset).await, 1);
    }
    let partition = Topic::User(user).partition(store.partitions());
    let key = format!("{{{partition}}}:nack:{user}");
    let count = server.call(&["HLEN", &key]).await.text();
    assert_eq!(count.as_deref(), Some("256"));
    assert_eq!(nack(399).await, 2, "the last ones are remembered");
    // One from before the others is not forgotten over and over: it would be tried for ever.
    assert_eq!((nack(3).await, nack(3).await), (1, 2));
}
