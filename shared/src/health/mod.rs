//! Health that tells the truth: each part says how it is, and three pages tell it on.
//!
//! `/live`: the process's loops turn. `/ready`: it may be given new work; if not, why. `/health`:
//! every check with its latency and since when it is so.
//!
//! A check that fails makes the process unready, one that is degraded does not. Who runs a check
//! decides which it is, see [`redis::Judge`].

pub mod postgres;
pub mod redis;
mod routes;
mod watchdog;

use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;
use serde::Serialize;
use tokio::time::Instant;

pub use routes::router;
pub use watchdog::Watchdog;

use crate::{clock::Clock, domain::Timestamp};

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Not as it should be, but new work is still taken.
    Degraded,
    /// Not reached for the first time yet: no new work.
    Starting,
    /// No new work.
    Failed,
}

/// One check, as `/health` tells it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// What was checked.
    pub name: &'static str,
    /// How it is.
    pub status: Status,
    /// Why, unless it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long the last check took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// Since when the status is what it is.
    pub since: Timestamp,
}

/// All checks, as `/health` tells them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The worst of them.
    pub status: Status,
    /// In the order in which they were registered.
    pub checks: Vec<CheckReport>,
}

impl Report {
    /// True if new work may come.
    pub fn is_ready(&self) -> bool {
        self.status <= Status::Degraded
    }
}

/// The process's health. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    watchdog: Option<Watchdog>,
    checks: RwLock<Vec<Entry>>,
}

struct Entry {
    name: &'static str,
    /// Older results are not believed.
    max_age: Option<Duration>,
    /// Asked instead of waiting for results.
    condition: Option<Box<dyn Fn() -> Result<(), String> + Send + Sync>>,
    last: Last,
}

struct Last {
    status: Status,
    reason: Option<String>,
    latency: Option<Duration>,
    since: Timestamp,
    checked: Instant,
}

/// Where whoever runs a check tells what it found.
#[derive(Clone)]
pub struct Check {
    inner: Arc<Inner>,
    index: usize,
}

impl Health {
    /// Without any checks: ready. Without a watchdog: live.
    pub fn new(clock: Clock, watchdog: Option<Watchdog>) -> Self {
        Self {
            inner: Arc::new(Inner {
                clock,
                watchdog,
                checks: RwLock::default(),
            }),
        }
    }

    fn add(
        &self,
        name: &'static str,
        max_age: Option<Duration>,
        status: Status,
        condition: Option<Box<dyn Fn() -> Result<(), String> + Send + Sync>>,
    ) -> Check {
        let mut checks = self.inner.checks.write();
        let reason = (status == Status::Starting).then(|| "not reached yet".to_owned());
        let last = Last {
            status,
            reason,
            latency: None,
            since: self.inner.clock.now(),
            checked: Instant::now(),
        };
        checks.push(Entry {
            name,
            max_age,
            condition,
            last,
        });
        Check {
            inner: self.inner.clone(),
            index: checks.len() - 1,
        }
    }

    /// Registers a check that is run over and over. Until its first result the process is not
    /// ready; a result older than `max_age` counts as degraded, for then the check itself hangs.
    pub fn check(&self, name: &'static str, max_age: Duration) -> Check {
        self.add(name, Some(max_age), Status::Starting, None)
    }

    /// Registers a condition that is looked at whenever somebody asks; it must be quick. The
    /// error says why the process is not ready.
    pub fn condition(
        &self,
        name: &'static str,
        holds: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.add(name, None, Status::Ok, Some(Box::new(holds)));
    }

    /// True if the process's loops turn.
    pub fn is_live(&self) -> bool {
        self.inner.watchdog.as_ref().is_none_or(Watchdog::is_live)
    }

    /// How everything is now.
    pub fn report(&self) -> Report {
        let mut entries = self.inner.checks.write();
        let now = self.inner.clock.now();
        for entry in entries.iter_mut() {
            if let Some(condition) = &entry.condition {
                let (status, reason) = match condition() {
                    Ok(()) => (Status::Ok, None),
                    Err(reason) => (Status::Failed, Some(reason)),
                };
                entry.last.update(status, reason, None, now);
            }
        }
        let checks: Vec<_> = entries.iter().map(Entry::report).collect();
        let status = checks
            .iter()
            .map(|check| check.status)
            .max()
            .unwrap_or(Status::Ok);
        Report { status, checks }
    }
}

impl Last {
    /// Takes a result; says whether it is news.
    fn update(
        &mut self,
        status: Status,
        reason: Option<String>,
        latency: Option<Duration>,
        now: Timestamp,
    ) -> bool {
        if self.status != status {
            self.since = now;
        }
        let news = self.status != status || self.reason != reason;
        (self.status, self.reason, self.latency, self.checked) =
            (status, reason, latency, Instant::now());
        news
    }
}

impl Entry {
    fn report(&self) -> CheckReport {
        let last = &self.last;
        let mut report = CheckReport {
            name: self.name,
            status: last.status,
            reason: last.reason.clone(),
            latency_ms: last
                .latency
                .map(|latency| latency.as_micros() as f64 / 1000.0),
            since: last.since,
        };
        let age = last.checked.elapsed();
        if last.status == Status::Ok && self.max_age.is_some_and(|most| age > most) {
            report.status = Status::Degraded;
            report.reason = Some(format!("not checked for {} s", age.as_secs()));
        }
        report
    }
}

impl Check {
    /// It is well, and took this long to find out.
    pub fn ok(&self, latency: Duration) {
        self.set(Status::Ok, None, Some(latency));
    }

    /// Not well, but new work may come.
    pub fn degraded(&self, reason: impl Into<String>) {
        self.set(Status::Degraded, Some(reason.into()), None);
    }

    /// No new work.
    pub fn failed(&self, reason: impl Into<String>) {
        self.set(Status::Failed, Some(reason.into()), None);
    }

    /// Not reached yet, for this reason: no new work.
    pub fn starting(&self, reason: impl Into<String>) {
        self.set(Status::Starting, Some(reason.into()), None);
    }

    /// How it was last.
    pub fn status(&self) -> Status {
        self.inner.checks.read()[self.index].last.status
    }

    fn set(&self, status: Status, reason: Option<String>, latency: Option<Duration>) {
        let now = self.inner.clock.now();
        let mut entries = self.inner.checks.write();
        let entry = &mut entries[self.index];
        let (name, shown) = (entry.name, reason.clone());
        let is_news = entry.last.update(status, reason, latency, now);
        drop(entries);
        match status {
            _ if !is_news => {}
            Status::Ok => tracing::info!(check = name, "healthy"),
            Status::Starting => tracing::info!(check = name, reason = shown, "not reached yet"),
            Status::Degraded | Status::Failed => {
                tracing::warn!(check = name, ?status, reason = shown, "unhealthy");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> (Health, Clock) {
        let clock = Clock::manual(Timestamp(1_000_000));
        (Health::new(clock.clone(), None), clock)
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_is_ready_once_every_check_was_well() {
        let (health, _) = health();
        let (redis, postgres) = (
            health.check("redis", Duration::from_secs(30)),
            health.check("postgres", Duration::from_secs(30)),
        );
        assert_eq!(health.report().status, Status::Starting);
        redis.ok(Duration::from_millis(2));
        assert!(!health.report().is_ready());
        postgres.ok(Duration::from_millis(3));
        assert_eq!(health.report().status, Status::Ok);
        postgres.degraded("away");
        assert!(health.report().is_ready());
        redis.failed("deaf");
        assert!(!health.report().is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn since_is_when_the_status_changed() {
        let (health, clock) = health();
        let check = health.check("redis", Duration::from_secs(30));
        clock.advance(Duration::from_secs(5));
        check.degraded("slow");
        clock.advance(Duration::from_secs(5));
        check.degraded("still slow");
        let report = &health.report().checks[0];
        assert_eq!(report.since, Timestamp(1_005_000));
        assert_eq!(report.reason.as_deref(), Some("still slow"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_is_not_believed() {
        let (health, _) = health();
        health
            .check("redis", Duration::from_secs(30))
            .ok(Duration::ZERO);
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(health.report().status, Status::Degraded);
    }

    #[tokio::test]
    async fn a_condition_is_looked_at_when_asked() {
        let (health, _) = health();
        let draining = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = draining.clone();
        health.condition("drain", move || {
            if seen.load(std::sync::atomic::Ordering::Relaxed) {
                Err("draining".into())
            } else {
                Ok(())
            }
        });
        assert!(health.report().is_ready());
        draining.store(true, std::sync::atomic::Ordering::Relaxed);
        let report = health.report();
        assert!(!report.is_ready());
        assert_eq!(report.checks[0].reason.as_deref(), Some("draining"));
    }
}
