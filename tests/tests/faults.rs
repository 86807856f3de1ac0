//! Faults at a moment that chance does not hit: made by holding one step back, under load and judged
//! as in `chaos`.

use std::{sync::Arc, time::Duration};

use testkit::{Deployment, Redis, eventually, wait::PATIENCE};

use crate::support::{Load, LoadSize, unlimited};

/// Makes Redis refuse what a worker says after a commit, until somebody loads the library anew.
async fn refuse_commits(redis: &Redis) {
    let listed = redis
        .call(&["FUNCTION", "LIST", "LIBRARYNAME", "tidegate_v1", "WITHCODE"])
        .await;
    let fields = listed.list()[0].list();
    let name = fields
        .iter()
        .position(|field| field.text().as_deref() == Some("library_code"))
        .expect("the library comes with its code");
    let code = fields[name + 1].text().expect("the code is a text");
    let begin = "function_name = 'tidegate_v1_persist_commit',\n  callback = function(_, a)\n";
    assert!(code.contains(begin), "the function is where it was");
    let refusal = "    if true then return redis.error_reply('BUSY held back') end\n";
    let code = code.replace(begin, &[begin, refusal].concat());
    redis.call(&["FUNCTION", "LOAD", "REPLACE", &code]).await;
}

/// Partitions whose persist stream has records that Postgres has, too.
async fn untrimmed(tidegate: &Deployment) -> usize {
    let positions = "SELECT partition, position FROM persist_positions WHERE position <> '0-0'";
    let mut count = 0;
    for row in tidegate.database.query(positions).await {
        let stream = format!("{{p{}}}:persist", row[0]);
        let kept = tidegate
            .redis()
            .call(&["XRANGE", &stream, "-", &row[1], "COUNT", "1"])
            .await;
        count += kept.list().len();
    }
    count
}

#[tokio::test]
async fn a_worker_dies_between_its_commit_and_the_trim() {
    let tidegate = Arc::new(Deployment::start_with(unlimited()).await);
    let size = LoadSize {
        senders: 4,
        recipients: 3,
        devices: 2,
        pause: Duration::from_millis(5),
        each: None,
        padding: 0,
    };
    let load = Load::start(tidegate.clone(), size).await;
    load.flows(100).await;
    for _ in 0..3 {
        refuse_commits(tidegate.redis()).await;
        load.flows(50).await;
        eventually("committed, not trimmed", PATIENCE, || async {
            (untrimmed(&tidegate).await > 0).then_some(())
        })
        .await;
        tidegate.workers[0].kill9();
        assert!(untrimmed(&tidegate).await > 0, "it died before the trim");
        // It loads the library as it should be.
        tidegate.workers[0].restart().await;
        eventually("the heir trims", PATIENCE, || async {
            (untrimmed(&tidegate).await == 0).then_some(())
        })
        .await;
        load.flows(50).await;
    }
    let (promised, verdict) = load.finish().await;
    eprintln!("{promised} commands promised");
    verdict.assert_clean();
    let quarantined = "SELECT count(*) FROM quarantine";
    assert_eq!(tidegate.database.count(quarantined).await, 0);
}
