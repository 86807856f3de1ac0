use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use gateway::{
    dialect::{AckMode, DialectId, Feed, Interest, Wish},
    fanout::{Attachment, Batch, Fanout, Outbox, Taken},
};
use shared::domain::{Kind, Position, Queue, Topic, UserId};
use testkit::eventually;
use tokio::time::timeout;

use crate::support::{Ask, PATIENCE, World, hear, publish, publish_to, user};

const MESSAGES: Feed = Feed::Queue(Queue::Messages);

/// A session of a dialect that takes the user's log apart.
struct Reader {
    fanout: Arc<Fanout>,
    outbox: Arc<Outbox>,
    attachment: Attachment,
}

/// A frame: its address, its place in its log, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Got {
    address: String,
    at: Position,
    text: String,
}

impl Reader {
    async fn open(fanout: &Arc<Fanout>, user: UserId) -> Self {
        let ask = Ask {
            dialect: DialectId::Stomp,
            ..Ask::of(user)
        };
        let (attached, outbox) = ask.attach(fanout).await.unwrap();
        Self {
            fanout: fanout.clone(),
            outbox,
            attachment: attached.start(),
        }
    }

    async fn follow(&self, queue: Queue, acks: AckMode) {
        let wish = wish(queue, acks);
        assert_eq!(hear(&self.fanout, &self.outbox, &[wish]).await, [Ok(())]);
    }

    /// Takes so many frames, and confirms nothing.
    async fn takes(&self, count: usize) -> Vec<Got> {
        let mut all = Vec::new();
        while all.len() < count {
            let mut batch = Batch::new();
            let taken = timeout(
                PATIENCE,
                poll_fn(|cx| self.outbox.poll_batch(cx, &mut batch)),
            );
            let taken = taken.await.unwrap();
            assert!(matches!(taken, Taken::Frames(_)), "{taken:?}");
            all.extend(batch.iter().map(|frame| read(frame)));
            self.outbox.drained(0);
        }
        all
    }

    async fn texts(&self, count: usize) -> Vec<String> {
        self.takes(count)
            .await
            .into_iter()
            .map(|it| it.text)
            .collect()
    }

    /// The peer has answered a ping.
    fn confirms(&self) {
        let reach = self.outbox.written().unwrap();
        self.outbox.confirmed(&reach);
    }

    /// Ends, and what was confirmed is written.
    async fn close(self) {
        drop(self.attachment);
        assert!(self.fanout.flush(PATIENCE).await);
    }
}

fn wish(queue: Queue, acks: AckMode) -> Wish {
    let address = format!("MESSAGE\nsubscription:{queue}\n");
    Wish {
        interest: Interest::Queue(queue),
        address: Some(Bytes::from(address)),
        acks,
    }
}

fn read(frame: &[u8]) -> Got {
    let text = String::from_utf8_lossy(frame);
    let header = |name: &str| {
        let value = text.split(&format!("\n{name}:")).nth(1).unwrap();
        value.split('\n').next().unwrap().to_owned()
    };
    let id = header("message-id");
    let at = id.split('@').nth(1).unwrap().replace('-', ":");
    let content = text.split(r#""content":""#).nth(1).unwrap_or_default();
    Got {
        address: header("subscription"),
        at: at.parse().unwrap(),
        text: content.split('"').next().unwrap().to_owned(),
    }
}

async fn say(world: &World, user: UserId, text: &str) -> Position {
    let body = format!(r#"{{"content":"{text}"}}"#);
    publish_to(&world.store, Topic::User(user), Kind::MessageNew, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_queue_is_taken_up_where_the_device_stands_in_it() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    for number in 1..=3 {
        say(&world, anna, &format!("message {number}")).await;
        publish(&world.store, anna, &format!("command {number}")).await;
    }
    let first = Reader::open(&node, anna).await;
    first.follow(Queue::Messages, AckMode::Auto).await;
    let got = first.takes(3).await;
    assert!(got.iter().all(|it| it.address == "messages"));
    let texts: Vec<_> = got.into_iter().map(|it| it.text).collect();
    assert_eq!(texts, ["message 1", "message 2", "message 3"]);
    assert_eq!(first.outbox.unconfirmed(), 3);
    first.confirms();
    say(&world, anna, "message 4").await;
    assert_eq!(first.texts(1).await, ["message 4"]);
    first.close().await;
    // The fourth was not confirmed; of the commands nothing was even asked for.
    let second = Reader::open(&node, anna).await;
    second.follow(Queue::Messages, AckMode::Auto).await;
    assert_eq!(second.texts(1).await, ["message 4"]);
    second.confirms();
    second.follow(Queue::Commands, AckMode::Auto).await;
    let texts = second.texts(3).await;
    assert_eq!(texts, ["command 1", "command 2", "command 3"]);
    second.confirms();
    second.close().await;
    let third = Reader::open(&node, anna).await;
    third.follow(Queue::Commands, AckMode::Auto).await;
    third.follow(Queue::Messages, AckMode::Auto).await;
    publish(&world.store, anna, "command 4").await;
    say(&world, anna, "message 5").await;
    assert_eq!(third.texts(2).await, ["command 4", "message 5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_queue_is_read_whole_behind_much_that_is_nothing_to_it() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    for number in 0..600 {
        if number % 10 == 0 {
            say(&world, anna, &number.to_string()).await;
        } else {
            publish(&world.store, anna, "command").await;
        }
    }
    let reader = Reader::open(&node, anna).await;
    reader.follow(Queue::Messages, AckMode::Auto).await;
    let expected: Vec<String> = (0..60).map(|number| (number * 10).to_string()).collect();
    assert_eq!(reader.texts(60).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_confirms_out_of_order_moves_its_cursor_as_far_as_all_is_confirmed() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    for text in ["one", "two", "three", "four"] {
        say(&world, anna, text).await;
    }
    let first = Reader::open(&node, anna).await;
    first.follow(Queue::Messages, AckMode::Client).await;
    let got = first.takes(4).await;
    // No pong confirms it, only the client does.
    first.confirms();
    for index in [0, 1, 3] {
        first
            .outbox
            .acknowledged_one(MESSAGES, got[index].at)
            .unwrap();
    }
    first.close().await;
    let second = Reader::open(&node, anna).await;
    second.follow(Queue::Messages, AckMode::Client).await;
    let again = second.takes(2).await;
    assert_eq!(again, got[2..]);
    second.outbox.acknowledged(MESSAGES, got[3].at).unwrap();
    second.close().await;
    let third = Reader::open(&node, anna).await;
    third.follow(Queue::Messages, AckMode::Client).await;
    say(&world, anna, "five").await;
    assert_eq!(third.texts(1).await, ["five"]);
}

/// Waits until Redis counts an entry as refused so often.
async fn counts(world: &World, user: UserId, at: Position, expected: Option<&str>) {
    let partition = Topic::User(user).partition(world.store.partitions());
    let key = format!("{{{partition}}}:nack:{user}");
    let field = format!("messages:phone:{at}");
    eventually("a refusal is counted", PATIENCE, async || {
        let count = world.redis.call(&["HGET", &key, &field]).await;
        (count.text().as_deref() == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_comes_at_each_connect_until_it_is_parked() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    for text in ["bad", "good"] {
        say(&world, anna, text).await;
    }
    for attempt in 1..=3 {
        let reader = Reader::open(&node, anna).await;
        reader.follow(Queue::Messages, AckMode::Client).await;
        let got = reader.takes(2).await;
        assert_eq!(got[0].text, "bad", "attempt {attempt}");
        reader.outbox.nacked(MESSAGES, got[0].at).unwrap();
        reader.outbox.acknowledged(MESSAGES, got[1].at).unwrap();
        // Parked, it is not counted any more.
        let expected = [Some("1"), Some("2"), None][attempt - 1];
        counts(&world, anna, got[0].at, expected).await;
        reader.close().await;
    }
    let reader = Reader::open(&node, anna).await;
    reader.follow(Queue::Messages, AckMode::Client).await;
    say(&world, anna, "next").await;
    assert_eq!(reader.texts(1).await, ["next"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcasts_come_with_the_commands_under_the_same_address() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    let reader = Reader::open(&node, anna).await;
    let all = |text: &str| {
        let body = format!(r#"{{"content":"{text}","categories":[]}}"#);
        publish_to(&world.store, Topic::Broadcast, Kind::CommandNew, body)
    };
    all("before").await;
    reader.follow(Queue::Commands, AckMode::Auto).await;
    assert_eq!(reader.texts(1).await, ["before"]);
    publish(&world.store, anna, "own").await;
    assert_eq!(reader.texts(1).await, ["own"]);
    all("live").await;
    let got = reader.takes(1).await;
    assert_eq!(got[0].address, "commands");
    assert_eq!(got[0].text, "live");
    reader.confirms();
    assert_eq!(reader.outbox.unconfirmed(), 0);
    let wish = wish(Queue::Commands, AckMode::Auto);
    node.unsubscribe(&reader.outbox, &wish);
    all("missed").await;
    reader.follow(Queue::Messages, AckMode::Auto).await;
    say(&world, anna, "message").await;
    assert_eq!(reader.texts(1).await, ["message"]);
    reader.follow(Queue::Commands, AckMode::Auto).await;
    assert_eq!(reader.texts(1).await, ["missed"]);
}
