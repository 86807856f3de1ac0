//! Rows of inboxes against what was promised: one for each member of a group and each message.

use std::collections::{HashMap, HashSet};

use super::Verdict;
use crate::history::{History, Outcome};

impl History {
    /// Adds to a verdict what is wrong with the inboxes in Postgres. `rows` are (user, id of a message),
    /// those of messages of the server left out. Without a word about requests that were not answered.
    pub fn judge_inboxes(&self, verdict: &mut Verdict, rows: &[(String, String)]) {
        let records = self.records();
        let mut promised: HashMap<&str, &str> = HashMap::new();
        let mut open = false;
        for one in &records.asked {
            match &one.outcome {
                Outcome::Ok { id } => drop(promised.insert(id, &one.recipient)),
                Outcome::Info => open = true,
                Outcome::Fail { .. } => {}
            }
        }
        let mut seen: HashSet<(&str, &str)> = HashSet::new();
        for (user, id) in rows {
            if !seen.insert((user, id)) {
                verdict.inboxes.push(format!("{user} has {id} twice"));
            }
            match promised.get(id.as_str()) {
                Some(recipient) if records.is_for(recipient, user) => {}
                Some(recipient) => {
                    let wrong = format!("{user} has {id}, which is for {recipient}");
                    verdict.inboxes.push(wrong);
                }
                None if open => {}
                None => {
                    let wrong = format!("{user} has {id}, which nobody was promised");
                    verdict.inboxes.push(wrong);
                }
            }
        }
        for (id, recipient) in promised {
            for user in records.groups.get(recipient).into_iter().flatten() {
                if !seen.contains(&(user.as_str(), id)) {
                    verdict.inboxes.push(format!("{user} has no {id}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_inbox_has_each_message_once_and_nothing_else() {
        let history = History::new();
        history.group("all", ["ann", "bob"].map(str::to_owned));
        for id in ["1", "2"] {
            let asking = history.ask("ann", "all");
            asking.answered(&json!({"type": "chat.accepted", "payload": {"messageId": id}}));
        }
        let judge = |rows: &[(&str, &str)]| {
            let rows: Vec<_> = rows
                .iter()
                .map(|(user, id)| ((*user).to_owned(), (*id).to_owned()))
                .collect();
            let mut verdict = Verdict::default();
            history.judge_inboxes(&mut verdict, &rows);
            verdict.inboxes.sort();
            verdict.inboxes
        };
        let right = [("ann", "1"), ("ann", "2"), ("bob", "1"), ("bob", "2")];
        assert_eq!(judge(&right), [""; 0]);
        assert_eq!(judge(&right[..3]), ["bob has no 2"]);
        let wrong = [("ann", "1"), ("eve", "1"), ("bob", "3")];
        assert_eq!(
            judge(&[&right[..], &wrong].concat()),
            [
                "ann has 1 twice",
                "bob has 3, which nobody was promised",
                "eve has 1, which is for all",
            ]
        );
    }
}
