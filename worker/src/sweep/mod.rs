//! Retention: what is over ends, what has ended goes. Done by jobs at their times, at once by
//! `worker sweep`, and only counted by `worker sweep --dry-run`.
//!
//! In steps that can be repeated and that several may do at the same time: none needs to know
//! how far an earlier run came.

mod expire;
mod found;
mod keep;
mod progress;

pub use found::Found;

use std::time::Duration;

use shared::{
    domain::Timestamp,
    postgres::{KeptFrom, Postgres},
    redis::Store,
};

use crate::{
    config::{RetentionSettings, Settings},
    context::Context,
};
use progress::Progress;

/// What a sweep needs.
pub struct Sweep {
    store: Store,
    postgres: Postgres,
    retention: RetentionSettings,
    /// How long Redis remembers that a command has ended.
    remembered: Duration,
}

impl Sweep {
    /// With stores of one's own.
    pub fn new(store: Store, postgres: Postgres, settings: &Settings) -> Self {
        Self {
            store,
            postgres,
            retention: settings.retention.clone(),
            remembered: settings.redis.idempotency_ttl,
        }
    }

    /// With what a worker has.
    pub fn of(context: &Context) -> Self {
        let (store, postgres) = (context.store.clone(), context.postgres.clone());
        Self::new(store, postgres, &context.settings)
    }

    /// Every step once; what was done. Goes on with the next step where one fails, and fails then.
    pub async fn run(&self) -> anyhow::Result<Found> {
        let mut done = Found::default();
        let ended = self.expire(&mut done).await;
        let archived = self.archive(&mut done).await;
        let forgotten = self.forget(&mut done).await;
        let dropped = self.drop_days(&mut done).await;
        ended.and(archived).and(forgotten).and(dropped)?;
        Ok(done)
    }

    /// Commands archived before this are forgotten.
    fn forgotten_before(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0 - self.retention.archive.as_millis() as i64)
    }

    /// Days before these are dropped.
    fn kept_from(&self, now: Timestamp) -> KeptFrom {
        let day = |kept: Duration| {
            let kept = kept + keep::MARGIN;
            Timestamp(now.0 - kept.as_millis() as i64)
                .to_datetime()
                .date()
        };
        KeptFrom {
            record: day(self.retention.record),
            messages: self.retention.messages.map(day),
        }
    }
}
