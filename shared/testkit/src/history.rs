//! What every sender asked and was promised, and what every device got.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::Value;

use crate::socket::Listener;

/// What a sender was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted under this id: a promise.
    Ok { id: String },
    /// Refused for good: must not happen.
    Fail { code: String },
    /// No answer: may or may not have happened.
    Info,
}

/// Something a sender asked for. Its mark travels in the content, so that a receiver's record can
/// be matched even when the sender never learnt an id.
#[derive(Debug, Clone)]
pub struct Asked {
    pub mark: String,
    pub sender: String,
    /// A user, or a group of them.
    pub recipient: String,
    /// Which one it is of this sender's to this recipient, in the order they were asked.
    pub number: u64,
    pub outcome: Outcome,
}

/// Something a device got.
#[derive(Debug, Clone)]
pub struct Received {
    pub user: String,
    pub device: String,
    pub connection: u64,
    pub mark: String,
    pub id: String,
    /// Where it was said, if it is a message of a conversation: ids rise in the order of one.
    pub conversation: Option<String>,
    pub epoch: u64,
    pub offset: u64,
}

/// A record of a run. Cheap to clone; all clones write the same.
#[derive(Clone, Default)]
pub struct History {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    connections: AtomicU64,
    records: Mutex<Records>,
}

#[derive(Default)]
pub(crate) struct Records {
    pub(crate) asked: Vec<Asked>,
    pub(crate) received: Vec<Received>,
    /// Connections per (user, device): its resets are one less.
    pub(crate) connections: HashMap<(String, String), u64>,
    /// Who gets what is asked for a group, by its name.
    pub(crate) groups: HashMap<String, HashSet<String>>,
    numbers: HashMap<(String, String), u64>,
}

impl Records {
    /// Whether a user gets what is asked for this recipient.
    pub(crate) fn is_for(&self, recipient: &str, user: &str) -> bool {
        match self.groups.get(recipient) {
            Some(members) => members.contains(user),
            None => recipient == user,
        }
    }
}

impl History {
    pub fn new() -> Self {
        Self::default()
    }

    /// What is asked for `name` from now on is for all of these users.
    pub fn group(&self, name: &str, members: impl IntoIterator<Item = String>) {
        let members = members.into_iter().collect();
        self.records().groups.insert(name.to_owned(), members);
    }

    /// A sender is about to ask. Until told otherwise the outcome is unknown.
    pub fn ask(&self, sender: &str, recipient: &str) -> Asking {
        let mut records = self.records();
        let number = records
            .numbers
            .entry((sender.to_owned(), recipient.to_owned()))
            .or_default();
        *number += 1;
        let number = *number;
        let index = records.asked.len();
        let mark = format!("mark-{index}");
        records.asked.push(Asked {
            mark: mark.clone(),
            sender: sender.to_owned(),
            recipient: recipient.to_owned(),
            number,
            outcome: Outcome::Info,
        });
        Asking {
            history: self.clone(),
            index,
            mark,
        }
    }

    /// The listener for a new connection of a device, which is entitled to all its user gets from now
    /// on and before.
    pub fn listen(&self, user: &str, device: &str) -> Listener {
        let connection = self.inner.connections.fetch_add(1, Ordering::Relaxed);
        *self
            .records()
            .connections
            .entry((user.to_owned(), device.to_owned()))
            .or_default() += 1;
        let (history, user, device) = (self.clone(), user.to_owned(), device.to_owned());
        Arc::new(move |frame: &Value| {
            let payload = &frame["payload"];
            let id = match frame["type"].as_str() {
                Some("command.new") => &payload["commandId"],
                // Nobody asks for those of the server.
                Some("message.new") if payload["senderType"] != "SYSTEM" => &payload["messageId"],
                _ => return,
            };
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            history.records().received.push(Received {
                user: user.clone(),
                device: device.clone(),
                connection,
                mark: text(&payload["content"]),
                id: text(id),
                conversation: payload["conversationId"].as_str().map(str::to_owned),
                epoch: frame["epoch"].as_u64().unwrap_or_default(),
                offset: frame["offset"].as_u64().unwrap_or_default(),
            });
        })
    }

    /// How many different commands a device got so far.
    pub fn distinct(&self, user: &str, device: &str) -> usize {
        let records = self.records();
        let of_device = records
            .received
            .iter()
            .filter(|one| one.user == user && one.device == device);
        of_device
            .map(|one| one.id.as_str())
            .collect::<HashSet<_>>()
            .len()
    }

    /// How many were promised so far.
    pub fn promised(&self) -> usize {
        self.records()
            .asked
            .iter()
            .filter(|one| matches!(one.outcome, Outcome::Ok { .. }))
            .count()
    }

    pub(crate) fn records(&self) -> MutexGuard<'_, Records> {
        self.inner
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way.
pub struct Asking {
    history: History,
    index: usize,
    mark: String,
}

impl Asking {
    /// To be sent as the content.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// What the reply frame says: `command.accepted` or `chat.accepted` is a promise; `error` with `unavailable`,
    /// `rate_limited` or `internal` leaves it open (the same request may be tried again).
    pub fn answered(&self, reply: &Value) -> Outcome {
        let payload = &reply["payload"];
        let code = payload["code"].as_str().unwrap_or("no code").to_owned();
        let id = match reply["type"].as_str() {
            Some("command.accepted") => payload["commandId"].as_str(),
            Some("chat.accepted") => payload["messageId"].as_str(),
            _ => None,
        };
        let outcome = match id {
            Some(id) => Outcome::Ok { id: id.to_owned() },
            None if matches!(code.as_str(), "unavailable" | "rate_limited" | "internal") => {
                Outcome::Info
            }
            None => Outcome::Fail { code },
        };
        self.history.records().asked[self.index].outcome = outcome.clone();
        outcome
    }
}
