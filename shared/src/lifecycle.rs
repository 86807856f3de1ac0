//! How a process stops, and the only place that spawns tasks.
//!
//! There are three stages. *Draining*: the process gives its work away, and everything still runs;
//! begun by SIGTERM, Ctrl-C or the end of a task nothing works without. *Stopping*: tasks finish
//! what is under way and end; begun by whoever drains, when that is done. *Aborting*: everything is
//! dropped; begun by a second signal or when the deadline for stopping has passed. Every task is counted
//! under its name, so that a stop that hangs says what it hangs on.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// A handle to the process's life. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lifecycle {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    draining: CancellationToken,
    stopping: CancellationToken,
    aborting: CancellationToken,
    running: Mutex<BTreeMap<&'static str, usize>>,
    ended: Notify,
    broken: AtomicBool,
}

/// Counts a task for as long as it lives, however it ends.
struct Counted {
    inner: Arc<Inner>,
    name: &'static str,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut running = self.inner.running.lock();
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
        let idle = running.is_empty();
        drop(running);
        if idle {
            self.inner.ended.notify_waiters();
        }
    }
}

impl Lifecycle {
    /// The life of a process that just began.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task that the end of the process waits for. It ends by itself, soon after
    /// [`Lifecycle::stopping`]; if it does not, it is dropped with the runtime.
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let counted = self.count(name);
        tokio::spawn(async move {
            let output = task.await;
            drop(counted);
            output
        })
    }

    /// Runs a task that nothing works without: when it ends or panics before the process was told
    /// to stop, the process drains and stops.
    pub fn spawn_essential<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        /// Also runs when the task panics.
        struct Guard(Lifecycle, &'static str);
        impl Drop for Guard {
            fn drop(&mut self) {
                if !self.0.is_draining() {
                    tracing::error!(task = self.1, "an essential task ended, draining");
                    self.0.inner.broken.store(true, Ordering::Relaxed);
                    self.0.drain();
                }
            }
        }
        let guard = Guard(self.clone(), name);
        self.spawn(name, async move {
            let _guard = guard;
            task.await;
        })
    }

    /// Runs a task that nobody waits for: it runs until the very end, also while the process drains.
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn_background<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(task)
    }

    fn count(&self, name: &'static str) -> Counted {
        *self.inner.running.lock().entry(name).or_default() += 1;
        Counted {
            inner: self.inner.clone(),
            name,
        }
    }

    /// Begins to drain.
    pub fn drain(&self) {
        self.inner.draining.cancel();
    }

    /// Begins to stop.
    pub fn stop(&self) {
        self.drain();
        self.inner.stopping.cancel();
    }

    /// Begins to abort.
    pub fn abort(&self) {
        self.stop();
        self.inner.aborting.cancel();
    }

    /// True from the beginning of the drain on.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.is_cancelled()
    }

    /// True from the beginning of the stop on.
    pub fn is_stopping(&self) -> bool {
        self.inner.stopping.is_cancelled()
    }

    /// True if the end of an essential task began the drain: the process should say that it failed.
    pub fn is_broken(&self) -> bool {
        self.inner.broken.load(Ordering::Relaxed)
    }

    /// Waits for the drain to begin.
    pub fn draining(&self) -> WaitForCancellationFuture<'_> {
        self.inner.draining.cancelled()
    }

    /// Waits for the stop to begin.
    pub fn stopping(&self) -> WaitForCancellationFuture<'_> {
        self.inner.stopping.cancelled()
    }

    /// Waits for the end by force.
    pub fn aborting(&self) -> WaitForCancellationFuture<'_> {
        self.inner.aborting.cancelled()
    }

    /// Cancelled when the drain begins: for what wants to keep a token of it.
    pub fn drain_token(&self) -> CancellationToken {
        self.inner.draining.clone()
    }

    /// Tasks that run now, by name.
    pub fn running(&self) -> BTreeMap<&'static str, usize> {
        self.inner.running.lock().clone()
    }

    /// Waits until every task has ended.
    async fn idle(&self) {
        loop {
            let ended = self.inner.ended.notified();
            tokio::pin!(ended);
            // Registered before looking, or an end in between would be missed.
            ended.as_mut().enable();
            if self.inner.running.lock().is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// Waits until the process stops, then for all tasks, at most for `grace` or until it aborts.
    /// True if every task ended by itself; else the caller drops the runtime with what is left.
    pub async fn finish(&self, grace: Duration) -> bool {
        self.stopping().await;
        let by_itself = tokio::select! {
            () = self.idle() => true,
            () = self.aborting() => false,
            () = tokio::time::sleep(grace) => false,
        };
        if !by_itself {
            tracing::warn!(running = self.describe(), "stopping hard");
            self.abort();
        }
        by_itself
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for (name, count) in self.running() {
            let comma = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{comma}{count} {name}");
        }
        text
    }

    /// Follows SIGTERM and SIGINT: the first begins the drain, the second aborts.
    #[allow(
        clippy::disallowed_methods,
        reason = "lives as long as the process, nobody waits for it"
    )]
    pub fn follow_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let lifecycle = self.clone();
        self.spawn_background(async move {
            for step in [Self::drain, Self::abort] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                tracing::info!(signal = name, "told to stop");
                step(&lifecycle);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn finishing_waits_for_every_task() {
        let life = Lifecycle::new();
        let task = life.spawn("worker", {
            let life = life.clone();
            async move {
                life.stopping().await;
                tokio::time::sleep(Duration::from_secs(3)).await;
                "done"
            }
        });
        assert_eq!(life.running(), BTreeMap::from([("worker", 1)]));
        life.stop();
        let began = Instant::now();
        assert!(life.finish(Duration::from_secs(10)).await);
        assert_eq!(began.elapsed().as_secs(), 3);
        assert_eq!(task.await.unwrap(), "done");
        assert!(life.running().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_named_at_the_deadline() {
        let life = Lifecycle::new();
        life.spawn("stuck", std::future::pending::<()>());
        life.stop();
        let began = Instant::now();
        assert!(!life.finish(Duration::from_secs(10)).await);
        assert_eq!(began.elapsed().as_secs(), 10);
        assert_eq!(life.describe(), "1 stuck");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hard_stop_does_not_wait_for_the_deadline() {
        let life = Lifecycle::new();
        life.spawn("stuck", std::future::pending::<()>());
        life.abort();
        let began = Instant::now();
        assert!(!life.finish(Duration::from_secs(10)).await);
        assert_eq!(began.elapsed().as_secs(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_essential_task_drains_the_process() {
        let life = Lifecycle::new();
        life.spawn_essential("heart", async {});
        life.draining().await;
        assert!(life.is_broken());
        life.stop();
        assert!(life.finish(Duration::from_secs(1)).await);

        let life = Lifecycle::new();
        life.spawn_essential("heart", async { panic!("a defect") });
        life.draining().await;
        life.stop();
        assert!(life.finish(Duration::from_secs(1)).await);
    }
}
