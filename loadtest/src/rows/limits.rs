//! What it costs that limits are shared: direct commands of users whose leases are used up all the
//! time, beside such whose lease outlasts the run.

use super::{
    Bench,
    direct::{PAIRS, Talk},
};
use crate::{table::Line, world::World};

/// Commands per second, of all users together.
const RATE: f64 = 5_000.0;
/// What a user may do in the row: above what one does, so that nobody is refused, and little enough
/// that nodes have to ask for more.
const SETTINGS: [(&str, &str); 4] = [
    ("TIDEGATE_DELIVERY__REQUESTS_PER_SECOND", "60"),
    ("TIDEGATE_DELIVERY__REQUESTS_BURST", "180"),
    ("TIDEGATE_DELIVERY__COMMANDS_PER_SECOND", "60"),
    ("TIDEGATE_DELIVERY__COMMANDS_BURST", "180"),
];

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let free = World::start(&bench.postgres, 2).await?;
    let limited = World::start_with(&bench.postgres, 2, &SETTINGS).await?;
    let (talk_free, talk_limited) = (Talk::start(&free)?, Talk::start(&limited)?);
    let (mut without, mut with) = (vec![], vec![]);
    let (mut redis_without, mut redis_with) = (vec![], vec![]);
    let (mut calls, mut questions) = (vec![], vec![]);
    for _ in 0..bench.runs {
        let figures = talk_free.at(RATE, bench.length).await?;
        without.push(figures.gateways);
        redis_without.push(figures.redis);

        let before = (
            asked(&limited, CALLS).await?,
            asked(&limited, LEASES).await?,
        );
        let sent = talk_limited.sent()?;
        let figures = talk_limited.at(RATE, bench.length).await?;
        with.push(figures.gateways);
        redis_with.push(figures.redis);
        let commands = (talk_limited.sent()? - sent) as f64;
        calls.push((asked(&limited, CALLS).await? - before.0) / commands);
        questions.push((asked(&limited, LEASES).await? - before.1) / commands);
    }
    let each = RATE / PAIRS as f64;
    Ok(vec![
        Line::new(
            "limits",
            "direct command at 5 000/s, limits in use: both gateways",
            "µs CPU",
            with,
        )
        .beside("limits out of reach", without)
        .note(format!(
            "{PAIRS} senders, each at {each:.0} commands a second of 60; out of reach: a million a second"
        )),
        Line::new(
            "limits",
            "direct command at 5 000/s, limits in use: Redis",
            "µs CPU",
            redis_with,
        )
        .beside("limits out of reach", redis_without),
        Line::new("limits", "calls to Redis for limits", "per command", calls),
        Line::new("limits", "leases, many in a call", "per command", questions)
            .note("two buckets per command: of requests, and of direct commands"),
    ])
}

const CALLS: &str = "tidegate_limit_calls_total";
const LEASES: &str = "tidegate_limit_leases_total";

/// A counter of all gateways together.
async fn asked(world: &World, metric: &str) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for gateway in &world.gateways {
        let value = gateway.metric(metric).await;
        sum += value.ok_or_else(|| anyhow::anyhow!("no {metric}"))?;
    }
    Ok(sum)
}
