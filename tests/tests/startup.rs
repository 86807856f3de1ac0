//! Starting with something missing or wrong.

use std::{sync::Arc, time::Duration};

use testkit::{
    Deployment, Plan, Redis, RedisOptions,
    guardian::{End, guardian},
    node::{Node, Settings, run_to_end},
    ports::free_port,
    within,
};

fn with(settings: &Settings, name: &str, value: &str) -> Settings {
    let mut settings = settings.clone();
    settings.insert(name.to_owned(), value.to_owned());
    settings
}

/// Its `/ready` says no and names what it waits for, while `/live` says yes.
async fn waits_for(node: &Node, what: &str) {
    node.until_listening().await;
    testkit::eventually(
        &format!("/ready names {what}"),
        testkit::wait::PATIENCE,
        || async {
            let answer = node.ops_get("/ready").await?;
            let named = answer.body.to_string().to_lowercase().contains(what);
            (answer.status == 503 && named).then_some(())
        },
    )
    .await;
    assert_eq!(
        node.ops_get("/live").await.map(|answer| answer.status),
        Some(200),
        "it runs"
    );
    assert!(
        node.log().to_lowercase().contains(what),
        "no line of the log names {what}:\n{}",
        node.log()
    );
}

#[tokio::test]
async fn without_redis_it_waits_and_says_so() {
    let tidegate = Deployment::prepare(Plan::default().gateways(0).workers(0)).await;
    let port = free_port();
    let settings = with(
        tidegate.settings(),
        "TIDEGATE_REDIS_URL",
        &format!("redis://127.0.0.1:{port}"),
    );
    let nodes = [
        Node::new("gateway", "gateway-early", settings.clone()),
        Node::new("worker", "worker-early", settings),
    ];
    for node in &nodes {
        node.launch();
    }
    for node in &nodes {
        waits_for(node, "redis").await;
    }
    let folder = guardian().folder("late-redis");
    let _redis = Redis::open(port, &folder, RedisOptions::default(), End::Kill)
        .await
        .expect("redis-server starts");
    for node in &nodes {
        node.until_ready().await;
    }
}

#[tokio::test]
async fn without_postgres_it_waits_and_says_so() {
    let tidegate = Deployment::prepare(Plan::default().gateways(1).own_postgres()).await;
    let postgres = Arc::clone(tidegate.database.server());
    postgres.crash().await;
    for node in tidegate.nodes() {
        node.launch();
    }
    for node in tidegate.nodes() {
        waits_for(node, "postgres").await;
    }
    postgres.restart().await;
    for node in tidegate.nodes() {
        node.until_ready().await;
    }
}

#[tokio::test]
async fn a_wrong_setting_stops_the_start_with_its_name() {
    let good = Deployment::prepare(Plan::default().gateways(0).workers(0))
        .await
        .settings()
        .clone();
    let cases = [
        (
            "gateway",
            "TIDEGATE_SESSION__PING_INTERVAL",
            "soon",
            "session.ping_interval",
        ),
        (
            "gateway",
            "TIDEGATE_SESSION__PING_INTERVALL",
            "25s",
            "ping_interval",
        ),
        ("gateway", "TIDEGATE_AUTH__SECRET", "short", "auth.secret"),
        (
            "gateway",
            "TIDEGATE_HTTP__LISTEN",
            "everywhere",
            "http.listen",
        ),
        (
            "worker",
            "TIDEGATE_PERSIST__BATCH_ROWS",
            "-1",
            "persist.batch_rows",
        ),
        (
            "worker",
            "TIDEGATE_REDIS__PARTITIONS",
            "0",
            "redis.partitions",
        ),
        ("worker", "TIDEGATE_REDIS_URL", "nowhere", "redis.url"),
        ("gateway", "TIDEGATE_REDIS_URL", "http://h", "redis.url"),
        ("gateway", "TIDEGATE_DATABASE_URL", "h/db", "postgres.url"),
        (
            "gateway",
            "TIDEGATE_AUTH__TRUSTED_ISSUERS",
            "[{ issuer = 'https://id.example', algorithm = 'EdDSA', jwks_file = '/no/such/file' }]",
            "auth.trusted_issuers: https://id.example",
        ),
    ];
    for (binary, name, value, named) in cases {
        for command in ["check-config", "run"] {
            let (code, output) = run_to_end(binary, &[command], &with(&good, name, value)).await;
            assert!(
                code.is_some_and(|code| code != 0),
                "{binary} {command} {name}={value} was taken:\n{output}"
            );
            assert!(
                output.contains(named),
                "{binary} {command} does not name {named}:\n{output}"
            );
            assert!(!output.contains("panicked"), "{output}");
        }
    }
    for binary in ["gateway", "worker"] {
        let (code, output) = run_to_end(binary, &["check-config"], &good).await;
        assert_eq!(code, Some(0), "{output}");
        assert!(
            !output.contains(testkit::deployment::JWT_SECRET),
            "a secret is printed"
        );
    }
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let tidegate = Deployment::start_with(Plan::default().gateways(1).workers(0)).await;
    for binary in ["gateway", "worker"] {
        let node = Node::new(
            binary,
            "stranger",
            with(tidegate.settings(), "TIDEGATE_REDIS__PARTITIONS", "128"),
        );
        node.launch();
        let status = within(
            "the stranger gives up",
            Duration::from_secs(30),
            node.process().wait(Duration::from_secs(29)),
        )
        .await;
        assert!(
            !status.success(),
            "{binary} started with 128 of 256 partitions"
        );
        assert!(node.log().contains("partitions"), "{}", node.log());
    }
}

#[tokio::test]
async fn what_waiting_cannot_heal_stops_the_start_though_postgres_is_away() {
    let plan = Plan::default().gateways(1).workers(0).own_postgres();
    let tidegate = Deployment::start_with(plan).await;
    let settings = with(tidegate.settings(), "TIDEGATE_REDIS__PARTITIONS", "128");
    tidegate.database.server().crash().await;
    for binary in ["gateway", "worker"] {
        let node = Node::new(binary, "stranger", settings.clone());
        node.launch();
        let process = node.process();
        let ends = process.wait(Duration::from_secs(19));
        let status = within("the stranger gives up", Duration::from_secs(20), ends).await;
        assert!(!status.success(), "{binary} waits for postgres");
        assert!(node.log().contains("partitions"), "{}", node.log());
    }
}

#[tokio::test]
async fn migrating_asks_for_no_secret_of_the_gateway() {
    let tidegate = Deployment::prepare(Plan::default().gateways(0).workers(0)).await;
    let mut settings = tidegate.settings().clone();
    settings.retain(|name, _| !name.starts_with("TIDEGATE_AUTH__"));
    let (code, output) = run_to_end("gateway", &["migrate"], &settings).await;
    assert_eq!(code, Some(0), "{output}");
    let (code, _) = run_to_end("gateway", &["check-config"], &settings).await;
    assert_ne!(code, Some(0), "a gateway needs it");
}

#[tokio::test]
async fn a_taken_port_stops_the_start_with_its_name() {
    let tidegate = Deployment::start_with(Plan::default().gateways(1).workers(0)).await;
    let taken = tidegate.address(0).to_string();
    let (code, output) = run_to_end(
        "gateway",
        &["run"],
        &with(tidegate.settings(), "TIDEGATE_HTTP__LISTEN", &taken),
    )
    .await;
    assert!(code.is_some_and(|code| code != 0), "{output}");
    assert!(
        output.contains(&taken) || output.contains("http.listen"),
        "{output}"
    );
}

#[tokio::test]
async fn health_answers_on_both_listeners_and_metrics_on_one() {
    let tidegate = Deployment::start_with(Plan::default().gateways(1)).await;
    let gateway = &tidegate.gateways[0];
    for path in ["/live", "/ready", "/health", "/api/v1/health"] {
        let answer = gateway.rest().get(path).await.expect("answered");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    for node in tidegate.nodes() {
        for path in ["/live", "/ready", "/health", "/metrics"] {
            let answer = node.ops_get(path).await.expect("answered");
            assert_eq!(answer.status, 200, "{} {path}: {answer:?}", node.name());
        }
    }
    assert_eq!(
        gateway
            .rest()
            .get("/metrics")
            .await
            .expect("answered")
            .status,
        404
    );
}
