//! Broadcasts to users by the thousand: rows straight into Postgres, tokens signed here. Registering
//! them would hash thousands of passwords. All of them registered long ago.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use testkit::{
    Database, Deployment, Socket, SocketOptions, User, deployment::JWT_SECRET, eventually,
};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    broadcasts::to_category,
    support::{id_of, unlimited},
};

/// Handshakes at a time.
const AT_ONCE: usize = 64;

/// The nth of them.
pub fn member(n: usize) -> User {
    let id = format!("00000000-0000-7000-8000-{n:012x}");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let claims = json!({
        "sub": id, "jti": format!("crowd-{n}"), "iat": now - 1, "nbf": now - 1, "exp": now + 3600,
        "iss": "tidegate", "aud": "tidegate",
    });
    let header = Header {
        kid: Some("main".to_owned()),
        ..Header::new(Algorithm::HS256)
    };
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    User {
        token: jsonwebtoken::encode(&header, &claims, &key).expect("claims can be signed"),
        id,
        name: format!("crowd{n}"),
        password: String::new(),
    }
}

/// Writes the first `count` of them into the database.
pub async fn insert(database: &Database, count: usize) {
    let sql = format!(
        "INSERT INTO users (id, username, password_hash) \
         SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'crowd' || n, 'none' \
         FROM generate_series(0, {}) n",
        count - 1
    );
    database.query(&sql).await;
}

/// Lets those with these numbers block a category, as if they had chosen so long ago.
pub async fn block(database: &Database, category: &str, numbers: &str) {
    let sql = format!(
        "INSERT INTO user_preferences (user_id, blocked, allowed, epoch, \"offset\", updated_at) \
         SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, \
                ARRAY['{category}'], ARRAY[]::text[], 0, 0, now() \
         FROM ({numbers}) AS chosen(n)"
    );
    database.query(&sql).await;
}

/// Which broadcasts each of them got, and how often.
#[derive(Debug, Default, Clone)]
pub struct Received(Arc<Mutex<HashMap<(usize, String), usize>>>);

impl Received {
    /// Sees the frames of the nth user's sockets.
    fn listen(&self, n: usize, options: SocketOptions) -> SocketOptions {
        let seen = self.0.clone();
        options.listener(Arc::new(move |frame: &Value| {
            if frame["type"] == "command.new" {
                let content = frame["payload"]["content"].as_str().unwrap_or_default();
                *seen
                    .lock()
                    .unwrap()
                    .entry((n, content.to_owned()))
                    .or_default() += 1;
            }
        }))
    }

    /// How often the nth user got it.
    pub fn times(&self, n: usize, content: &str) -> usize {
        let seen = self.0.lock().unwrap();
        seen.get(&(n, content.to_owned())).copied().unwrap_or(0)
    }

    /// How many users got it at all.
    pub fn users(&self, content: &str) -> usize {
        let seen = self.0.lock().unwrap();
        seen.keys().filter(|(_, text)| text == content).count()
    }
}

/// Opens a socket for each of these users, on all gateways in turn or on one.
pub async fn connect(
    tidegate: &Arc<Deployment>,
    numbers: impl IntoIterator<Item = usize>,
    gateway: Option<usize>,
    received: &Received,
) -> Vec<Socket> {
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut opening = JoinSet::new();
    for n in numbers {
        let (tidegate, gate, received) = (tidegate.clone(), gate.clone(), received.clone());
        opening.spawn(async move {
            let _turn = gate.acquire().await.expect("never closed");
            let user = member(n);
            let options = SocketOptions::bearer(&user.token).device("phone");
            let gateway = gateway.unwrap_or(n % tidegate.gateways.len());
            let (socket, _) = tidegate
                .connect_with(gateway, received.listen(n, options))
                .await;
            socket
        });
    }
    opening.join_all().await
}

/// How long thousands of sockets may take on a crowded machine.
const LONG: Duration = Duration::from_secs(90);

async fn publish(socket: &Socket, content: &str, tag: &str) {
    id_of(
        &socket
            .request("command.create", to_category(content, &[tag]))
            .await,
    );
}

/// Commands that write, as Redis has counted them, those of functions among them.
async fn writes(tidegate: &Deployment) -> u64 {
    const WRITES: &[&str] = &[
        "xadd", "xdel", "xtrim", "hset", "hsetnx", "hdel", "set", "del", "sadd", "srem", "zadd",
        "zrem", "incr", "incrby", "hincrby", "spublish", "publish",
    ];
    let stats = tidegate.redis().call(&["INFO", "commandstats"]).await;
    let text = stats.text().expect("a text");
    text.lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="))
        .filter(|(name, _)| WRITES.contains(name))
        .filter_map(|(_, rest)| rest.split_once(',')?.0.parse::<u64>().ok())
        .sum()
}

/// How many writes five broadcasts cause, beside what goes on anyway.
async fn writes_of_five(
    tidegate: &Deployment,
    speaker: &Socket,
    received: &Received,
    name: &str,
    users: usize,
) -> i64 {
    // Sessions that were just opened still have cursors to write.
    let span = Duration::from_secs(2);
    let mut idle = u64::MAX;
    for _ in 0..20 {
        let before = writes(tidegate).await;
        tokio::time::sleep(span).await;
        let now = writes(tidegate).await - before;
        let is_steady = now.abs_diff(idle) < 20;
        idle = now;
        if is_steady {
            break;
        }
    }
    let (before, begun) = (writes(tidegate).await, tokio::time::Instant::now());
    for n in 0..5 {
        publish(speaker, &format!("{name} {n}"), "mild").await;
    }
    eventually("all have all five", LONG, || async {
        (received.users(&format!("{name} 4")) == users).then_some(())
    })
    .await;
    tokio::time::sleep_until(begun + span).await;
    let writes = writes(tidegate).await - before;
    let spans = begun.elapsed().as_secs_f64() / span.as_secs_f64();
    println!(
        "{name}: {writes} writes with {users} users, {idle} in {span:?} without, {spans:.2} of these"
    );
    writes as i64 - (idle as f64 * spans).round() as i64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_users_get_what_reaches_them_once_for_the_same_few_writes() {
    const USERS: usize = 10_000;
    const ONLINE: usize = 5_000;
    const SPEAKER: usize = USERS;
    let plan = unlimited().with("TIDEGATE_DELIVERY__RECEIPT_INTERVAL", "600s");
    let tidegate = Arc::new(Deployment::start_with(plan).await);
    insert(&tidegate.database, USERS + 1).await;
    let blocking = format!("SELECT generate_series(0, {}, 3)", USERS - 1);
    block(&tidegate.database, "feet", &blocking).await;
    let received = Received::default();
    let nobody = Received::default();
    let speaker = connect(&tidegate, [SPEAKER], Some(0), &nobody).await;
    let speaker = &speaker[0];

    let ten = connect(&tidegate, 0..10, None, &received).await;
    let for_ten = writes_of_five(&tidegate, speaker, &received, "few", 10).await;
    let others = connect(&tidegate, 10..ONLINE, None, &received).await;
    // Those who come now get the first five as well.
    eventually("all have what they missed", LONG, || async {
        (received.users("few 4") == ONLINE).then_some(())
    })
    .await;
    let for_all = writes_of_five(&tidegate, speaker, &received, "many", ONLINE).await;
    println!("five broadcasts: {for_ten} writes for 10 users, {for_all} for {ONLINE}");
    assert!(
        (for_all - for_ten).abs() <= 40,
        "{for_ten} writes for 10 users, {for_all} for {ONLINE}"
    );

    publish(speaker, "for some", "feet").await;
    publish(speaker, "the end", "mild").await;
    eventually("all who are there have the last", LONG, || async {
        (received.users("the end") == ONLINE).then_some(())
    })
    .await;
    drop((ten, others));
    let late = connect(&tidegate, ONLINE..USERS, None, &received).await;
    eventually("who was away has the last", LONG, || async {
        (received.users("the end") == USERS).then_some(())
    })
    .await;
    drop(late);
    for n in 0..USERS {
        let once = ["few 0", "few 4", "many 0", "many 4", "the end"];
        for content in once {
            assert_eq!(received.times(n, content), 1, "{content} to {n}");
        }
        let expected = usize::from(n % 3 != 0);
        assert_eq!(received.times(n, "for some"), expected, "to {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_survives_the_node_that_was_giving_it_out() {
    const USERS: usize = 5_000;
    const BROADCASTS: usize = 30;
    let tidegate = Arc::new(Deployment::start_with(unlimited()).await);
    insert(&tidegate.database, USERS + 1).await;
    let received = Received::default();
    let nobody = Received::default();
    let speaker = connect(&tidegate, [USERS], Some(1), &nobody).await;
    let even = || (0..USERS).step_by(2);
    let odd = || (1..USERS).step_by(2);
    let dying = connect(&tidegate, even(), Some(0), &received).await;
    let living = connect(&tidegate, odd(), Some(1), &received).await;

    let content = |n: usize| format!("{n}: {}", "x".repeat(500));
    for n in 0..BROADCASTS {
        let payload = to_category(&content(n), &["mild"]);
        let frame = json!({"type": "command.create", "id": format!("b{n}"), "payload": payload});
        speaker[0].send(&frame).await;
    }
    // It has begun, and has much to do.
    let half = BROADCASTS / 2;
    while even().all(|n| received.times(n, &content(half)) == 0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tidegate.gateways[0].kill9();
    for socket in &dying {
        socket.closed_within(LONG).await;
    }
    let last = content(BROADCASTS - 1);
    let had = even().filter(|n| received.times(*n, &last) > 0).count();
    println!("{had} of {} had all when their node died", USERS / 2);
    assert!(had < USERS / 2, "the node was too fast");
    for n in 0..BROADCASTS {
        id_of(&speaker[0].reply_to(&format!("b{n}")).await);
    }
    let back = connect(&tidegate, even(), Some(1), &received).await;
    eventually("everybody has the last", LONG, || async {
        (received.users(&last) == USERS).then_some(())
    })
    .await;
    let mut twice = 0;
    for number in 0..BROADCASTS {
        let content = content(number);
        for n in odd() {
            assert_eq!(received.times(n, &content), 1, "to {n}, whose node lives");
        }
        for n in even() {
            let times = received.times(n, &content);
            assert!((1..=2).contains(&times), "{number} to {n}: {times}");
            twice += times - 1;
        }
    }
    println!("{twice} came twice, each under one id");
    drop((living, back));
}
