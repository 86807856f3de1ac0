//! What staff do and others try: how much of it there may be, and what is written down.

use serde_json::{Value, json};
use testkit::{Deployment, Plan, User};

/// A user who is somebody.
pub async fn with_role(tidegate: &Deployment, name: &str, role: &str) -> User {
    let user = tidegate.user(name).await;
    let make = format!("UPDATE users SET role = '{role}' WHERE id = '{}'", user.id);
    tidegate.database.query(&make).await;
    user
}

async fn status(tidegate: &Deployment, who: &User, method: &str, path: &str, body: Value) -> u16 {
    let rest = tidegate.gateways[0].rest();
    let path = format!("/api/v1/admin{path}");
    let answer = rest.ask(method, &path, &who.token, &body).await;
    answer.expect("the gateway answers").status
}

async fn lines(tidegate: &Deployment, who: &User, outcome: &str) -> u64 {
    let count = format!(
        "SELECT count(*) FROM audit_log WHERE actor = '{}' AND outcome = '{outcome}'",
        who.id
    );
    tidegate.database.count(&count).await
}

fn to_category(durability: &str) -> Value {
    json!({
        "broadcast": "category", "commandType": "message", "content": "hello",
        "categories": ["mild"], "durability": durability,
    })
}

/// Five requests at once, then one every second.
fn five() -> Plan {
    Plan::default()
        .gateways(1)
        .workers(0)
        .with("TIDEGATE_DELIVERY__REQUESTS_PER_SECOND", "1")
        .with("TIDEGATE_DELIVERY__REQUESTS_BURST", "5")
}

#[tokio::test]
async fn who_is_refused_for_want_of_a_role_cannot_fill_the_audit_log() {
    let tidegate = Deployment::start_with(five()).await;
    let eve = tidegate.user("eve").await;
    let mut refused = 0;
    let mut limited = 0;
    for n in 0..40 {
        let (method, path) = [("GET", "/audit"), ("POST", "/broadcast")][n % 2];
        match status(&tidegate, &eve, method, path, to_category("memory")).await {
            403 => refused += 1,
            429 => limited += 1,
            other => panic!("{method} {path}: {other}"),
        }
    }
    assert!(limited > 0, "{refused} were refused");
    assert_eq!(lines(&tidegate, &eve, "forbidden").await, refused);
}

#[tokio::test]
async fn a_broadcast_over_rest_counts_as_one_request() {
    let tidegate = Deployment::start_with(five()).await;
    let mod1 = with_role(&tidegate, "mod1", "moderator").await;
    for n in 0..5 {
        let body = to_category("memory");
        let status = status(&tidegate, &mod1, "POST", "/broadcast", body).await;
        assert_eq!(status, 202, "after {n}");
    }
    assert_eq!(lines(&tidegate, &mod1, "done").await, 5);
}

#[tokio::test]
async fn a_broadcast_of_unknown_outcome_is_written_down() {
    // Without a worker nothing is ever stored.
    let tidegate = Deployment::start_with(five()).await;
    let mod1 = with_role(&tidegate, "mod1", "moderator").await;
    let body = to_category("stored");
    let status = status(&tidegate, &mod1, "POST", "/broadcast", body).await;
    assert_eq!(status, 503);
    assert_eq!(lines(&tidegate, &mod1, "unavailable").await, 1);
}
