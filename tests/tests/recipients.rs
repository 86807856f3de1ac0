//! What the sender of a broadcast sees of its recipients, over REST.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{Deployment, Plan, Socket, User, eventually, wait::PATIENCE};

use crate::{
    broadcasts::to_category,
    support::{expect_content, id_of},
};

async fn look(tidegate: &Deployment, who: &User, id: &str, query: &str) -> Option<Value> {
    let rest = tidegate.gateways[1].rest();
    let path = format!("/api/v1/commands/{id}{query}");
    let answer = rest.ask("GET", &path, &who.token, &Value::Null).await;
    let answer = answer.expect("the gateway answers");
    (answer.status == 200).then_some(answer.body)
}

#[tokio::test]
async fn the_sender_counts_and_lists_who_has_a_broadcast() {
    const OTHERS: usize = 7;
    let plan = Plan::default().with("TIDEGATE_DELIVERY__RECEIPT_INTERVAL", "200ms");
    let tidegate = Deployment::start_with(plan).await;
    let ann = tidegate.user("ann").await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let mut others: Vec<(User, Socket)> = Vec::new();
    for n in 0..OTHERS {
        let user = tidegate.user(&format!("other{n}")).await;
        let (socket, _) = tidegate.connect(n % 2, &user, "phone").await;
        others.push((user, socket));
    }
    let kept_from = tidegate.user("kept").await;
    let (kept_socket, _) = tidegate.connect(0, &kept_from, "phone").await;
    let chosen = json!({"blockedCategories": ["mild"]});
    kept_socket.request("preferences.update", chosen).await;
    kept_socket.expect("preferences").await;
    let away = tidegate.user("away").await;

    let accepted = ann_socket
        .request("command.create", to_category("for many", &["mild"]))
        .await;
    let id = id_of(&accepted);
    for (_, socket) in &others {
        expect_content(socket, "for many").await;
    }
    for (_, socket) in &others[..2] {
        let done = socket
            .request("command.complete", json!({"commandId": id}))
            .await;
        assert_eq!(done["type"], "command.completed", "{done}");
    }
    // Ann has a device as well.
    let seen = eventually("the counts are right", PATIENCE, || async {
        let seen = look(&tidegate, &ann, &id, "").await?;
        let counts = &seen["counts"];
        let are_right = counts["completed"] == 2 && counts["delivered"] == OTHERS - 2 + 1;
        are_right.then_some(seen)
    })
    .await;
    assert_eq!(seen["broadcast"], "category", "{seen}");
    assert_eq!(seen["status"], "pending", "{seen}");

    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = look(&tidegate, &ann, &id, &format!("?limit=3{cursor}")).await;
        let page = page.expect("a page")["recipients"].clone();
        for recipient in page["items"].as_array().expect("a list") {
            listed.push(recipient["userId"].as_str().expect("an id").to_owned());
            assert!(recipient["deliveredAt"].is_string(), "{recipient}");
        }
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let expected: BTreeSet<String> = others
        .iter()
        .map(|(user, _)| user.id.clone())
        .chain([ann.id.clone()])
        .collect();
    assert_eq!(listed.len(), expected.len(), "each once");
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
    let completed = look(&tidegate, &ann, &id, "?state=completed").await;
    let completed = completed.expect("a page");
    let items = completed["recipients"]["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{completed}");
    assert!(
        items.iter().all(|it| it["completedAt"].is_string()),
        "{completed}"
    );

    // Recipients see their own state, and whoever it does not reach sees nothing.
    let own = look(&tidegate, &others[0].0, &id, "")
        .await
        .expect("theirs");
    assert_eq!(own["status"], "completed", "{own}");
    assert!(own["counts"].is_null() && own["recipients"].is_null());
    let own = look(&tidegate, &away, &id, "").await.expect("theirs");
    assert_eq!(own["status"], "pending", "{own}");
    assert!(look(&tidegate, &kept_from, &id, "").await.is_none());
}
