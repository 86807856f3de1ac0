//! The clock of Redis, as far as a node can know it. Deadlines that are stored are computed
//! with it, so that pods whose clocks differ do not disagree.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use shared::{clock::Clock, domain::Timestamp, lifecycle::Lifecycle, redis::Store};
use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);

/// This host's clock, corrected by how far Redis' is from it.
#[derive(Debug, Clone)]
pub struct StoreClock {
    host: Clock,
    ahead_ms: Arc<AtomicI64>,
}

impl StoreClock {
    /// Not corrected until Redis was asked.
    pub fn new(host: Clock) -> Self {
        Self {
            host,
            ahead_ms: Arc::default(),
        }
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.host.now().0 + self.ahead_ms.load(Ordering::Relaxed))
    }

    /// The task that asks Redis from time to time.
    pub async fn follow(self, store: Store, lifecycle: Lifecycle) {
        loop {
            let (asked, host) = (Instant::now(), self.host.now());
            let pause = match store.time().await {
                Ok(theirs) => {
                    let half_way = (asked.elapsed().as_millis() / 2) as i64;
                    self.ahead_ms
                        .store(theirs.0 - host.0 - half_way, Ordering::Relaxed);
                    INTERVAL
                }
                Err(_) => RETRY,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = lifecycle.stopping() => return,
            }
        }
    }
}
