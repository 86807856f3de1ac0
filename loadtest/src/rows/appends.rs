//! Durable appends through the store's publish lane, beside the same server function called
//! by one connection that knows nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use shared::{
    domain::{PartitionCount, Topic},
    redis::Store,
};

use super::{Bench, fan_out::entry};
use crate::{
    measure::cpu_us,
    raw_redis,
    table::{Goal, Line},
    users::User,
    world::World,
};

const CALLERS: [usize; 3] = [16, 64, 256];
const USERS: u64 = 1000;

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let world = World::start(&bench.postgres, 0).await?;
    let store = world.store().await?;
    let mut rates = [vec![], vec![], vec![]];
    let (mut raw, mut redis) = (vec![], vec![]);
    for _ in 0..bench.runs {
        raw.push(raw_appends(&world, bench.length)?);
        for (callers, rates) in CALLERS.into_iter().zip(&mut rates) {
            let before = cpu_us(&[world.redis.pid()])?;
            let (rate, count) = appends(&store, callers, bench.length).await?;
            rates.push(rate);
            if callers == 256 {
                redis.push((cpu_us(&[world.redis.pid()])? - before) / count as f64);
            }
        }
    }
    let mut lines: Vec<Line> = CALLERS
        .into_iter()
        .zip(rates)
        .map(|(callers, rates)| {
            let goal = if callers == 16 {
                Goal::None
            } else {
                Goal::AtLeast(25_000.0)
            };
            Line::new(
                "appends",
                format!("durable appends of one shard, {callers} callers"),
                "/s",
                rates,
            )
            .beside("raw FCALL of 16, 4 under way", raw.clone())
            .goal(goal)
        })
        .collect();
    lines.push(Line::new(
        "appends",
        "Redis, per durable append, 256 callers",
        "µs CPU",
        redis,
    ));
    Ok(lines)
}

/// Appends per second through the store, and how many that were.
async fn appends(store: &Store, callers: usize, length: Duration) -> anyhow::Result<(f64, u64)> {
    let count = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers as u64 {
        let (store, count) = (store.clone(), count.clone());
        tasks.spawn(async move {
            let mut n = 0;
            while start.elapsed() < length {
                let receiver = User((caller * 31 + n) % USERS);
                store
                    .append(entry(User(USERS + caller), receiver, n)?)
                    .await?;
                n += 1;
                count.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let count = count.load(Ordering::Relaxed);
    Ok((count as f64 / start.elapsed().as_secs_f64(), count))
}

/// The same with 16 entries of one partition in a call, four calls under way.
fn raw_appends(world: &World, length: Duration) -> anyhow::Result<f64> {
    const BATCH: u64 = 16;
    let salt = rand::random::<u64>();
    let body = entry(User(USERS), User(0), 0)?.body;
    let per_call = raw_redis::throughput(world.redis.port(), 4, length, |call, out| {
        let receiver = User(call % USERS);
        let topic = Topic::User(receiver.id());
        let tag = format!("{{{}}}", topic.partition(PartitionCount(256)));
        let (meta, topic) = (format!("{tag}:meta"), topic.to_string());
        let mut parts: Vec<Vec<u8>> = vec![
            "FCALL".into(),
            "tidegate_v1_append".into(),
            "1".into(),
            meta.into(),
            "3600000".into(),
            Vec::new(),
        ];
        for n in 0..BATCH {
            let n = call * BATCH + n;
            parts.extend([
                tag.clone().into_bytes(),
                topic.clone().into_bytes(),
                b"command.new".to_vec(),
                format!("raw:{n}:{salt:x}").into_bytes(),
                format!("{n:032x}").into_bytes(),
                format!("01a1fd73-3a86-7000-8000-{n:012x}").into_bytes(),
                Vec::new(),
                Vec::new(),
                Vec::new(),
                Vec::new(),
                body.to_vec(),
            ]);
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        raw_redis::write_command(out, &parts);
    })?;
    Ok(per_call * BATCH as f64)
}
