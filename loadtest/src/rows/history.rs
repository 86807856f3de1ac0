//! What a page of a long history takes: a million messages of one conversation over twenty days, the
//! newest pages beside the oldest.

use std::time::Instant;

use serde_json::Value;
use testkit::rest::Rest;

use super::Bench;
use crate::{
    table::{Goal, Line},
    users::User,
    world::World,
};

const MESSAGES: u64 = 1_000_000;
const DAYS: u64 = 20;
const PAGES: usize = 200;
const READER: User = User(0);
const CONVERSATION: &str = "01890a5d-ac96-774b-bcce-b302099a8058";

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let world = World::start(&bench.postgres, 1).await?;
    fill(&world).await?;
    let rest = world.gateways[0].rest();
    let token = READER.token()?;
    let (mut newest, mut oldest) = (vec![], vec![]);
    let near_the_end = id_of(&world, MESSAGES / 50).await?;
    for _ in 0..bench.runs {
        newest.push(p99(&rest, &token, None).await?);
        oldest.push(p99(&rest, &token, Some(&near_the_end)).await?);
    }
    Ok(vec![
        Line::new(
            "history",
            "page of 50 of a million messages, the oldest 10 000: p99",
            "ms",
            oldest,
        )
        .beside("the newest 10 000", newest)
        .goal(Goal::RatioAtMost(1.5))
        .note(format!(
            "{DAYS} days, over REST, {PAGES} pages one after the other"
        )),
    ])
}

/// Messages as the write-behind would leave them.
async fn fill(world: &World) -> anyhow::Result<()> {
    let user = READER.id();
    let nil = "00000000-0000-0000-0000-000000000000";
    let statements = [
        format!(
            "SELECT make_days(array_agg((now() AT TIME ZONE 'UTC')::date - n)) \
             FROM generate_series(0, {DAYS}) n"
        ),
        format!(
            "INSERT INTO conversations (id, type, created_by, created_at, active_at) \
             VALUES ('{CONVERSATION}', 'GROUP', '{user}', now(), now())"
        ),
        format!(
            "INSERT INTO conversation_participants \
                 (conversation_id, user_id, role, joined_at, joined, since) \
             VALUES ('{CONVERSATION}', '{user}', 'ADMIN', now(), 1, '{nil}')"
        ),
        format!(
            "INSERT INTO messages (id, conversation_id, sender_id, sender_name, sender_type, \
                 message_type, content, epoch, \"offset\", created_at) \
             SELECT (left(uuid_at(at)::text, 14) || '7' || substr(md5(n::text), 1, 3) || '-8' || \
                 substr(md5(n::text), 4, 3) || '-' || lpad(to_hex(n), 12, '0'))::uuid, \
                 '{CONVERSATION}', '{user}', 'bench', 'USER', 'TEXT', repeat('x', 128), 1, n, at \
             FROM (SELECT n, now() - make_interval(days => {DAYS}) \
                       + n * make_interval(days => {DAYS}) / {MESSAGES} AS at \
                   FROM generate_series(1, {MESSAGES}) n) AS made"
        ),
        format!(
            "INSERT INTO conversation_days SELECT DISTINCT '{CONVERSATION}'::uuid, \
                 (created_at AT TIME ZONE 'UTC')::date FROM messages"
        ),
        format!(
            "UPDATE conversations SET epoch = 1, \"offset\" = {MESSAGES}, \
                 last_message = (SELECT max(id::text)::uuid FROM messages) \
             WHERE id = '{CONVERSATION}'"
        ),
        "ANALYZE".to_owned(),
    ];
    for statement in statements {
        let done = world.database.try_query(&statement).await;
        done.map_err(anyhow::Error::msg)?;
    }
    Ok(())
}

/// The id of the n-th message.
async fn id_of(world: &World, n: u64) -> anyhow::Result<String> {
    let sql = format!("SELECT id FROM messages WHERE \"offset\" = {n}");
    let rows = world.database.try_query(&sql).await;
    let mut rows = rows.map_err(anyhow::Error::msg)?;
    anyhow::ensure!(rows.len() == 1, "no message {n}");
    Ok(rows.remove(0).remove(0))
}

/// Reads pages one after the other, from the newest or from before a message; ms.
async fn p99(rest: &Rest, token: &str, before: Option<&str>) -> anyhow::Result<f64> {
    let first = before.map_or(String::new(), |id| format!("&before={id}"));
    let mut place = first;
    let mut times = Vec::with_capacity(PAGES);
    for _ in 0..PAGES {
        let path = format!("/api/v1/conversations/{CONVERSATION}/messages?limit=50{place}");
        let begun = Instant::now();
        let page = rest.ask("GET", &path, token, &Value::Null).await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        anyhow::ensure!(page.status == 200, "{}", page.body);
        let count = page.body["items"].as_array().map_or(0, Vec::len);
        anyhow::ensure!(count == 50, "a page of {count}");
        match page.body["nextCursor"].as_str() {
            Some(next) => place = format!("&cursor={next}"),
            None => break,
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() * 99 / 100])
}
