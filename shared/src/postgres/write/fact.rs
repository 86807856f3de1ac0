//! What a persist record says, read without touching Postgres.

use serde::Deserialize;
use time::Date;

use super::said::{self, Said};
use crate::domain::{
    Broadcast, Category, CommandState, CommandStatus, CommandType, ConversationId, CopyReference,
    Entry, Kind, MessageId, Partition, Persist, PersistRecord, Position, Preferences, Receipt,
    Revocation, Timestamp, Topic, UserId,
};

/// In `user_events`, the owner of what stands in the log of broadcasts.
pub(super) const EVERYBODY: UserId = UserId(uuid::Uuid::nil());

/// No broadcast that somebody confirms or completes is older, in days. That makes days for what
/// was made up no more than for entries.
const OLDEST_DAYS: i64 = 366;
const DAY_MS: i64 = 86_400_000;

/// A record and its meaning.
#[derive(Debug)]
pub(super) struct Fact<'a> {
    pub(super) partition: Partition,
    pub(super) record: &'a PersistRecord,
    pub(super) what: What<'a>,
}

#[derive(Debug)]
pub(super) enum What<'a> {
    Command {
        entry: &'a Entry,
        body: &'a str,
        recipient: UserId,
        head: CommandHead,
    },
    Broadcast {
        entry: &'a Entry,
        body: &'a str,
        head: CommandHead,
    },
    /// Something in a conversation's log.
    Said {
        entry: &'a Entry,
        conversation: ConversationId,
        said: Said,
    },
    /// The copy of it in a participant's log.
    Copied {
        entry: &'a Entry,
        user: UserId,
        of: CopyReference,
    },
    /// Something else in a user's log, or in everybody's.
    Event {
        entry: &'a Entry,
        body: &'a str,
        user: UserId,
        means: Means,
    },
    Delivered {
        user: UserId,
        from: Position,
        to: Position,
        skipped: &'a [Position],
        at: Timestamp,
    },
    Received {
        /// Those that can be true and whose day is there.
        receipts: Vec<(MessageId, UserId)>,
        at: Timestamp,
    },
    /// When users were last seen.
    Seen(&'a [(UserId, Timestamp)]),
    Revocation {
        entry: &'a Entry,
        revocation: Revocation,
    },
    /// Nothing to write.
    Nothing,
    /// Goes to quarantine, with this reason.
    Bad(String),
}

/// What an event changes besides being told.
#[derive(Debug)]
pub(super) enum Means {
    /// Nothing, for example a worker's words to a sender.
    Nothing,
    /// A direct command ended.
    Ended(Ended),
    /// A user completed a broadcast.
    Completed(Ended),
    /// A broadcast ended for everybody.
    Over(Ended),
    /// A user chose anew.
    Chosen(Preferences),
}

/// A command ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) command: uuid::Uuid,
    pub(super) user: UserId,
    pub(super) state: CommandState,
    pub(super) at: Timestamp,
}

/// What of a command has a column of its own. Content and data are skipped over unread.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CommandHead {
    pub(super) command_type: CommandType,
    pub(super) sender_id: UserId,
    pub(super) broadcast: Broadcast,
    pub(super) recipient_id: Option<UserId>,
    pub(super) categories: Vec<Category>,
    pub(super) expires_at: Timestamp,
}

impl<'a> Fact<'a> {
    /// Which direct command it ends.
    pub(super) fn ended(&self) -> Option<Ended> {
        match &self.what {
            What::Event {
                means: Means::Ended(ended),
                ..
            } => Some(*ended),
            _ => None,
        }
    }

    /// The day whose partition its entry goes to.
    pub(super) fn day(&self) -> Option<Date> {
        match &self.what {
            What::Command { entry, .. }
            | What::Broadcast { entry, .. }
            | What::Event { entry, .. }
            | What::Copied { entry, .. }
            | What::Said {
                entry,
                said: Said::New(_),
                ..
            } => Some(day_of(entry.id.0)),
            _ => None,
        }
    }

    /// Days of the broadcasts it tells something of.
    pub(super) fn days_told_of(&self) -> Vec<Date> {
        match &self.what {
            What::Received { receipts, .. } => {
                receipts.iter().map(|(id, _)| day_of(id.0)).collect()
            }
            What::Event {
                means: Means::Completed(done),
                ..
            } => vec![day_of(done.command)],
            _ => Vec::new(),
        }
    }

    /// The day of the message it changes.
    pub(super) fn message_day_told_of(&self) -> Option<Date> {
        match &self.what {
            What::Said { said, .. } => said.day_told_of(),
            _ => None,
        }
    }

    /// Forgets what it tells of a message whose day is gone.
    pub(super) fn keep_message_days(&mut self, is_there: impl Fn(Date) -> bool) {
        if self.message_day_told_of().is_some_and(|day| !is_there(day))
            && let What::Said { said, .. } = &mut self.what
        {
            *said = Said::Nothing;
        }
    }

    /// Forgets what it tells of broadcasts whose day is gone, with everything known of them.
    pub(super) fn keep_days(&mut self, is_there: impl Fn(Date) -> bool) {
        match &mut self.what {
            What::Received { receipts, .. } => {
                receipts.retain(|(id, _)| is_there(day_of(id.0)));
            }
            What::Event { means, .. } => {
                if let Means::Completed(done) = means
                    && !is_there(day_of(done.command))
                {
                    *means = Means::Nothing;
                }
            }
            _ => {}
        }
    }

    fn new(partition: Partition, record: &'a PersistRecord, what: What<'a>) -> Self {
        Self {
            partition,
            record,
            what,
        }
    }
}

/// When the id was minted, ms.
pub(super) fn minted(id: uuid::Uuid) -> i64 {
    (id.as_u128() >> 80) as i64
}

pub(super) fn day_of(id: uuid::Uuid) -> Date {
    Timestamp(minted(id)).to_datetime().date()
}

/// Whether a broadcast with this id could be known at `at`.
fn can_be(id: uuid::Uuid, at: Timestamp) -> bool {
    let first = at.0.saturating_sub(OLDEST_DAYS * DAY_MS);
    (first..=at.0.saturating_add(DAY_MS)).contains(&minted(id))
}

/// One fact per record; a second where only a part of it can be true.
pub(super) fn read(partition: Partition, record: &PersistRecord) -> Vec<Fact<'_>> {
    let what = match &record.what {
        Persist::Entry(entry) => meaning(entry).unwrap_or_else(What::Bad),
        Persist::Delivered {
            user,
            from,
            to,
            skipped,
            at,
        } => What::Delivered {
            user: *user,
            from: *from,
            to: *to,
            skipped,
            at: *at,
        },
        Persist::Received { receipts, at } => {
            let (receipts, made_up) = sort_out(receipts, *at);
            let mut facts = vec![Fact::new(
                partition,
                record,
                What::Received { receipts, at: *at },
            )];
            if made_up > 0 {
                let reason = format!("{made_up} receipts name commands that cannot be");
                facts.push(Fact::new(partition, record, What::Bad(reason)));
            }
            return facts;
        }
        Persist::Seen { users, .. } => What::Seen(users),
        Persist::Unreadable { reason, .. } => What::Bad(reason.clone()),
    };
    vec![Fact::new(partition, record, what)]
}

/// Receipts one by one, and how many are left out because their ids were never given.
fn sort_out(receipts: &[Receipt], at: Timestamp) -> (Vec<(MessageId, UserId)>, usize) {
    let (mut good, mut made_up) = (Vec::new(), 0);
    for receipt in receipts {
        for command in &receipt.commands {
            if can_be(command.0, at) {
                good.push((*command, receipt.user));
            } else {
                made_up += 1;
            }
        }
    }
    (good, made_up)
}

fn meaning(entry: &Entry) -> Result<What<'_>, String> {
    let body = std::str::from_utf8(&entry.body).map_err(|_| "body is not utf-8".to_owned())?;
    let event = |user, means| What::Event {
        entry,
        body,
        user,
        means,
    };
    match (entry.topic, entry.kind) {
        (Topic::User(recipient), Kind::CommandNew) => {
            let head: CommandHead = parse(body)?;
            if head.recipient_id != Some(recipient) {
                return Err("command stands in the log of somebody else".to_owned());
            }
            if head.broadcast != Broadcast::User {
                return Err("a broadcast stands in a user's log".to_owned());
            }
            Ok(What::Command {
                entry,
                body,
                recipient,
                head,
            })
        }
        (Topic::Broadcast, Kind::CommandNew) => {
            let head: CommandHead = parse(body)?;
            if head.broadcast == Broadcast::User || head.recipient_id.is_some() {
                return Err("a direct command stands in the log of broadcasts".to_owned());
            }
            Ok(What::Broadcast { entry, body, head })
        }
        (Topic::User(user), Kind::CommandStatus) => {
            Ok(event(user, change(entry, user, &parse(body)?)?))
        }
        (Topic::Broadcast, Kind::CommandStatus) => {
            let status: CommandStatus = parse(body)?;
            if status.recipient_id.is_some()
                || !matches!(
                    status.status,
                    CommandState::Expired | CommandState::Cancelled
                )
            {
                return Err("one user's state stands in the log of broadcasts".to_owned());
            }
            Ok(event(
                EVERYBODY,
                Means::Over(end(entry, EVERYBODY, &status)),
            ))
        }
        (Topic::Conversation(conversation), _) => said::read(entry, conversation, body),
        (Topic::User(user), Kind::MessageNew | Kind::MessageEdited | Kind::MessageDeleted) => {
            said::read_copy(entry, user, body)
        }
        (Topic::User(user), Kind::Preferences) => Ok(event(user, Means::Chosen(parse(body)?))),
        (Topic::User(user), Kind::Notification) => Ok(event(user, Means::Nothing)),
        // Administrators' data is written where it is changed.
        (Topic::Directory, Kind::DirectoryChange) => Ok(What::Nothing),
        (Topic::Revocations, Kind::Revocation) => Ok(What::Revocation {
            entry,
            revocation: parse(body)?,
        }),
        (topic, kind) => Err(format!("{kind} does not belong into {topic}")),
    }
}

/// What a user's own log says about a command.
fn change(entry: &Entry, user: UserId, status: &CommandStatus) -> Result<Means, String> {
    // A worker's own words in the sender's log carry `at`; they change nothing.
    let authority =
        status.recipient_id == Some(user) && status.at.is_none() && status.status.is_final();
    if !authority {
        return Ok(Means::Nothing);
    }
    let ended = end(entry, user, status);
    match status.broadcast {
        None | Some(Broadcast::User) => Ok(Means::Ended(ended)),
        Some(_) if status.status != CommandState::Completed => Ok(Means::Nothing),
        Some(_) if can_be(ended.command, entry.at) => Ok(Means::Completed(ended)),
        Some(_) => Err("completes a command that cannot be".to_owned()),
    }
}

fn end(entry: &Entry, user: UserId, status: &CommandStatus) -> Ended {
    Ended {
        command: status.command_id.0,
        user,
        state: status.status,
        at: entry.at,
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a str) -> Result<T, String> {
    // serde_json's messages name fields and places, and can quote a value of a wrong type.
    serde_json::from_str(body).map_err(|error| {
        format!(
            "body is not understood at line {} column {}",
            error.line(),
            error.column()
        )
    })
}

/// The words of an array as Postgres writes one. UNNEST would flatten an array of arrays, so
/// each goes as text and is cast there.
pub(super) fn array_literal<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut literal = String::from("{");
    for word in words {
        if literal.len() > 1 {
            literal.push(',');
        }
        literal.push('"');
        for letter in word.chars() {
            if matches!(letter, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(letter);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_quotes_commas_and_backslashes_survive_an_array_literal() {
        let words = ["a,b", "say \"hi\"", "back\\slash", ""];
        assert_eq!(
            array_literal(words),
            r#"{"a,b","say \"hi\"","back\\slash",""}"#
        );
        assert_eq!(array_literal([]), "{}");
    }
}
