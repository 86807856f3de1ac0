//! The clock of Redis, as far as a node can know it. What tokens and deadlines say is computed and
//! judged with it, so that pods whose clocks differ do not disagree.

use std::time::Duration;

use shared::{clock::Clock, lifecycle::Lifecycle, redis::Store};

const INTERVAL: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);

/// Waits until `clock` shows Redis' time; a task then keeps it so.
pub async fn follow(clock: &Clock, store: &Store, lifecycle: &Lifecycle) {
    while store.set_clock(clock).await.is_err() {
        tokio::time::sleep(RETRY).await;
    }
    let (clock, store, life) = (clock.clone(), store.clone(), lifecycle.clone());
    lifecycle.spawn("follow redis' clock", async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = life.stopping() => return,
            }
            // Until the next look the clock runs on by itself.
            let _ = store.set_clock(&clock).await;
        }
    });
}
