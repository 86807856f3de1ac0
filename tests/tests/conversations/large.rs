//! Groups that are too large for copies: what is said there is read from their own log.

mod missed;

use serde_json::{Value, json};
use testkit::{Deployment, Plan, Socket, User, eventually, wait::PATIENCE};

use super::{ask, expect_message, group, say};

/// A deployment in which four are too many, and that many users.
async fn with_users(count: usize) -> (Deployment, Vec<User>) {
    let plan = Plan::default().with("TIDEGATE_CONVERSATIONS__INBOX_MAX_MEMBERS", "3");
    let tidegate = Deployment::start_with(plan).await;
    let mut users = Vec::new();
    for n in 0..count {
        users.push(tidegate.user(&format!("user{n}")).await);
    }
    (tidegate, users)
}

/// A socket of each, which follows the conversation.
async fn follow(tidegate: &Deployment, users: &[User], conversation: &str) -> Vec<Socket> {
    let mut sockets = Vec::new();
    for (n, user) in users.iter().enumerate() {
        let (socket, _) = tidegate.connect(n % 2, user, "phone").await;
        subscribe(&socket, conversation).await;
        sockets.push(socket);
    }
    sockets
}

async fn subscribe(socket: &Socket, conversation: &str) {
    let wish = json!({"topics": ["conversation"], "filters": {"conversation_id": conversation}});
    let reply = socket.request("subscribe", wish).await;
    assert_eq!(reply["type"], "subscribed", "{reply}");
    assert_eq!(reply["payload"]["refused"], json!([]), "{reply}");
}

/// Contents of what people said, oldest first.
async fn history(tidegate: &Deployment, user: &User, conversation: &str) -> Vec<String> {
    let path = format!("GET /conversations/{conversation}/messages?limit=100");
    let page = ask(tidegate, 1, user, &path, Value::Null).await;
    let items = page["items"].as_array().expect("a list");
    let said = items.iter().filter(|it| it["senderType"] != "SYSTEM");
    let text = |it: &Value| it["content"].as_str().expect("a text").to_owned();
    said.rev().map(text).collect()
}

/// These come to a socket, in this order, from these topics.
async fn hears(socket: &Socket, expected: &[(String, String)]) {
    for (content, topic) in expected {
        let frame = expect_message(socket, content).await;
        assert_eq!(frame["topic"], topic.as_str(), "{frame}");
    }
}

/// Nothing that people said has come besides what was taken.
fn hears_no_more(socket: &Socket) {
    let more = socket.waiting();
    let mut more = more
        .iter()
        .filter(|it| it["type"] == "message.new" && it["payload"]["senderType"] != "SYSTEM");
    assert_eq!(more.next(), None, "something came twice");
}

#[tokio::test]
async fn a_large_group_is_told_by_its_own_log_and_not_by_inboxes() {
    let (tidegate, users) = with_users(6).await;
    let id = group(&tidegate, &users.iter().collect::<Vec<_>>()).await;
    let sockets = follow(&tidegate, &users, &id).await;
    let (deaf, _) = tidegate.connect(0, &users[1], "tablet").await;

    let mut said = Vec::new();
    for n in 0..30 {
        let text = format!("message {n}");
        say(&sockets[n % users.len()], &id, &text).await;
        said.push((text, "conversation".to_owned()));
    }
    for socket in &sockets {
        hears(socket, &said).await;
    }
    let texts: Vec<String> = said.iter().map(|(text, _)| text.clone()).collect();
    for user in &users {
        assert_eq!(history(&tidegate, user, &id).await, texts);
    }
    eventually("all is in Postgres", PATIENCE, || async {
        let rows = "SELECT count(*) FROM messages WHERE sender_type = 'USER' AND uncopied";
        (tidegate.database.count(rows).await == said.len() as u64).then_some(())
    })
    .await;
    let copies = "SELECT count(*) FROM inbox JOIN messages ON messages.id = message_id \
                  WHERE sender_type <> 'SYSTEM'";
    assert_eq!(tidegate.database.count(copies).await, 0);
    sockets.iter().for_each(hears_no_more);
    assert_eq!(deaf.count("message.new"), 0, "who did not ask is not told");
}

#[tokio::test]
async fn a_group_that_grows_and_shrinks_over_the_limit_tells_everything_once() {
    let (tidegate, users) = with_users(6).await;
    let id = group(&tidegate, &users[..3].iter().collect::<Vec<_>>()).await;
    let stays = follow(&tidegate, &users[..3], &id).await;
    let path = format!("/conversations/{id}/participants");

    let mut said = Vec::new();
    let mut inbox = Vec::new();
    for round in 0..5 {
        for phase in ["small", "large"] {
            if phase == "large" {
                for user in &users[3..5] {
                    let join = json!({"userId": user.id});
                    ask(&tidegate, 1, &users[0], &format!("POST {path}"), join).await;
                }
            }
            for n in 0..6 {
                // By sockets on both nodes, which learn of the change at their own times.
                let text = format!("{phase} {round} {n}");
                say(&stays[n % 3], &id, &text).await;
                if phase == "small" {
                    inbox.push(text.clone());
                }
                let topic = match phase {
                    "small" => "user".to_owned(),
                    _ => "conversation".to_owned(),
                };
                said.push((text, topic));
            }
        }
        for user in &users[3..5] {
            let leave = format!("DELETE {path}/{}", user.id);
            ask(&tidegate, 0, &users[0], &leave, Value::Null).await;
        }
    }
    for socket in &stays {
        hears(socket, &said).await;
    }
    let texts: Vec<String> = said.iter().map(|(text, _)| text.clone()).collect();
    for user in &users[..3] {
        assert_eq!(history(&tidegate, user, &id).await, texts);
    }
    let copied = "SELECT content FROM inbox JOIN messages ON messages.id = message_id \
                  WHERE sender_type = 'USER' AND user_id = ";
    for user in &users[..3] {
        let sql = format!(
            "{copied}'{}' ORDER BY inbox.epoch, inbox.\"offset\"",
            user.id
        );
        eventually("the inbox is written", PATIENCE, || async {
            let rows = tidegate.database.query(&sql).await.concat();
            assert!(rows.len() <= inbox.len(), "{rows:?}");
            (rows == inbox).then_some(())
        })
        .await;
    }
    stays.iter().for_each(hears_no_more);
}
