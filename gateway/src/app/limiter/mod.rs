//! How much a user may do, over all nodes together.
//!
//! Redis keeps a bucket of tokens per user and kind; nodes are lent some, so that there is no call per
//! request ([`share`]). Questions of many users go in one call ([`lane`]). While Redis is away each
//! node counts by itself, at the full rate: nobody is locked out, and who uses several nodes may
//! have as much on each.

mod lane;
pub mod metrics;
mod rate;
mod share;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use dashmap::DashMap;
use parking_lot::Mutex;
use shared::{
    domain::{Code, Refusal, Topic, UserId},
    lifecycle::Lifecycle,
    redis::{Limit, LimitOwner, LimitStep, Store, StoreError, Tokens},
};
use tokio::time::{Instant, timeout};

pub use metrics::Limited;
pub use rate::{Gcra, Rate};

use lane::{Lane, Put, Question};
use share::{Share, Step, Verdict};

/// Longest wait for Redis; then the node counts by itself.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// How often the node looks for what it can put back or forget.
const SWEEP: Duration = Duration::from_secs(1);

/// What is counted of a user, each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Everything that creates or changes something.
    Requests,
    /// Direct commands.
    Commands,
    /// Commands for many.
    Broadcasts,
}

impl Bucket {
    fn refusal(self, wait: Duration) -> Refusal {
        let message = match self {
            Self::Requests => "too many requests",
            Self::Commands => "too many commands",
            Self::Broadcasts => "too many broadcasts",
        };
        Refusal::new(Code::RateLimited, message).retry_after(wait)
    }
}

impl From<Bucket> for Limited {
    fn from(bucket: Bucket) -> Self {
        match bucket {
            Bucket::Requests => Self::Requests,
            Bucket::Commands => Self::Commands,
            Bucket::Broadcasts => Self::Broadcasts,
        }
    }
}

/// How much a user may do, over all nodes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of [`Bucket::Requests`].
    pub requests: Rate,
    /// Of [`Bucket::Commands`].
    pub commands: Rate,
    /// Of [`Bucket::Broadcasts`].
    pub broadcasts: Rate,
}

impl Limits {
    fn of(&self, bucket: Bucket) -> Rate {
        match bucket {
            Bucket::Requests => self.requests,
            Bucket::Commands => self.commands,
            Bucket::Broadcasts => self.broadcasts,
        }
    }
}

type Key = (UserId, Bucket);

/// This node's part in limiting users. Cheap to clone.
#[derive(Clone)]
pub struct Limiter {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    lifecycle: Lifecycle,
    limits: Limits,
    /// Only of users who did something within about the time in which their bucket fills.
    shares: DashMap<Key, Share>,
    lanes: Mutex<HashMap<usize, Arc<Lane>>>,
}

impl Limiter {
    /// A limiter at which nobody has asked for anything.
    pub fn start(store: Store, limits: Limits, lifecycle: &Lifecycle) -> Self {
        let inner = Arc::new(Inner {
            store,
            lifecycle: lifecycle.clone(),
            limits,
            shares: DashMap::new(),
            lanes: Mutex::default(),
        });
        let sweeping = inner.clone();
        lifecycle.spawn("sweep limits", async move { sweeping.sweep_often().await });
        Self { inner }
    }

    /// Takes one of what the user may do, or says when there is one.
    pub async fn take(&self, user: UserId, bucket: Bucket) -> Result<(), Refusal> {
        let taken = self.inner.take((user, bucket)).await;
        taken.map_err(|wait| {
            metrics::REFUSED.of(bucket.into()).increment(1);
            bucket.refusal(wait)
        })
    }
}

impl Inner {
    async fn take(self: &Arc<Self>, key: Key) -> Result<(), Duration> {
        let (now, rate) = (Instant::now(), self.limits.of(key.1));
        let step = {
            let mut share = self.shares.entry(key).or_insert_with(|| Share::new(now));
            share.take(rate, now)
        };
        let verdict = match step {
            Step::Taken { ask: None } => return Ok(()),
            Step::Taken { ask: Some(count) } => {
                self.ask(key, count, now);
                return Ok(());
            }
            Step::Refused(wait) => return Err(wait),
            Step::Wait { verdict, ask } => {
                let lane = self.lane(key.0);
                if let Some(count) = ask {
                    self.ask(key, count, now);
                }
                if lane.is_doubtful() {
                    Verdict::Alone
                } else {
                    let told = timeout(PATIENCE, verdict).await;
                    told.ok().and_then(Result::ok).unwrap_or(Verdict::Alone)
                }
            }
        };
        match verdict {
            Verdict::Taken => Ok(()),
            Verdict::Refused(wait) => Err(wait),
            Verdict::Alone => {
                metrics::ALONE.of(key.1.into()).increment(1);
                let now = Instant::now();
                let mut share = self.shares.entry(key).or_insert_with(|| Share::new(now));
                share.take_alone(rate, now)
            }
        }
    }

    fn ask(self: &Arc<Self>, key: Key, count: u32, now: Instant) {
        let question = Question {
            key,
            step: LimitStep::Take(count),
            asked: now,
        };
        if !self.put(question) {
            self.answered(&question, None);
        }
    }

    /// Sees to it that a question is put to Redis; false if it will not be.
    fn put(self: &Arc<Self>, question: Question) -> bool {
        let lane = self.lane(question.key.0);
        match lane.put(question, question.asked) {
            Put::Refused => false,
            Put::Waits => true,
            Put::NeedsTask => {
                let (limiter, task) = (self.clone(), self.lifecycle.clone());
                task.spawn("ask limits", async move {
                    while let Some(questions) = lane.next() {
                        limiter.call(&lane, questions).await;
                    }
                });
                true
            }
        }
    }

    async fn call(self: &Arc<Self>, lane: &Lane, questions: Vec<Question>) {
        let steps: Vec<_> = questions
            .iter()
            .map(|question| (self.limit(question.key), question.step))
            .collect();
        metrics::CALLS.increment(1);
        let answers = self.store.limit(&steps).await;
        // A shard serves many partitions; one that fails is reason enough to ask it less.
        lane.note(answers.iter().all(Result::is_ok), Instant::now());
        for (question, answer) in questions.iter().zip(answers) {
            self.learn(question, answer);
        }
    }

    fn learn(self: &Arc<Self>, question: &Question, answer: Result<Tokens, StoreError>) {
        let limited = Limited::from(question.key.1);
        match (question.step, answer) {
            (LimitStep::Take(_), answer) => {
                if let Err(error) = &answer {
                    tracing::debug!(%error, "limits are counted by this node alone");
                } else {
                    metrics::LEASES.of(limited).increment(1);
                }
                self.answered(question, answer.ok().as_ref());
            }
            (LimitStep::Give { .. }, Ok(tokens)) => {
                metrics::RETURNED.of(limited).increment(tokens.count.into());
            }
            // They come back by themselves, in the time they would be refilled in.
            (LimitStep::Give { .. }, Err(_)) => {}
        }
    }

    fn answered(self: &Arc<Self>, question: &Question, tokens: Option<&Tokens>) {
        let (now, rate) = (Instant::now(), self.limits.of(question.key.1));
        let ask = self
            .shares
            .get_mut(&question.key)
            .and_then(|mut share| share.answered(rate, question.asked, now, tokens));
        if let Some(count) = ask {
            self.ask(question.key, count, now);
        }
    }

    fn limit(&self, (user, bucket): Key) -> Limit {
        let rate = self.limits.of(bucket);
        Limit {
            what: Limited::from(bucket).name(),
            owner: LimitOwner::User(user),
            spacing: rate.spacing,
            burst: rate.burst,
        }
    }

    fn lane(&self, user: UserId) -> Arc<Lane> {
        let shard = self.store.shard_of(Topic::User(user));
        self.lanes.lock().entry(shard).or_default().clone()
    }

    /// The task that puts back what is not used, and forgets who is at rest.
    async fn sweep_often(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEEP) => {}
                () = self.lifecycle.stopping() => return,
            }
            self.sweep(Instant::now());
        }
    }

    fn sweep(self: &Arc<Self>, now: Instant) {
        let mut unused = Vec::new();
        self.shares.retain(|key, share| {
            if let Some((count, full_at)) = share.give(self.limits.of(key.1), now) {
                let step = LimitStep::Give { count, full_at };
                let (key, asked) = (*key, now);
                unused.push(Question { key, step, asked });
            }
            !share.is_at_rest(now)
        });
        for question in unused {
            self.put(question);
        }
    }
}
