//! Set arithmetic over a [`History`], after everything is healed and drained.

mod inboxes;

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use crate::history::{Asked, History, Outcome, Received, Records};

/// Raw duplicates a device may get per reconnect: the window of unconfirmed entries.
pub const WINDOW: u64 = 256;

/// What a run did wrong. All empty: nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Promised, and a device of the recipient never got it.
    pub lost: Vec<String>,
    /// Received, and never asked for, or refused.
    pub phantom: Vec<String>,
    /// Received by somebody it was not for.
    pub foreign: Vec<String>,
    /// First received after something that stands behind it in the log, or out of its sender's order,
    /// or after a later message of its conversation.
    pub reordered: Vec<String>,
    /// The same request under two ids, or an id at two positions: not recognisable as a duplicate.
    pub doubled: Vec<String>,
    /// A device that got more repeats than its reconnects explain.
    pub repeated: Vec<String>,
    /// Rows in Postgres that are missing, doubled, or promised to nobody.
    pub rows: Vec<String>,
    /// The same for rows of inboxes.
    pub inboxes: Vec<String>,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self == &Self::default()
    }

    /// # Panics
    /// When anything is wrong, with all of it.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "the run was not clean:\n{self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("lost", &self.lost),
            ("phantom", &self.phantom),
            ("foreign", &self.foreign),
            ("reordered", &self.reordered),
            ("doubled", &self.doubled),
            ("repeated", &self.repeated),
            ("rows", &self.rows),
            ("inboxes", &self.inboxes),
        ];
        for (name, found) in all {
            write!(f, "{name} {}", found.len())?;
            for one in found.iter().take(5) {
                write!(f, "\n    {one}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Which orders must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Senders {
    /// Each waits for an answer (or retries until it has one) before it asks again: its commands
    /// arrive in its order.
    OneAtATime,
    /// No order among what a sender asked.
    Concurrent,
}

impl History {
    /// Judges the run. `rows` are (id, content) of what Postgres has.
    pub fn verdict(&self, senders: Senders, rows: Option<&[(String, String)]>) -> Verdict {
        let records = self.records();
        let mut verdict = Verdict::default();
        let asked: HashMap<&str, &Asked> = records
            .asked
            .iter()
            .map(|one| (one.mark.as_str(), one))
            .collect();

        let mut by_device: HashMap<(&str, &str), Vec<&Received>> = HashMap::new();
        for device in records.connections.keys() {
            by_device.insert((&device.0, &device.1), Vec::new());
        }
        for one in &records.received {
            by_device
                .entry((&one.user, &one.device))
                .or_default()
                .push(one);
        }

        for ((user, device), received) in &by_device {
            let resets = records
                .connections
                .get(&((*user).to_owned(), (*device).to_owned()))
                .map_or(0, |n| n.saturating_sub(1));
            let device = Device {
                name: format!("{user}/{device}"),
                user,
                resets,
                records: &records,
                asked: &asked,
            };
            device.judge(&mut verdict, received, senders);
            let got: HashSet<&str> = received.iter().map(|one| one.mark.as_str()).collect();
            for one in &records.asked {
                let is_promised = matches!(one.outcome, Outcome::Ok { .. })
                    && records.is_for(&one.recipient, user);
                if is_promised && !got.contains(one.mark.as_str()) {
                    let lost = format!("{} of {} for {}", one.mark, one.sender, device.name);
                    verdict.lost.push(lost);
                }
            }
        }
        if let Some(rows) = rows {
            judge_rows(&mut verdict, &records.asked, &asked, rows);
        }
        verdict
    }
}

/// What a device is judged by.
struct Device<'a> {
    name: String,
    user: &'a str,
    resets: u64,
    records: &'a Records,
    asked: &'a HashMap<&'a str, &'a Asked>,
}

impl Device<'_> {
    fn judge(&self, verdict: &mut Verdict, received: &[&Received], senders: Senders) {
        let name = &self.name;
        let mut positions: HashMap<&str, (u64, u64)> = HashMap::new();
        let mut ids: HashMap<&str, &str> = HashMap::new();
        let mut furthest = (0, 0);
        let mut newest: HashMap<(&str, &str), u64> = HashMap::new();
        let mut latest: HashMap<&str, &str> = HashMap::new();
        let mut repeats = 0;
        for one in received {
            let position = (one.epoch, one.offset);
            if let Some(known) = positions.get(one.id.as_str()) {
                repeats += 1;
                // Heard before a failover that lost it, and appended again before it was promised.
                let again = position.0 > known.0;
                if *known != position && !again {
                    verdict.doubled.push(format!(
                        "{name}: id {} at {known:?} and at {position:?}",
                        one.id
                    ));
                }
                continue;
            }
            positions.insert(&one.id, position);
            if position <= furthest {
                verdict.reordered.push(format!(
                    "{name}: {} at {position:?} after {furthest:?}",
                    one.mark
                ));
            }
            furthest = furthest.max(position);
            if let Some(conversation) = &one.conversation {
                let before = latest.entry(conversation).or_default();
                // Ids are UUIDs, whose texts sort as they do.
                if one.id.as_str() <= *before {
                    verdict
                        .reordered
                        .push(format!("{name}: message {} after {before}", one.id));
                } else {
                    *before = &one.id;
                }
            }
            let Some(asked) = self.asked_for(verdict, one) else {
                continue;
            };
            if let Some(other) = ids.insert(&one.mark, &one.id) {
                verdict
                    .doubled
                    .push(format!("{name}: {} as {other} and as {}", one.mark, one.id));
                continue;
            }
            let line = (asked.sender.as_str(), asked.recipient.as_str());
            let before = newest.insert(line, asked.number).unwrap_or(0);
            if senders == Senders::OneAtATime && asked.number < before {
                verdict.reordered.push(format!(
                    "{name}: number {} of {} after {before}",
                    asked.number, asked.sender
                ));
            }
        }
        if repeats > (self.resets + 1) * WINDOW {
            verdict.repeated.push(format!(
                "{name}: {repeats} repeats in {} reconnects",
                self.resets
            ));
        }
    }

    /// The request that something came of, unless there was none; whether it was for this user.
    fn asked_for(&self, verdict: &mut Verdict, one: &Received) -> Option<&Asked> {
        let name = &self.name;
        let Some(asked) = self.asked.get(one.mark.as_str()) else {
            verdict
                .phantom
                .push(format!("{name}: {:?}, which nobody asked for", one.mark));
            return None;
        };
        match &asked.outcome {
            Outcome::Fail { code } => verdict
                .phantom
                .push(format!("{name}: {}, which was refused ({code})", one.mark)),
            Outcome::Ok { id } if *id != one.id => {
                verdict.doubled.push(format!(
                    "{name}: {} was promised as {id} and came as {}",
                    one.mark, one.id
                ));
            }
            _ => {}
        }
        if !self.records.is_for(&asked.recipient, self.user) {
            verdict.foreign.push(format!(
                "{name}: {}, which is for {}",
                one.mark, asked.recipient
            ));
        }
        Some(asked)
    }
}

fn judge_rows(
    verdict: &mut Verdict,
    all: &[Asked],
    asked: &HashMap<&str, &Asked>,
    rows: &[(String, String)],
) {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for (id, mark) in rows {
        if let Some(other) = seen.insert(mark, id) {
            verdict
                .rows
                .push(format!("{mark} has the rows {other} and {id}"));
        }
        match asked.get(mark.as_str()).map(|one| &one.outcome) {
            None => verdict
                .rows
                .push(format!("row {id} {mark:?}, which nobody asked for")),
            Some(Outcome::Fail { code }) => verdict
                .rows
                .push(format!("row {id} {mark}, which was refused ({code})")),
            Some(Outcome::Ok { id: promised }) if promised != id => {
                verdict
                    .rows
                    .push(format!("row {id} {mark}, which was promised as {promised}"));
            }
            Some(_) => {}
        }
    }
    for one in all {
        if matches!(one.outcome, Outcome::Ok { .. }) && !seen.contains_key(one.mark.as_str()) {
            verdict
                .rows
                .push(format!("no row for {} of {}", one.mark, one.sender));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(history: &History, id: &str) -> String {
        let asking = history.ask("ann", "bob");
        asking.answered(&json!({"type": "command.accepted", "payload": {"commandId": id}}));
        asking.mark().to_owned()
    }

    fn got(
        history: &History,
        listener: &crate::socket::Listener,
        mark: &str,
        id: &str,
        offset: u64,
    ) {
        let _ = history;
        listener(
            &json!({"type": "command.new", "epoch": 7, "offset": offset, "payload": {"commandId": id, "content": mark}}),
        );
    }

    #[test]
    fn a_run_with_a_repeat_after_a_reconnect_is_clean() {
        let history = History::new();
        let (one, two) = (asked(&history, "1"), asked(&history, "2"));
        let phone = history.listen("bob", "phone");
        got(&history, &phone, &one, "1", 1);
        got(&history, &phone, &two, "2", 2);
        let again = history.listen("bob", "phone");
        got(&history, &again, &two, "2", 2);
        let rows = [("1".to_owned(), one), ("2".to_owned(), two)];
        history
            .verdict(Senders::OneAtATime, Some(&rows))
            .assert_clean();
    }

    #[test]
    fn every_kind_of_fault_is_seen() {
        let history = History::new();
        let (one, two, three) = (
            asked(&history, "1"),
            asked(&history, "2"),
            asked(&history, "3"),
        );
        let refused = history.ask("ann", "bob");
        refused.answered(&json!({"type": "error", "payload": {"code": "bad_request"}}));
        let phone = history.listen("bob", "phone");
        got(&history, &phone, &two, "2", 2);
        got(&history, &phone, &one, "1", 1);
        got(&history, &phone, refused.mark(), "4", 4);
        got(&history, &phone, "from nowhere", "5", 5);
        got(&history, &phone, &two, "6", 6);
        let eve = history.listen("eve", "laptop");
        got(&history, &eve, &three, "3", 3);
        let rows = [("1".to_owned(), one.clone()), ("9".to_owned(), one)];
        let verdict = history.verdict(Senders::OneAtATime, Some(&rows));
        assert_eq!(verdict.lost.len(), 1, "{verdict}");
        assert_eq!(verdict.phantom.len(), 2, "{verdict}");
        assert_eq!(verdict.foreign.len(), 1, "{verdict}");
        assert_eq!(verdict.reordered.len(), 2, "{verdict}");
        assert_eq!(verdict.doubled.len(), 2, "{verdict}");
        assert_eq!(verdict.rows.len(), 4, "{verdict}");
    }

    fn said(history: &History, sender: &str, id: &str) -> String {
        let asking = history.ask(sender, "all");
        asking.answered(&json!({"type": "chat.accepted", "payload": {"messageId": id}}));
        asking.mark().to_owned()
    }

    fn told(listener: &crate::socket::Listener, mark: &str, id: &str, offset: u64) {
        let payload = json!({
            "messageId": id, "conversationId": "c", "content": mark, "senderType": "USER",
        });
        listener(&json!({"type": "message.new", "epoch": 7, "offset": offset, "payload": payload}));
    }

    #[test]
    fn what_is_said_in_a_group_is_for_all_of_it_in_its_order() {
        let history = History::new();
        history.group("all", ["ann", "bob"].map(str::to_owned));
        let (one, two) = (said(&history, "ann", "1"), said(&history, "bob", "2"));
        let (ann, bob) = (
            history.listen("ann", "laptop"),
            history.listen("bob", "phone"),
        );
        for listener in [&ann, &bob] {
            listener(
                &json!({"type": "message.new", "epoch": 7, "offset": 1, "payload": {
                    "messageId": "0", "conversationId": "c", "content": "", "senderType": "SYSTEM",
                }}),
            );
            told(listener, &one, "1", 2);
            told(listener, &two, "2", 3);
        }
        history.verdict(Senders::OneAtATime, None).assert_clean();

        let eve = history.listen("eve", "phone");
        told(&eve, &one, "1", 1);
        let cat = history.listen("ann", "tablet");
        told(&cat, &two, "2", 1);
        told(&cat, &one, "1", 2);
        said(&history, "bob", "3");
        let verdict = history.verdict(Senders::OneAtATime, None);
        assert_eq!(verdict.foreign.len(), 1, "{verdict}");
        assert_eq!(verdict.reordered.len(), 1, "{verdict}");
        assert_eq!(verdict.lost.len(), 3, "{verdict}");
    }

    #[test]
    fn a_request_without_an_answer_may_arrive_or_not() {
        let history = History::new();
        let (arrived, _vanished) = (history.ask("ann", "bob"), history.ask("ann", "bob"));
        let phone = history.listen("bob", "phone");
        got(&history, &phone, arrived.mark(), "1", 1);
        let rows = [("1".to_owned(), arrived.mark().to_owned())];
        history
            .verdict(Senders::OneAtATime, Some(&rows))
            .assert_clean();
    }
}
