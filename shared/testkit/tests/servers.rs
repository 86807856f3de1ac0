//! The kit itself, against real servers.
#![allow(clippy::disallowed_methods)] // No product.

use std::time::Duration;

use testkit::{
    Database, Disk, HostClock, Postgres, Proxy, Redis, RedisOptions, cluster::Cluster, eventually,
    resp::Reply, sentinel::Sentinel,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[tokio::test]
async fn a_killed_redis_comes_back_with_its_data() {
    let redis = Redis::start_with(RedisOptions::default().with("maxmemory", "100mb")).await;
    redis.call(&["SET", "a", "1"]).await;
    let run = redis.info("run_id").await;
    redis.restart().await;
    assert_eq!(redis.call(&["GET", "a"]).await, Reply::Text("1".to_owned()));
    assert_ne!(redis.info("run_id").await, run);
    assert_eq!(redis.info("maxmemory").await.as_deref(), Some("104857600"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_power_cut_takes_what_was_not_fsynced_and_nothing_else() {
    for (appendfsync, kept) in [("always", Reply::Text("1".to_owned())), ("no", Reply::Nil)] {
        let redis = Redis::start_with(RedisOptions {
            appendfsync,
            disk: Some(Disk::default()),
            ..RedisOptions::default()
        })
        .await;
        redis.call(&["SET", "a", "1"]).await;
        let gone = redis.lose_power();
        assert_eq!(gone == 0, appendfsync == "always", "{gone} bytes gone");
        redis.restart().await;
        assert_eq!(redis.call(&["GET", "a"]).await, kept, "{appendfsync}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_clock_of_a_server_jumps_while_it_runs() {
    let clock = HostClock::off_by(-3_600_000);
    let redis = Redis::start_with(RedisOptions {
        clock: Some(clock.clone()),
        ..RedisOptions::default()
    })
    .await;
    let behind = async |expected: i64| {
        let reply = redis.call(&["TIME"]).await;
        let theirs: i64 = reply.list()[0].text().unwrap().parse().unwrap();
        let true_time = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        let off = theirs - true_time;
        assert!((off - expected).abs() <= 1, "{off} s off");
    };
    behind(-3600).await;
    redis.call(&["SET", "a", "1", "PX", "60000"]).await;
    clock.set(600_000);
    behind(600).await;
    assert_eq!(redis.call(&["GET", "a"]).await, Reply::Nil);
}

#[tokio::test]
async fn a_cluster_moves_a_slot_between_live_masters() {
    let cluster = Cluster::start().await;
    let slot = cluster.slot_of("{p7}").await;
    let from = cluster.owner_of(slot).await;
    cluster.nodes()[from].call(&["SET", "{p7}:a", "1"]).await;
    let to = (from + 1) % 3;
    cluster.move_slot(slot, to).await;
    assert_eq!(cluster.owner_of(slot).await, to);
    assert_eq!(
        cluster.nodes()[to].call(&["GET", "{p7}:a"]).await,
        Reply::Text("1".to_owned())
    );
}

#[tokio::test]
async fn a_sentinel_replaces_a_dead_primary() {
    let sentinel = Sentinel::start().await;
    let old = sentinel.primary().await.map(Redis::port);
    let new = sentinel.fail_over().await;
    assert_ne!(Some(new.port()), old);
    new.call(&["SET", "a", "1"]).await;
}

#[tokio::test]
async fn databases_share_a_server_and_nothing_else() {
    let (one, two) = (Database::create("one").await, Database::create("two").await);
    one.query("CREATE TABLE t (a text)").await;
    one.query("INSERT INTO t VALUES ('x'), ('y')").await;
    assert_eq!(one.count("SELECT count(*) FROM t").await, 2);
    assert!(two.try_query("SELECT * FROM t").await.is_err());
    assert_eq!(one.server().pid(), two.server().pid());
}

#[tokio::test]
async fn a_postgres_of_ones_own_can_be_stopped_and_started() {
    let server = std::sync::Arc::new(Postgres::start().await);
    let database = server.database("mine").await;
    database.query("CREATE TABLE t (a text)").await;
    server.crash().await;
    assert!(database.try_query("SELECT 1").await.is_err());
    server.restart().await;
    assert_eq!(database.count("SELECT count(*) FROM t").await, 0);
}

/// Sends back whatever it gets.
async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_can_pause_swallow_and_reset() {
    let proxy = Proxy::start(echo().await).await;
    let mut stream = TcpStream::connect(proxy.address())
        .await
        .expect("the proxy listens");
    let mut answer = [0; 4];
    stream.write_all(b"ping").await.expect("open");
    stream.read_exact(&mut answer).await.expect("echoed");

    proxy.set_both(|link| link.paused = true);
    stream.write_all(b"late").await.expect("open");
    let early =
        tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut answer)).await;
    assert!(early.is_err(), "a paused link carried something");
    proxy.heal();
    stream
        .read_exact(&mut answer)
        .await
        .expect("carried after the pause");
    assert_eq!(&answer, b"late");

    proxy.reset_all();
    let end = stream.read(&mut answer).await;
    assert!(
        matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset),
        "{end:?}"
    );
    eventually("the connection is gone", Duration::from_secs(5), || async {
        (proxy.open_connections() == 0).then_some(())
    })
    .await;
}
