//! What a delivery costs a gateway when a broadcast goes to many users, each of whom has
//! preferences that are looked at, beside an entry of one user that goes to as many sockets.

use super::{
    Bench,
    fan_out::{Audience, Readers, broadcast, entry},
    most_sockets,
};
use crate::{
    table::{Goal, Line},
    users::{self, Choice, User},
    world::World,
};

const SOCKETS: usize = 10_000;
const READER: User = User(0);
const SENDER: User = User(1);
/// The first of the users who get the broadcast.
const FIRST: u64 = 1000;
/// What every reader admits, each for another reason.
const TAGS: [&str; 2] = ["general", "mild"];
const CHOICES: [Choice; 4] = [
    Choice::NONE,
    Choice {
        blocked: "adult,extreme",
        allowed: "",
    },
    Choice {
        blocked: "",
        allowed: "general,mild",
    },
    Choice {
        blocked: "adult",
        allowed: "censored,general,mild",
    },
];

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    // All sockets of both sides are open at once, and are ends of this process.
    let sockets = SOCKETS.min(most_sockets()? / 2);
    let unfiltered = Audience {
        sockets,
        user: |_| READER,
        entry: |n| entry(SENDER, READER, n),
    };
    let filtered = Audience {
        sockets,
        user: |n| User(FIRST + n),
        entry: |n| broadcast(SENDER, &TAGS, n),
    };
    let world = World::start(&bench.postgres, 1).await?;
    let unfiltered = Readers::start(world, unfiltered).await?;
    let world = World::start(&bench.postgres, 1).await?;
    for (n, choice) in (0..).zip(CHOICES) {
        users::choose(&world.database, FIRST + n, CHOICES.len() as u64, choice).await?;
    }
    let filtered = Readers::start(world, filtered).await?;

    let (mut measured, mut baseline, mut redis) = (vec![], vec![], vec![]);
    for _ in 0..bench.runs {
        baseline.push(unfiltered.measure(1, bench.length).await?.gateways);
        let figures = filtered.measure(1, bench.length).await?;
        measured.push(figures.gateways);
        redis.push(figures.redis_per_entry);
    }
    Ok(vec![
        Line::new(
            "broadcast",
            format!("broadcast to {sockets} users on one node, filtered"),
            "µs CPU",
            measured,
        )
        .beside("one user's entry to as many sockets", baseline)
        .goal(Goal::RatioAtMost(1.3))
        .note("per delivery, two tags; a quarter of the users each: nothing chosen, others blocked, these allowed, both"),
        Line::new("broadcast", "Redis, per broadcast", "µs CPU", redis)
            .note("confirmations of the devices included"),
    ])
}
