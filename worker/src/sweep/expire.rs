//! Ends commands nobody completed in time.
//!
//! Found in Postgres, ended in Redis: `command.status` expired goes to the recipient's log, for a
//! broadcast to the log of broadcasts, and the command goes from it, unless it ended otherwise in
//! that moment. Persisting then sets the state and tells the sender of a direct command.
//!
//! The first end counts as long as Redis remembers it, and then as Postgres knows it. So where
//! Postgres is far behind, nothing expires until it has caught up.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use shared::{
    domain::{
        CommandState, CommandStatus, Digest, Durability, Kind, MessageId, Partition, Position,
        Timestamp, Topic,
    },
    postgres::{DueBroadcast, DueCommand},
    redis::{Append, Appended, IdempotencyKey, Store},
};

use super::{Found, Progress, Sweep};
use crate::metrics::{EXPIRED, Step};

const PAGE: u32 = 500;
const AT_ONCE: usize = 64;
/// Pause between two pages: expiring a day at once must not be felt by anybody.
const PACE: Duration = Duration::from_millis(50);

/// Ends that can be counted on: nobody knows of an end that Postgres may not know.
struct Safe {
    now: Timestamp,
    behind: HashSet<Partition>,
    /// What was seen of the partitions holds for a while only. The next run goes on.
    until: Instant,
}

impl Safe {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// A command that is due, of either sort.
struct Due {
    topic: Topic,
    position: Position,
    body: CommandStatus,
}

impl From<DueCommand> for Due {
    fn from(due: DueCommand) -> Self {
        Self {
            topic: Topic::User(due.recipient),
            position: due.position,
            body: CommandStatus {
                command_id: due.id,
                recipient_id: Some(due.recipient),
                status: CommandState::Expired,
                broadcast: None,
                categories: Vec::new(),
                at: None,
            },
        }
    }
}

impl From<DueBroadcast> for Due {
    fn from(due: DueBroadcast) -> Self {
        Self {
            topic: Topic::Broadcast,
            position: due.position,
            body: CommandStatus {
                command_id: due.id,
                recipient_id: None,
                status: CommandState::Expired,
                broadcast: Some(due.broadcast),
                categories: due.categories,
                at: None,
            },
        }
    }
}

impl Sweep {
    /// Ends what is due, as much as can be done before the partitions have to be looked at again.
    pub async fn expire(&self, done: &mut Found) -> anyhow::Result<()> {
        let safe = self.safe().await;
        let direct = self.expire_direct(&safe, done).await;
        let broadcasts = self.expire_broadcasts(&safe, done).await;
        direct.and(broadcasts)
    }

    /// What [`Sweep::expire`] would end now. Changes nothing.
    pub(super) async fn count_due(&self, found: &mut Found) -> anyhow::Result<()> {
        let safe = self.safe().await;
        let mut last: Option<DueCommand> = None;
        loop {
            let due = self.postgres.due_commands(safe.now, last.as_ref(), PAGE);
            let due = due.await?;
            for one in &due {
                found.is_due(one.expires_at);
                if safe.behind.contains(&self.home(Topic::User(one.recipient))) {
                    found.left_behind += 1;
                } else {
                    found.expire_direct += 1;
                }
            }
            if due.len() < PAGE as usize {
                break;
            }
            last = due.last().cloned();
        }
        let mut last: Option<DueBroadcast> = None;
        let is_behind = safe.behind.contains(&self.home(Topic::Broadcast));
        loop {
            let due = self.postgres.due_broadcasts(safe.now, last.as_ref(), PAGE);
            let due = due.await?;
            for one in &due {
                found.is_due(one.expires_at);
                if is_behind {
                    found.left_behind += 1;
                } else {
                    found.expire_broadcasts += 1;
                }
            }
            if due.len() < PAGE as usize {
                return Ok(());
            }
            last = due.last().cloned();
        }
    }

    async fn expire_direct(&self, safe: &Safe, done: &mut Found) -> anyhow::Result<()> {
        let mut progress = Progress::new(Step::ExpireDirect);
        let mut last: Option<DueCommand> = None;
        let mut ended = Ended::default();
        while !safe.is_over() {
            let due = self.postgres.due_commands(safe.now, last.as_ref(), PAGE);
            let due = due.await?;
            let is_last = due.len() < PAGE as usize;
            last = due.last().cloned().or(last);
            done.left_behind += self.end_all(due, safe, &mut ended, &mut progress).await;
            if is_last {
                break;
            }
            tokio::time::sleep(PACE).await;
        }
        done.expire_direct += progress.finish();
        ended.result()
    }

    async fn expire_broadcasts(&self, safe: &Safe, done: &mut Found) -> anyhow::Result<()> {
        let mut progress = Progress::new(Step::ExpireBroadcasts);
        let mut last: Option<DueBroadcast> = None;
        let mut ended = Ended::default();
        while !safe.is_over() {
            let due = self.postgres.due_broadcasts(safe.now, last.as_ref(), PAGE);
            let due = due.await?;
            let is_last = due.len() < PAGE as usize;
            last = due.last().cloned().or(last);
            done.left_behind += self.end_all(due, safe, &mut ended, &mut progress).await;
            if is_last {
                break;
            }
            tokio::time::sleep(PACE).await;
        }
        done.expire_broadcasts += progress.finish();
        ended.result()
    }

    /// Ends a page of commands, except where Postgres is behind; answers how many these are.
    async fn end_all(
        &self,
        due: Vec<impl Into<Due>>,
        safe: &Safe,
        ended: &mut Ended,
        progress: &mut Progress,
    ) -> u64 {
        let (left, due): (Vec<Due>, Vec<Due>) = due
            .into_iter()
            .map(Into::into)
            .partition(|due: &Due| safe.behind.contains(&self.home(due.topic)));
        let store = self.store.clone();
        let answers: Vec<_> = stream::iter(due)
            .map(move |due| end(store.clone(), due))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for answer in answers {
            match answer {
                Ok(is_new) => progress.add(u64::from(is_new)),
                Err(error) => ended.failures.push(error),
            }
        }
        left.len() as u64
    }

    fn home(&self, topic: Topic) -> Partition {
        topic.partition(self.store.partitions())
    }

    async fn safe(&self) -> Safe {
        let now = self.store.clock().now();
        let began = Instant::now();
        // Redis remembers for this long that a command has ended; Postgres has to know it by then.
        let limit = Timestamp(now.0 - self.remembered.as_millis() as i64 / 2);
        Safe {
            now,
            behind: self.behind(limit).await,
            until: began + self.remembered / 4,
        }
    }

    /// Partitions of which Postgres may not know something older than `limit`: a command that looks
    /// open there may have ended so long ago that Redis has forgotten it. Also those that cannot be
    /// asked. Looked at before the commands are.
    async fn behind(&self, limit: Timestamp) -> HashSet<Partition> {
        let all = self.store.clone();
        let looked: Vec<_> = stream::iter((0..all.partitions().0).map(Partition))
            .map(move |partition| {
                let store = all.clone();
                async move { (partition, store.persist_backlog(partition).await) }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        looked
            .into_iter()
            .filter_map(|(partition, backlog)| {
                let is_behind = match backlog {
                    Ok((0, _)) => false,
                    Ok((_, oldest)) => oldest.is_none_or(|at| at < limit),
                    Err(_) => true,
                };
                is_behind.then_some(partition)
            })
            .collect()
    }
}

/// What could not be ended.
#[derive(Default)]
struct Ended {
    failures: Vec<anyhow::Error>,
}

impl Ended {
    fn result(mut self) -> anyhow::Result<()> {
        let count = self.failures.len();
        match self.failures.pop() {
            Some(error) => Err(error.context(format!("{count} commands were not ended"))),
            None => Ok(()),
        }
    }
}

/// Answers whether it was ended by this. Otherwise it ended by itself, or by an earlier run, and
/// Postgres is about to learn it.
async fn end(store: Store, due: Due) -> anyhow::Result<bool> {
    let Due {
        topic,
        position,
        body,
    } = due;
    let command: MessageId = body.command_id;
    let appended = store
        .append_from_reserve(Append {
            remove: Some(position),
            ..Append::new(
                topic,
                Kind::CommandStatus,
                serde_json::to_vec(&body)?,
                IdempotencyKey::end_of(command, body.recipient_id),
                Digest::of(body.status.as_str().as_bytes()),
                Durability::Durable,
            )
        })
        .await?;
    let is_new = matches!(appended, Appended::New { .. });
    if is_new {
        EXPIRED.increment(1);
    }
    Ok(is_new)
}
