//! Notices when the runtime no longer turns.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::lifecycle::Lifecycle;

const TICK: Duration = Duration::from_millis(500);
/// Older ticks mean that nothing runs: four were missed.
const MAX_AGE: Duration = Duration::from_secs(2);

/// As many ticking tasks as the runtime has worker threads. Tasks move between threads, so one
/// blocked thread is not seen (the others do its work); when all are blocked, no tick is young.
/// Whoever asks has to run on another thread, as the ops listener does. Cheap to clone.
#[derive(Clone)]
pub struct Watchdog {
    began: Instant,
    /// Milliseconds since `began`.
    ticks: Arc<[AtomicU64]>,
}

impl Watchdog {
    /// Starts ticking on the current runtime.
    pub fn start(lifecycle: &Lifecycle, workers: usize) -> Self {
        let ticks = (0..workers.max(1)).map(|_| AtomicU64::new(0)).collect();
        let watchdog = Self {
            began: Instant::now(),
            ticks,
        };
        for n in 0..watchdog.ticks.len() {
            let watchdog = watchdog.clone();
            lifecycle.spawn_background(async move {
                loop {
                    watchdog.ticks[n].store(watchdog.now(), Ordering::Relaxed);
                    tokio::time::sleep(TICK).await;
                }
            });
        }
        watchdog
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// True if every tick is young.
    pub fn is_live(&self) -> bool {
        let oldest = self.now().saturating_sub(MAX_AGE.as_millis() as u64);
        self.ticks
            .iter()
            .all(|tick| tick.load(Ordering::Relaxed) >= oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_runtime_is_not_live() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let watchdog = runtime.block_on(async { Watchdog::start(&Lifecycle::new(), 1) });
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let wait_until = |live: bool| {
            let deadline = Instant::now() + Duration::from_secs(10);
            while watchdog.is_live() != live {
                assert!(Instant::now() < deadline, "live should have become {live}");
                std::thread::yield_now();
            }
        };
        wait_until(true);
        runtime.spawn(async move { blocked.recv() });
        wait_until(false);
        drop(release);
        wait_until(true);
    }
}
