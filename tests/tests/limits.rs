//! What a user may do, over all nodes; what happens to that while Redis is away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{Deployment, Plan, Socket, User, eventually};
use tokio::{task::JoinSet, time::Instant};

use crate::support::message;

const PATIENCE: Duration = Duration::from_secs(20);

/// Frames are not what is limited here.
fn plan() -> Plan {
    Plan::default()
        .workers(0)
        .with("TIDEGATE_SESSION__FRAMES_PER_SECOND", "1000000")
        .with("TIDEGATE_SESSION__FRAMES_BURST", "1000000")
}

/// True if the request passed; false if it was too much.
fn passed(reply: &Value) -> bool {
    let is_limited = reply["payload"]["code"] == "rate_limited";
    assert!(is_limited || reply["type"] == "command.accepted", "{reply}");
    if is_limited {
        let wait = reply["payload"]["retryAfterMs"].as_u64();
        assert!(wait.is_some_and(|wait| wait <= 60_000), "{reply}");
    }
    !is_limited
}

/// Sends on all sockets at once, as fast as they are answered, until so many passed together: how long
/// that took.
async fn hammer(sockets: Vec<Socket>, to: &User, count: usize) -> Duration {
    let began = Instant::now();
    let passing = Arc::new(AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    for socket in sockets {
        let (passing, payload) = (passing.clone(), message(to, "x"));
        senders.spawn(async move {
            while passing.load(Ordering::Relaxed) < count {
                let reply = socket.request("command.create", payload.clone()).await;
                passing.fetch_add(usize::from(passed(&reply)), Ordering::Relaxed);
                assert!(began.elapsed() < PATIENCE, "{passing:?} of {count} passed");
            }
        });
    }
    senders.join_all().await;
    began.elapsed()
}

#[tokio::test]
async fn a_user_may_do_as_much_on_two_nodes_as_on_one() {
    let tidegate = Deployment::start_with(plan()).await;
    let bob = tidegate.user("bob").await;
    // 60 at once and 20 a second: these take two seconds, wherever they are sent.
    for (name, nodes) in [("one", vec![0]), ("two", vec![0, 1])] {
        let ann = tidegate.user(name).await;
        let mut sockets = Vec::new();
        for node in nodes {
            let (socket, connected) = tidegate.connect(node, &ann, "phone").await;
            assert_eq!(connected["limits"]["messagesPerSecond"], 20);
            assert_eq!(connected["limits"]["messagesBurst"], 60);
            sockets.push(socket);
        }
        let took = hammer(sockets, &bob, 100).await;
        // The last round may bring one more than was waited for.
        assert!(took >= Duration::from_millis(1900), "{name}: {took:?}");
        assert!(took <= Duration::from_millis(4000), "{name}: {took:?}");
    }
}

#[tokio::test]
async fn redis_is_not_asked_for_every_request() {
    let plan = plan()
        .gateways(1)
        .with("TIDEGATE_DELIVERY__REQUESTS_PER_SECOND", "60");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (socket, _) = tidegate.connect(0, &ann, "phone").await;
    let calls = async || {
        let stats = tidegate.redis().call(&["INFO", "commandstats"]).await;
        let stats = stats.text().unwrap();
        let line = stats
            .lines()
            .find(|line| line.starts_with("cmdstat_fcall:"));
        let line = line.unwrap_or_default();
        let number = line.split(['=', ',']).nth(1).unwrap_or("0");
        number.parse::<usize>().unwrap()
    };
    let before = calls().await;
    let began = Instant::now();
    let mut passing = 0;
    let mut refused = 0;
    while refused < 1000 {
        let reply = socket.request("command.create", message(&bob, "x")).await;
        if passed(&reply) {
            passing += 1;
        } else {
            refused += 1;
        }
    }
    let asked = tidegate.gateways[0]
        .metric("tidegate_limit_calls_total")
        .await
        .unwrap();
    // Some at the begin, and then one each 50 ms at most.
    let most = 30.0 + began.elapsed().as_secs_f64() * 20.0;
    assert!(asked <= most, "{asked} calls in {:?}", began.elapsed());
    // What passed is appended; what was refused costs Redis nothing. A node has some calls of its own.
    let more = calls().await - before;
    let own = 100 + began.elapsed().as_millis() as usize / 20;
    assert!(
        more <= passing + most as usize + own && more < passing + refused,
        "{more} calls for {passing} that passed and {refused} that did not"
    );
}

#[tokio::test]
async fn log_ins_are_counted_over_all_nodes() {
    let plan = plan().with("TIDEGATE_AUTH__ATTEMPTS_PER_ACCOUNT", "6");
    let tidegate = Deployment::start_with(plan).await;
    tidegate.user("ann").await;
    let began = Instant::now();
    let mut heard = 0;
    for attempt in 0..14 {
        let rest = tidegate.gateways[attempt % 2].rest();
        let answer = rest.login("ann", "wrong-password-1").await.unwrap();
        assert!([401, 429].contains(&answer.status), "{answer:?}");
        heard += u64::from(answer.status == 401);
    }
    // One comes back each ten seconds.
    let most = 6 + began.elapsed().as_secs() / 10 + 1;
    assert!((5..=most).contains(&heard), "{heard} of 14 were heard");
}

#[tokio::test]
async fn while_redis_is_away_each_node_counts_alone_and_nobody_is_locked_out() {
    let plan = plan()
        .gateways(1)
        .with("TIDEGATE_DELIVERY__REQUESTS_PER_SECOND", "1")
        .with("TIDEGATE_DELIVERY__REQUESTS_BURST", "10")
        .with("TIDEGATE_AUTH__ATTEMPTS_PER_ACCOUNT", "4");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (socket, _) = tidegate.connect(0, &ann, "phone").await;
    tidegate.redis().pause();

    // Nothing of a request that is wrong needs Redis, but its place in the limit.
    let began = Instant::now();
    let mut heard = 0;
    for _ in 0..30 {
        let reply = socket.request("command.create", json!({})).await;
        match reply["payload"]["code"].as_str() {
            Some("bad_request") => heard += 1,
            Some("rate_limited") => {}
            _ => panic!("{reply}"),
        }
    }
    let took = began.elapsed();
    let most = 10 + took.as_secs() + 1;
    assert!((10..=most).contains(&heard), "{heard} in {took:?}");
    // Only the first one or two wait to see whether Redis answers.
    assert!(took < Duration::from_secs(3), "{took:?}");

    // Who has the right password gets in, and who guesses is refused.
    let rest = tidegate.gateways[0].rest();
    let good = rest.login("bob", &bob.password).await.unwrap();
    assert_eq!(good.status, 200, "{good:?}");
    let mut refused = 0;
    for _ in 0..8 {
        let answer = rest.login("bob", "wrong-password-1").await.unwrap();
        refused += u32::from(answer.status == 429);
    }
    assert!(refused >= 3, "{refused} of 8 guesses refused");
    for bucket in ["requests", "account"] {
        let name = format!("tidegate_limit_alone_total{{bucket=\"{bucket}\"}}");
        let alone = tidegate.gateways[0].metric(&name).await;
        assert!(alone > Some(0.0), "{name} {alone:?}");
    }

    tidegate.redis().resume();
    eventually("commands flow again", PATIENCE, || async {
        let reply = socket.request("command.create", message(&bob, "x")).await;
        (reply["type"] == "command.accepted").then_some(())
    })
    .await;
}
