//! Whom a command reaches: every cell of the rule, over real sockets, against a model that knows
//! nothing of how it is done.

use std::collections::BTreeSet;

use serde_json::json;
use testkit::{Deployment, Socket, User, eventually, wait::PATIENCE};

use crate::{
    broadcasts::{to_all, to_category},
    support::{id_of, message, unlimited},
};

/// What somebody chose.
struct Choice {
    blocked: &'static [&'static str],
    allowed: &'static [&'static str],
}

const CHOICES: &[Choice] = &[
    Choice {
        blocked: &[],
        allowed: &[],
    },
    Choice {
        blocked: &["feet"],
        allowed: &[],
    },
    Choice {
        blocked: &["feet", "adult"],
        allowed: &[],
    },
    Choice {
        blocked: &[],
        allowed: &["feet"],
    },
    Choice {
        blocked: &[],
        allowed: &["feet", "adult"],
    },
    Choice {
        blocked: &["feet"],
        allowed: &["adult"],
    },
    Choice {
        blocked: &["feet"],
        allowed: &["feet"],
    },
    Choice {
        blocked: &["feet"],
        allowed: &["feet", "adult"],
    },
    Choice {
        blocked: &["mild"],
        allowed: &["mild", "feet", "adult"],
    },
];

const TAGS: &[&[&str]] = &[
    &[],
    &["feet"],
    &["adult"],
    &["mild"],
    &["feet", "adult"],
    &["feet", "mild"],
    &["adult", "mild"],
    &["feet", "adult", "mild"],
    &["feet", "feet"],
];

impl Choice {
    /// The rule in words: nothing that is blocked, and only what is allowed where that is said.
    fn admits(&self, tags: &[&str]) -> bool {
        let mut blocked = false;
        let mut not_allowed = false;
        for tag in tags {
            for name in self.blocked {
                blocked |= name == tag;
            }
            let mut listed = false;
            for name in self.allowed {
                listed |= name == tag;
            }
            not_allowed |= !listed;
        }
        !(blocked || !self.allowed.is_empty() && not_allowed)
    }
}

struct Reader {
    user: User,
    choice: &'static Choice,
    socket: Socket,
}

async fn readers(tidegate: &Deployment) -> Vec<Reader> {
    let mut readers = Vec::new();
    for (n, choice) in CHOICES.iter().enumerate() {
        let user = tidegate.user(&format!("reader{n}")).await;
        let (socket, _) = tidegate.connect(n % 2, &user, "phone").await;
        let chosen =
            json!({"blockedCategories": choice.blocked, "allowedCategories": choice.allowed});
        let reply = socket.request("preferences.update", chosen).await;
        assert_eq!(reply["type"], "preferences", "{reply}");
        // Its entry: from here on the choice counts for this socket.
        socket
            .take("the choice as an entry", PATIENCE, |frame| {
                frame["type"] == "preferences" && frame["topic"] == "user"
            })
            .await;
        readers.push(Reader {
            user,
            choice,
            socket,
        });
    }
    readers
}

/// The contents that came to a socket so far.
fn contents(socket: &Socket) -> BTreeSet<String> {
    let frames = socket.waiting();
    let commands = frames.iter().filter(|frame| frame["type"] == "command.new");
    commands
        .map(|frame| frame["payload"]["content"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn every_cell_of_the_filter_agrees_with_the_rule() {
    let tidegate = Deployment::start_with(unlimited()).await;
    let sender = crate::broadcasts::who_may_allcast(&tidegate, "sender").await;
    let (speaker, _) = tidegate.connect(0, &sender, "laptop").await;
    let readers = readers(&tidegate).await;

    for (n, tags) in TAGS.iter().enumerate() {
        let mut bodies = vec![to_all(&format!("all {n}"), tags)];
        if !tags.is_empty() {
            bodies.push(to_category(&format!("category {n}"), tags));
        }
        for reader in &readers {
            let mut body = message(&reader.user, &format!("direct {n}"));
            body["categories"] = json!(tags);
            bodies.push(body);
        }
        for body in bodies {
            id_of(&speaker.request("command.create", body).await);
        }
    }
    // Nobody is kept from these, and each closes its log.
    id_of(
        &speaker
            .request("command.create", to_all("the end of all", &[]))
            .await,
    );
    for reader in &readers {
        let body = message(&reader.user, "the end of direct");
        id_of(&speaker.request("command.create", body).await);
    }

    let mut cells = 0;
    for Reader { choice, socket, .. } in &readers {
        eventually("both logs have come to their ends", PATIENCE, || async {
            let seen = contents(socket);
            let ends = ["the end of all", "the end of direct"];
            ends.iter().all(|end| seen.contains(*end)).then_some(())
        })
        .await;
        let seen = contents(socket);
        for (n, tags) in TAGS.iter().enumerate() {
            for sort in ["all", "category", "direct"] {
                let expected = choice.admits(tags) && !(sort == "category" && tags.is_empty());
                let found = seen.contains(&format!("{sort} {n}"));
                assert_eq!(
                    found, expected,
                    "{sort} with {tags:?} to one who blocks {:?} and allows {:?}",
                    choice.blocked, choice.allowed,
                );
                cells += 1;
            }
        }
        // Each once.
        assert_eq!(socket.count("command.new"), seen.len());
    }
    assert_eq!(cells, CHOICES.len() * TAGS.len() * 3);
}
