use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use futures_util::future::BoxFuture;
use gateway::{
    dialect::{AckMode, Interest, Messages, Wish},
    fanout::{Fanout, Notice, Outbox, OutboxLimits, Right, Rights},
};
use parking_lot::Mutex;
use shared::{
    domain::{
        Code, ConversationId, Digest, Durability, Kind, Position, Refusal, SessionId, Signal,
        SignalKind, Topic, UserId,
    },
    redis::{Append, Appended, Author, IdempotencyKey, Store},
};
use testkit::eventually;
use uuid::Uuid;

use crate::support::{Ask, Client, Held, PATIENCE, World, hear, publish_to, user};

/// Who takes part in what, as Postgres would know.
#[derive(Default)]
struct Participants {
    all: Mutex<HashMap<ConversationId, (u64, Vec<UserId>)>>,
    /// So many times more it cannot be asked.
    away: AtomicU32,
    held: Held<ConversationId>,
    /// What it was asked for.
    asked: Mutex<Vec<ConversationId>>,
}

impl Participants {
    fn are(&self, conversation: ConversationId, version: u64, users: &[UserId]) {
        let all = (version, users.to_vec());
        self.all.lock().insert(conversation, all);
    }
}

impl Rights for Participants {
    fn right(
        &self,
        user: UserId,
        conversation: ConversationId,
        _least: u64,
    ) -> BoxFuture<'_, Result<Right, Refusal>> {
        self.asked.lock().push(conversation);
        let away = |left: u32| left.checked_sub(1);
        if self
            .away
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, away)
            .is_ok()
        {
            let refusal = Refusal::new(Code::Unavailable, "away");
            return Box::pin(async { Err(refusal) });
        }
        let all = self.all.lock();
        let found = all.get(&conversation);
        let version = found.filter(|(_, users)| users.contains(&user));
        let right = version.map(|(version, _)| right(*version));
        let refusal = Refusal::new(Code::Forbidden, "not a participant");
        Box::pin(async move {
            self.held.pass([&conversation].into_iter()).await;
            right.ok_or(refusal)
        })
    }

    fn conversations(
        &self,
        user: UserId,
    ) -> BoxFuture<'_, Result<Vec<(ConversationId, Right)>, Refusal>> {
        let all = self.all.lock();
        let theirs = all.iter().filter(|(_, (_, users))| users.contains(&user));
        let theirs = theirs
            .map(|(id, (version, _))| (*id, right(*version)))
            .collect();
        Box::pin(async { Ok(theirs) })
    }
}

fn right(version: u64) -> Right {
    Right {
        version,
        joined: 1,
        is_large: false,
    }
}

fn wish(interest: Interest) -> Wish {
    Wish {
        interest,
        address: None,
        acks: AckMode::Auto,
    }
}

fn everything(id: Option<ConversationId>) -> Wish {
    let messages = Messages::All;
    wish(Interest::Conversation { id, messages })
}

fn conversation() -> ConversationId {
    ConversationId(Uuid::now_v7())
}

async fn append(store: &Store, group: ConversationId, author: Author, body: String) -> Appended {
    let body = body.into_bytes();
    let append = Append {
        author: Some(author),
        ..Append::new(
            Topic::Conversation(group),
            Kind::MessageNew,
            body.clone(),
            IdempotencyKey(Uuid::now_v7().to_string()),
            Digest::of(&body),
            Durability::Memory,
        )
    };
    store.append(append).await.unwrap()
}

async fn say(store: &Store, group: ConversationId, version: u64, text: &str) -> Appended {
    let author = Author::By {
        version,
        copier: None,
    };
    append(store, group, author, format!(r#"{{"content":"{text}"}}"#)).await
}

async fn change(store: &Store, group: ConversationId, version: u64, change: &str) {
    let author = Author::Change {
        version,
        copier: None,
    };
    let body = format!(
        r#"{{"content":"changed {version}","conversationId":"{group}","change":{change}}}"#
    );
    let appended = append(store, group, author, body).await;
    assert!(matches!(appended, Appended::New { .. }), "{appended:?}");
}

fn of_user(what: &str, user: UserId) -> String {
    format!(r#"{{"what":"{what}","userId":"{user}"}}"#)
}

/// Nodes that ask the same participants, and one client on each.
struct Scene {
    world: World,
    nodes: Vec<Arc<Fanout>>,
    participants: Arc<Participants>,
    group: ConversationId,
}

impl Scene {
    async fn of(nodes: usize) -> Self {
        let world = World::start().await;
        let participants = Arc::new(Participants::default());
        let mut started = Vec::new();
        for _ in 0..nodes {
            let node = world.node().await;
            node.ask_for_rights(participants.clone());
            started.push(node);
        }
        Self {
            world,
            nodes: started,
            participants,
            group: conversation(),
        }
    }

    async fn listener(&self, node: usize, user: UserId) -> Client {
        let client = Ask::of(user).client(&self.nodes[node]).await;
        self.subscribe(node, &client.outbox, &everything(Some(self.group)))
            .await
            .unwrap();
        client
    }

    async fn subscribe(
        &self,
        node: usize,
        outbox: &Arc<Outbox>,
        wish: &Wish,
    ) -> Result<(), Refusal> {
        hear(&self.nodes[node], outbox, std::slice::from_ref(wish))
            .await
            .remove(0)
    }

    async fn say(&self, version: u64, text: &str) {
        let appended = say(&self.world.store, self.group, version, text).await;
        assert!(matches!(appended, Appended::New { .. }), "{appended:?}");
    }

    async fn change(&self, version: u64, what: &str) {
        change(&self.world.store, self.group, version, what).await;
    }
}

async fn is_told(client: &Client) -> Notice {
    eventually("the client is told", PATIENCE, async || {
        client.seen.notices.lock().first().copied()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_removed_while_subscribed_does_not_get_the_next_message() {
    let scene = Scene::of(2).await;
    let (anna, ben) = (user(), user());
    scene.participants.are(scene.group, 1, &[anna, ben]);
    let [of_anna, of_ben] = [scene.listener(0, anna).await, scene.listener(1, ben).await];
    scene.say(1, "one").await;
    scene.participants.are(scene.group, 2, &[ben]);
    scene.change(2, &of_user("removed", anna)).await;
    scene.say(2, "two").await;
    of_ben.sees(3).await;
    assert_eq!(of_ben.seen.texts(), ["one", "changed 2", "two"]);
    let Notice::Unsubscribed { conversation, .. } = is_told(&of_anna).await else {
        panic!("somebody is not watched any more");
    };
    assert_eq!(conversation, scene.group);
    assert_eq!(of_anna.seen.texts(), ["one", "changed 2"]);
    let again = everything(Some(scene.group));
    let refusal = scene.subscribe(0, &of_anna.outbox, &again).await;
    assert_eq!(refusal.unwrap_err().code, Code::Forbidden);
    // Brought in again, they hear what comes then.
    scene.participants.are(scene.group, 3, &[anna, ben]);
    scene
        .change(3, &format!(r#"{{"what":"joined","userIds":["{anna}"]}}"#))
        .await;
    scene.subscribe(0, &of_anna.outbox, &again).await.unwrap();
    scene.say(3, "three").await;
    of_anna.sees(3).await;
    assert_eq!(of_anna.seen.texts(), ["one", "changed 2", "three"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_subscribes_to_a_foreign_conversation() {
    let scene = Scene::of(1).await;
    let (anna, ben) = (user(), user());
    scene.participants.are(scene.group, 1, &[ben]);
    let client = Ask::of(anna).client(&scene.nodes[0]).await;
    let group = everything(Some(scene.group));
    let refused = scene.subscribe(0, &client.outbox, &group).await;
    assert_eq!(refused.unwrap_err().code, Code::Forbidden);
    let of_ben = scene.listener(0, ben).await;
    scene.say(1, "one").await;
    of_ben.sees(1).await;
    assert_eq!(client.seen.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_had_yet_holds_up_nothing_else() {
    let scene = Scene::of(1).await;
    let anna = user();
    let (slow, quick) = (scene.group, conversation());
    for group in [slow, quick] {
        scene.participants.are(group, 1, &[anna]);
    }
    let permits = scene.participants.held.hold(slow);
    let client = Ask::of(anna).client(&scene.nodes[0]).await;
    let subscribing = tokio::spawn({
        let (node, outbox) = (scene.nodes[0].clone(), client.outbox.clone());
        let typing = wish(Interest::Typing(Some(slow)));
        let foreign = everything(Some(conversation()));
        let wishes = [
            everything(Some(slow)),
            foreign,
            everything(Some(quick)),
            typing,
        ];
        async move { hear(&node, &outbox, &wishes).await }
    });
    // Were they begun one after the other, the slow one would be given up first.
    eventually("the quick one is asked for", PATIENCE, async || {
        scene
            .participants
            .asked
            .lock()
            .contains(&quick)
            .then_some(())
    })
    .await;
    permits.add_permits(1);
    let answers = subscribing.await.unwrap();
    let codes = answers.into_iter().map(|it| it.err().map(|it| it.code));
    let codes: Vec<_> = codes.collect();
    assert_eq!(
        codes,
        [None, Some(Code::Forbidden), None, None],
        "in their order"
    );
    scene.say(1, "one").await;
    client.sees(1).await;
    say(&scene.world.store, quick, 1, "two").await;
    client.sees(2).await;
    assert_eq!(client.seen.texts(), ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archived_conversation_is_heard_by_nobody_until_it_is_none_any_more() {
    let scene = Scene::of(1).await;
    let anna = user();
    scene.participants.are(scene.group, 1, &[anna]);
    let client = scene.listener(0, anna).await;
    scene.change(2, r#"{"what":"archived"}"#).await;
    is_told(&client).await;
    scene.change(3, r#"{"what":"unarchived"}"#).await;
    assert_eq!(client.seen.texts(), ["changed 2"]);
    scene.participants.are(scene.group, 3, &[anna]);
    let again = everything(Some(scene.group));
    scene.subscribe(0, &client.outbox, &again).await.unwrap();
    scene.say(3, "one").await;
    client.sees(2).await;
    assert_eq!(client.seen.texts(), ["changed 2", "one"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_subscribes_while_people_come_and_go_hears_exactly_what_they_may() {
    let scene = Arc::new(Scene::of(2).await);
    let (anna, ben) = (user(), user());
    scene.participants.are(scene.group, 1, &[anna, ben]);
    scene
        .world
        .store
        .keep_version(scene.group, 1)
        .await
        .unwrap();
    for round in 0..20_u64 {
        let (with, without) = (2 * round + 1, 2 * round + 2);
        let client = Ask::of(anna).client(&scene.nodes[round as usize % 2]).await;
        // Removed at about the time of subscribing; what follows is not for them.
        let removing = tokio::spawn({
            let scene = scene.clone();
            async move {
                scene.say(with, "before").await;
                scene.participants.are(scene.group, without, &[ben]);
                scene.change(without, &of_user("removed", anna)).await;
                scene.say(without, "secret").await;
            }
        });
        let wish = everything(Some(scene.group));
        let subscribed = scene
            .subscribe(round as usize % 2, &client.outbox, &wish)
            .await;
        removing.await.unwrap();
        match subscribed {
            // They hear that they have to go, and then no more.
            Ok(()) => {
                is_told(&client).await;
            }
            Err(refusal) => assert_eq!(refusal.code, Code::Forbidden),
        }
        scene
            .participants
            .are(scene.group, without + 1, &[anna, ben]);
        let joined = format!(r#"{{"what":"joined","userIds":["{anna}"]}}"#);
        scene.change(without + 1, &joined).await;
        let texts = client.seen.texts();
        assert!(!texts.contains(&"secret".to_owned()), "{texts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_listener_reads_on_from_the_log_up_to_where_it_may() {
    const MESSAGES: usize = 300;
    let scene = Scene::of(1).await;
    let (anna, ben) = (user(), user());
    scene.participants.are(scene.group, 1, &[anna, ben]);
    let limits = OutboxLimits {
        frames: 16,
        ..OutboxLimits::default()
    };
    let ask = Ask {
        limits,
        ..Ask::of(anna)
    };
    let slow = ask.client(&scene.nodes[0]).await;
    let wish = everything(Some(scene.group));
    scene.subscribe(0, &slow.outbox, &wish).await.unwrap();
    slow.seen.stalled.store(true, Ordering::Relaxed);
    for number in 1..=MESSAGES {
        scene.say(1, &number.to_string()).await;
    }
    slow.seen.stalled.store(false, Ordering::Relaxed);
    slow.sees(MESSAGES).await;
    let all: Vec<String> = (1..=MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(slow.seen.texts(), all);
    scene.say(1, "last").await;
    slow.sees(MESSAGES + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bell_that_is_not_heard_is_found_by_comparing_heads() {
    let world = World::start().await;
    let participants = Arc::new(Participants::default());
    let node = world
        .node_with(|settings| gateway::fanout::FanoutSettings {
            head_interval: std::time::Duration::from_millis(200),
            ..settings
        })
        .await;
    node.ask_for_rights(participants.clone());
    let (anna, group) = (user(), conversation());
    participants.are(group, 1, &[anna]);
    let client = Ask::of(anna).client(&node).await;
    let wish = everything(Some(group));
    assert_eq!(hear(&node, &client.outbox, &[wish]).await, [Ok(())]);
    for number in 0..20 {
        // The node's subscriber loses its connection again and again.
        world
            .redis
            .call(&["CLIENT", "KILL", "TYPE", "PUBSUB"])
            .await;
        say(&world.store, group, 1, &number.to_string()).await;
    }
    client.sees(20).await;
    let all: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(client.seen.texts(), all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_all_conversations_hears_those_they_are_brought_into_later() {
    let scene = Scene::of(1).await;
    let anna = user();
    scene.participants.are(scene.group, 1, &[anna]);
    let client = Ask::of(anna).client(&scene.nodes[0]).await;
    let wish = everything(None);
    scene.subscribe(0, &client.outbox, &wish).await.unwrap();
    scene.say(1, "one").await;
    client.sees(1).await;
    let later = conversation();
    scene.participants.are(later, 1, &[anna]);
    // Whoever knows is away for a moment.
    scene.participants.away.store(2, Ordering::Relaxed);
    let store = &scene.world.store;
    store.keep_version(later, 1).await.unwrap();
    let change = format!(r#"{{"what":"joined","userIds":["{anna}"]}}"#);
    let body = format!(r#"{{"content":"welcome","conversationId":"{later}","change":{change}}}"#);
    publish_to(store, Topic::User(anna), Kind::MessageNew, body).await;
    eventually("the new one is heard", PATIENCE, async || {
        say(store, later, 1, "later").await;
        let texts = client.seen.texts();
        texts
            .iter()
            .any(|text| text.starts_with("later"))
            .then_some(())
    })
    .await;
    scene.nodes[0].unsubscribe(&client.outbox, &wish);
    let before = client.seen.count();
    scene.say(1, "two").await;
    say(store, later, 1, "more").await;
    publish_to(
        store,
        Topic::User(anna),
        Kind::MessageNew,
        r#"{"content":"own"}"#.to_owned(),
    )
    .await;
    eventually("own entries still come", PATIENCE, async || {
        client
            .seen
            .texts()
            .contains(&"own".to_owned())
            .then_some(())
    })
    .await;
    let after = client.seen.texts();
    assert!(!after[before..].contains(&"two".to_owned()), "{after:?}");
}

fn typing(kind: SignalKind, user: UserId, session: SessionId) -> Signal {
    Signal {
        kind,
        user,
        session: Some(session),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_is_heard_on_other_nodes_and_lapses() {
    let scene = Scene::of(2).await;
    let (anna, ben) = (user(), user());
    scene.participants.are(scene.group, 1, &[anna, ben]);
    let of_anna = Ask::of(anna);
    let session = of_anna.session;
    let of_anna = of_anna.client(&scene.nodes[0]).await;
    let wish = wish(Interest::Typing(Some(scene.group)));
    scene.subscribe(0, &of_anna.outbox, &wish).await.unwrap();
    let of_ben = Ask::of(ben).client(&scene.nodes[1]).await;
    scene.subscribe(1, &of_ben.outbox, &wish).await.unwrap();
    let start = typing(SignalKind::TypingStart, anna, session);
    let told = scene.nodes[0].typing(scene.group, 1, &start).await;
    assert!(told.unwrap());
    // Nobody renews it.
    eventually("it lapses", PATIENCE, async || {
        let signals = of_ben.seen.signals.lock().clone();
        (signals == ["typing.start", "typing.stop"]).then_some(())
    })
    .await;
    assert!(of_anna.seen.signals.lock().is_empty());
    // Whoever was judged by an older version is not heard.
    scene.change(2, r#"{"what":"renamed","title":"x"}"#).await;
    let told = scene.nodes[0].typing(scene.group, 1, &start).await;
    assert!(!told.unwrap());
    // A socket that ends types no more.
    scene.participants.are(scene.group, 2, &[anna, ben]);
    let told = scene.nodes[0].typing(scene.group, 2, &start).await;
    assert!(told.unwrap());
    drop(of_anna);
    eventually("it stops", std::time::Duration::from_secs(4), async || {
        let signals = of_ben.seen.signals.lock().clone();
        (signals.len() == 4 && signals[3] == "typing.stop").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_is_revealed_wherever_it_is_read() {
    let scene = Scene::of(1).await;
    scene.nodes[0].reveal_by(Arc::new(|mut entry| {
        let text = String::from_utf8_lossy(&entry.body).replace("sealed", "open");
        entry.body = text.into();
        entry
    }));
    let anna = user();
    let body = || {
        r#"{"content":"sealed","conversationId":"x"}"#.replace('x', &conversation().0.to_string())
    };
    let inbox = Topic::User(anna);
    let store = &scene.world.store;
    publish_to(store, inbox, Kind::MessageNew, body()).await;
    let ask = Ask {
        after: Some(Position::START),
        ..Ask::of(anna)
    };
    let client = ask.client(&scene.nodes[0]).await;
    client.sees(1).await;
    publish_to(store, inbox, Kind::MessageNew, body()).await;
    client.sees(2).await;
    assert_eq!(client.seen.texts(), ["open", "open"]);
}
