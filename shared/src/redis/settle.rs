//! Whether what was read of a server outlives it.
//!
//! An entry can be read before the barrier behind its append has held. What must not be undone when
//! another server takes over – a row in Postgres, a copy in somebody's log – is made only of what that
//! server has, too: else an entry that was lost, and promised to nobody, stays there, and comes again
//! under another id when its sender tries again.
//!
//! A server that nobody takes over from keeps what it holds, short of a failure of its disk, which
//! is not waited for: with `appendfsync everysec` that would be a second for every page.

use std::{
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fred::{clients::Client, interfaces::ClientLike, types::Value};
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    client::command,
    error::Failure,
    facts::Barrier,
    functions, keys,
    lane::{barrier_name, wait},
    node::keep_connected,
};
use crate::domain::Partition;

/// The barriers of a server that nobody's append waits for, on a connection of their own: it is made
/// when there is the first.
pub(super) struct Settler {
    client: Client,
    connecting: Once,
    stop: CancellationToken,
    begun: AtomicU64,
    /// Which barrier was the last that held.
    held: Mutex<u64>,
}

impl Settler {
    pub(super) fn new(client: Client, stop: CancellationToken) -> Self {
        Self {
            client,
            connecting: Once::new(),
            stop,
            begun: AtomicU64::new(0),
            held: Mutex::new(0),
        }
    }

    /// Returns when another server has what this one held at the call; refuses if that takes longer
    /// than `patience`. Who asks while a barrier is under way shares the next one.
    pub(super) async fn settle(
        &self,
        partition: Partition,
        patience: Duration,
    ) -> Result<(), Failure> {
        self.connecting
            .call_once(|| keep_connected(&self.client, &self.stop));
        let asked = self.begun.load(Ordering::SeqCst);
        let settled = timeout(patience * 2, async {
            let mut held = self.held.lock().await;
            if *held <= asked {
                let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
                Box::pin(self.barrier(partition, patience)).await?;
                *held = number;
            }
            Ok(())
        });
        settled.await.map_err(|_| unsettled())?
    }

    /// As the lane does it: the name shows that all went over one connection.
    async fn barrier(&self, partition: Partition, patience: Duration) -> Result<(), Failure> {
        let name = barrier_name();
        let call = |name, args| self.client.custom::<Value, Value>(command(name), args);
        let write = vec![
            Value::from_static_str(functions::SETTLE.name),
            1.into(),
            keys::meta(partition).into(),
            keys::tag(partition).into(),
        ];
        let (named, written, reached, found) = tokio::join!(
            biased;
            call("CLIENT", vec!["SETNAME".into(), name.as_str().into()]),
            call("FCALL", write),
            wait(&self.client, Barrier::Replica, patience),
            call("CLIENT", vec!["GETNAME".into()]),
        );
        named?;
        written?;
        let is_same = found?.as_str().as_deref() == Some(name.as_str());
        if is_same && reached? {
            Ok(())
        } else {
            Err(unsettled())
        }
    }
}

fn unsettled() -> Failure {
    Failure::refused("no other server has yet what was read")
}
