//! What a delivery costs a gateway when its clients speak STOMP, beside as many that speak JSON.

use super::{
    Bench,
    fan_out::{Audience, Readers, entry},
};
use crate::{
    table::{Goal, Line},
    users::User,
    world::World,
};

const SOCKETS: usize = 1000;
const READER: User = User(0);
const SENDER: User = User(1);

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let readers = Audience {
        sockets: SOCKETS,
        user: |_| READER,
        entry: |n| entry(SENDER, READER, n),
    };
    let json = Readers::start(World::start(&bench.postgres, 1).await?, readers).await?;
    let stomp = Readers::start_stomp(World::start(&bench.postgres, 1).await?, readers).await?;
    let (mut in_json, mut in_stomp) = (vec![], vec![]);
    for _ in 0..bench.runs {
        in_json.push(json.measure(1, bench.length).await?.gateways);
        in_stomp.push(stomp.measure(1, bench.length).await?.gateways);
    }
    let what = "delivery to 1 000 STOMP sockets, one entry at a time";
    Ok(vec![
        Line::new("stomp", what, "µs CPU", in_stomp)
            .beside("JSON sockets", in_json)
            .goal(Goal::RatioAtMost(1.2))
            .note("each subscribed to the user's commands, confirmed by the transport"),
    ])
}
