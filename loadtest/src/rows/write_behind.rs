//! The write-behind: how fast one worker turns what Redis has accepted into rows, and how far it
//! stays behind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use shared::{domain::Partition, redis::Store};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::{Bench, fan_out::entry};
use crate::{
    table::{Goal, Line},
    users::User,
    world::World,
};

/// Commands waiting when the worker starts; two rows each.
const BACKLOG: u64 = 60_000;
const BATCH: usize = 500;
const USERS: u64 = 5_000;
const RATE: u64 = 10_000;

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let world = World::start(&bench.postgres, 0).await?;
    let store = world.store().await?;
    let (mut drained, mut straight) = (vec![], vec![]);
    for _ in 0..bench.runs {
        feed(&store, BACKLOG, None).await?;
        straight.push(unnest(&world, BACKLOG).await?);
        drained.push(drain(&world, &store).await?);
    }
    world.worker.start().await;
    world.worker.until_ready().await;
    settle(&world, &store).await?;
    let (mut lags, mut fed) = (vec![], vec![]);
    for _ in 0..bench.runs.min(3) {
        let (worst, rate) = lag(&store, bench.length * 2).await?;
        lags.push(worst);
        fed.push(rate);
        settle(&world, &store).await?;
    }
    Ok(vec![
        Line::new("write-behind", "write-behind of one worker", "rows/s", drained)
            .beside("UNNEST straight to the tables", straight)
            .goal(Goal::AtLeast(50_000.0))
            .note("a command is two rows; the middle 80 % of a backlog of 60 000 commands; Postgres with fsync"),
        Line::new("write-behind", "oldest unwritten record at 10 000 commands/s", "s", lags)
            .goal(Goal::AtMost(1.0))
            .note("the worst of a run, looked at every 50 ms; counts only as far as the next line is near 10 000"),
        Line::new("write-behind", "commands that really came meanwhile", "/s", fed),
    ])
}

/// Appends commands, all at once or at a rate per second.
async fn feed(store: &Store, count: u64, rate: Option<u64>) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..256 {
        let (store, next) = (store.clone(), next.clone());
        callers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return anyhow::Ok(());
                }
                if let Some(rate) = rate {
                    let due = Duration::from_secs_f64(n as f64 / rate as f64);
                    tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
                }
                store
                    .append(entry(User(USERS + n % 100), User(n % USERS), n)?)
                    .await?;
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(())
}

/// Records waiting in all partitions, and how old the oldest is.
async fn backlog(store: &Store) -> anyhow::Result<(u64, f64)> {
    let now = store.time().await?;
    let partitions = (0..store.partitions().0).map(|n| store.persist_backlog(Partition(n)));
    let all = try_join_all(partitions).await?;
    let oldest = all.iter().filter_map(|(_, at)| *at).min();
    let age = oldest.map_or(0.0, |at| (now.0 - at.0) as f64 / 1000.0);
    Ok((all.iter().map(|(count, _)| count).sum(), age))
}

/// Starts the worker, times the middle of the drain, stops it when everything is written.
async fn drain(world: &World, store: &Store) -> anyhow::Result<f64> {
    let (full, _) = backlog(store).await?;
    world.worker.start().await;
    let (mut first, mut last) = (None, None);
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let (waiting, _) = backlog(store).await?;
        let now = Instant::now();
        if first.is_none() && waiting * 10 <= full * 9 {
            first = Some((now, waiting));
        }
        if last.is_none() && waiting * 10 <= full {
            last = Some((now, waiting));
        }
        if waiting == 0 {
            break;
        }
        anyhow::ensure!(
            now < deadline,
            "{waiting} records still wait\n{}",
            world.complaints()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // A clean stop gives its leases back; those of a killed one would have to run out.
    world.worker.stop(Duration::from_secs(20)).await;
    match (first, last) {
        (Some((start, before)), Some((end, after))) if before > after => {
            Ok(2.0 * (before - after) as f64 / (end - start).as_secs_f64())
        }
        _ => anyhow::bail!("the backlog went in one step; it is too small"),
    }
}

/// Until the worker holds the partitions and nothing waits.
async fn settle(world: &World, store: &Store) -> anyhow::Result<()> {
    feed(store, 2_000, None).await?;
    let deadline = Instant::now() + Duration::from_mins(1);
    while backlog(store).await?.0 > 0 {
        anyhow::ensure!(
            Instant::now() < deadline,
            "the worker does not write\n{}",
            world.complaints()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The oldest record that waited at any time while commands came at [`RATE`], and the rate that
/// was reached: a loaded machine may not take that many.
async fn lag(store: &Store, length: Duration) -> anyhow::Result<(f64, f64)> {
    let start = Instant::now();
    let commands = RATE * length.as_secs();
    let feeder = {
        let store = store.clone();
        async move { feed(&store, commands, Some(RATE)).await }
    };
    tokio::pin!(feeder);
    let mut worst = 0.0_f64;
    loop {
        tokio::select! {
            done = &mut feeder => {
                done?;
                return Ok((worst, commands as f64 / start.elapsed().as_secs_f64()));
            }
            () = tokio::time::sleep(Duration::from_millis(50)) => {
                worst = worst.max(backlog(store).await?.1);
            }
        }
    }
}

/// Rows per second of one connection that inserts commands and their assignments in batches.
async fn unnest(world: &World, commands: u64) -> anyhow::Result<f64> {
    let mut connection = PgConnection::connect(&world.database.url()).await?;
    let body = String::from_utf8(entry(User(USERS), User(0), 0)?.body.to_vec())?;
    let now = std::time::SystemTime::now();
    let created = time::OffsetDateTime::from(now);
    let expires = created + time::Duration::days(14);
    let start = Instant::now();
    for batch in 0..commands as usize / BATCH {
        let ids: Vec<Uuid> = (0..BATCH).map(|_| Uuid::now_v7()).collect();
        let recipients: Vec<Uuid> = (0..BATCH)
            .map(|n| User((batch * BATCH + n) as u64 % USERS).id().0)
            .collect();
        let offsets: Vec<i64> = (0..BATCH as i64).collect();
        let bodies = vec![body.as_str(); BATCH];
        let mut transaction = connection.begin().await?;
        sqlx::query(
            "INSERT INTO commands (id, sender_id, command_type, broadcast, categories, body, created_at, expires_at) \
             SELECT id, $2, 'message', 'user', '{}', body, $4, $5 FROM unnest($1::uuid[], $3::text[]) AS row(id, body) \
             ON CONFLICT DO NOTHING",
        )
        .bind(&ids)
        .bind(User(USERS).id().0)
        .bind(&bodies)
        .bind(created)
        .bind(expires)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            r#"INSERT INTO command_assignments (command_id, recipient_id, sender_id, epoch, "offset", expires_at)
               SELECT id, recipient, $3, 1, place, $5 FROM unnest($1::uuid[], $2::uuid[], $4::bigint[])
               AS row(id, recipient, place) ON CONFLICT DO NOTHING"#,
        )
        .bind(&ids)
        .bind(&recipients)
        .bind(User(USERS).id().0)
        .bind(&offsets)
        .bind(expires)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
    }
    Ok(2.0 * commands as f64 / start.elapsed().as_secs_f64())
}
