//! One Redis node: its connections, how many calls may be in flight, and whether it is any good.
//!
//! A call that is not answered in time is *unknown*, not failed: Redis may still execute it. So
//! nothing is retried in here.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use fred::{
    clients::Client,
    interfaces::{ClientLike, EventInterface},
    types::Value,
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    client::{Address, Connector, Deployment, command},
    error::{Failure, Trouble},
    facts::{Barrier, Facts},
    functions::{self, Function},
    lane::{self, Waiting},
    mint::Mint,
    settle::Settler,
    task,
};
use crate::domain::Partition;

/// How long a call waits for a connection that is being made.
const CONNECT_PATIENCE: Duration = Duration::from_millis(500);
/// Calls without an answer, one after the other, before the node counts as hung.
const HUNG_AFTER: u32 = 3;
/// How often a node is asked how it is.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// What the nodes share.
pub(super) struct NodeContext {
    pub(super) connector: Connector,
    pub(super) max_in_flight: usize,
    pub(super) idempotency_ttl: Duration,
    pub(super) memory_limit: f64,
    /// Rung when a node answers that it does not serve a key.
    pub(super) look_again: Arc<Notify>,
    pub(super) lanes: lane::Routes,
    pub(super) mint: Mint,
}

/// A Redis node with its connections.
pub(super) struct Node {
    pub(super) address: Address,
    /// Distinguishes a node from another one that later has its address.
    pub(super) serial: u32,
    pub(super) calls: Client,
    /// The publish lane's own connection: a barrier holds up what is behind it.
    pub(super) lane: Client,
    settler: Settler,
    pub(super) queue: mpsc::Sender<Waiting>,
    /// Longest wait for one call.
    pub(super) timeout: Duration,
    /// How long an idempotency key lives.
    pub(super) idempotency_ttl: Duration,
    permits: Semaphore,
    unanswered: AtomicU32,
    hung: AtomicBool,
    /// Set once the server was asked about itself.
    known: AtomicBool,
    facts: Mutex<Facts>,
    memory_limit: f64,
    pub(super) behind_sentinel: bool,
    look_again: Arc<Notify>,
    _stop_when_dropped: DropGuard,
}

impl Node {
    /// Begins to connect; the node is usable when a call succeeds.
    pub(super) fn start(
        address: Address,
        context: &Arc<NodeContext>,
    ) -> Result<Arc<Self>, Failure> {
        static SERIAL: AtomicU32 = AtomicU32::new(1);
        let stop = CancellationToken::new();
        let (queue, waiting) = mpsc::channel(lane::QUEUE);
        let node = Arc::new(Self {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            calls: context.connector.client(&address)?,
            lane: context.connector.client(&address)?,
            settler: Settler::new(context.connector.client(&address)?, stop.clone()),
            address,
            queue,
            timeout: context.connector.command_timeout,
            idempotency_ttl: context.idempotency_ttl,
            permits: Semaphore::new(context.max_in_flight),
            unanswered: AtomicU32::new(0),
            hung: AtomicBool::new(false),
            known: AtomicBool::new(false),
            facts: Mutex::new(Facts::default()),
            memory_limit: context.memory_limit,
            behind_sentinel: matches!(context.connector.deployment, Deployment::Sentinel { .. }),
            look_again: context.look_again.clone(),
            _stop_when_dropped: stop.clone().drop_guard(),
        });
        keep_connected(&node.calls, &stop);
        keep_connected(&node.lane, &stop);
        task::spawn(stop.clone(), load_functions(node.calls.clone()));
        task::spawn(stop.clone(), watch_health(Arc::downgrade(&node)));
        task::spawn(
            stop,
            lane::run(Arc::downgrade(&node), waiting, context.clone()),
        );
        Ok(node)
    }

    /// A command of Redis.
    pub(super) async fn command(
        &self,
        name: &'static str,
        args: Vec<Value>,
    ) -> Result<Value, Failure> {
        self.admit().await?;
        let _permit = timeout(CONNECT_PATIENCE, self.permits.acquire())
            .await
            .map_err(|_| Failure::refused("too many calls in flight"))?
            .map_err(|_| Failure::refused("closed"))?;
        // What fred keeps of a call takes 7 KiB: boxed, it is there only while the call is under way,
        // and in none of the futures that ask for something.
        let answer = Box::pin(self.calls.custom::<Value, _>(command(name), args))
            .await
            .map_err(Failure::from);
        self.note(answer.as_ref().err());
        answer
    }

    /// A server function. Loads the library and asks again if Redis does not know it.
    pub(super) async fn call(
        &self,
        function: Function,
        keys: &[&str],
        args: Vec<Value>,
    ) -> Result<Value, Failure> {
        let name = if function.read_only {
            "FCALL_RO"
        } else {
            "FCALL"
        };
        let mut all = Vec::with_capacity(args.len() + keys.len() + 2);
        all.push(Value::from_static_str(function.name));
        all.push((keys.len() as i64).into());
        all.extend(keys.iter().map(|key| Value::from(*key)));
        all.extend(args);
        match self.command(name, all.clone()).await {
            Err(failure) if failure.trouble == Trouble::NoFunction => {
                Box::pin(functions::load(&self.calls)).await?;
                self.command(name, all).await
            }
            answer => answer,
        }
    }

    /// Fails at once while the node is known to be hung, and soon while it is not connected.
    async fn admit(&self) -> Result<(), Failure> {
        if self.hung.load(Ordering::Relaxed) {
            return Err(Failure::refused("redis does not answer"));
        }
        if self.calls.is_connected() {
            return Ok(());
        }
        let deadline = Instant::now() + CONNECT_PATIENCE;
        while Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if self.calls.is_connected() {
                return Ok(());
            }
        }
        self.look_again.notify_one();
        Err(Failure::refused("not connected"))
    }

    /// Learns from the outcome of a call.
    pub(super) fn note(&self, failure: Option<&Failure>) {
        match failure.map(|failure| failure.trouble) {
            Some(Trouble::Lost) => {
                if self.unanswered.fetch_add(1, Ordering::Relaxed) + 1 >= HUNG_AFTER {
                    self.hung.store(true, Ordering::Relaxed);
                }
                self.look_again.notify_one();
            }
            Some(Trouble::Elsewhere) => self.look_again.notify_one(),
            _ => self.unanswered.store(0, Ordering::Relaxed),
        }
    }

    /// True if publishing to the node makes sense now. Before it was asked about itself nobody
    /// knows what makes a write durable there.
    pub(super) fn is_usable(&self) -> bool {
        self.known.load(Ordering::Relaxed)
            && !self.hung.load(Ordering::Relaxed)
            && self.lane.is_connected()
    }

    /// What is known about the server.
    pub(super) fn facts(&self) -> Facts {
        self.facts.lock().clone()
    }

    /// What makes a write survive a failure here.
    pub(super) fn barrier(&self) -> Barrier {
        self.facts.lock().barrier(self.behind_sentinel)
    }

    /// Returns when what was read of this server before outlives it, see [`Settler`].
    pub(super) async fn settle(&self, partition: Partition) -> Result<(), Failure> {
        if self.barrier() != Barrier::Replica {
            return Ok(());
        }
        self.settler.settle(partition, self.timeout / 2).await
    }

    /// True if memory is used beyond the share that durable entries may fill.
    pub(super) fn is_full(&self) -> bool {
        self.facts.lock().is_beyond(self.memory_limit)
    }

    /// Asks the server about itself.
    pub(super) async fn look(&self, all: bool) -> Result<(), Failure> {
        let mut facts = self.facts();
        facts.learn(&self.calls, all).await?;
        *self.facts.lock() = facts;
        if all {
            self.known.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

pub(super) fn keep_connected(client: &Client, stop: &CancellationToken) {
    let (client, stop) = (client.clone(), stop.clone());
    drop(client.connect());
    task::at_stop(stop, async move {
        let _ = timeout(Duration::from_secs(1), client.quit()).await;
    });
}

/// Loads the functions whenever the connection is made anew.
async fn load_functions(client: Client) {
    let mut connected = client.reconnect_rx();
    loop {
        if client.is_connected()
            && let Err(failure) = functions::load(&client).await
        {
            tracing::debug!(error = %failure.text, "could not load the functions yet");
        }
        if let Err(tokio::sync::broadcast::error::RecvError::Closed) = connected.recv().await {
            return;
        }
    }
}

/// Notices what no call would tell in time: a hung server, full memory, a new replica.
async fn watch_health(node: Weak<Node>) {
    let mut round = 0_u32;
    let mut failures = 0_u32;
    loop {
        let Some(node) = node.upgrade() else { return };
        // Configuration can change at any time, but seldom does.
        if node.calls.is_connected() {
            match node.look(round.is_multiple_of(10)).await {
                Ok(()) => {
                    node.unanswered.store(0, Ordering::Relaxed);
                    node.hung.store(false, Ordering::Relaxed);
                    failures = 0;
                    round = round.wrapping_add(1);
                }
                Err(failure) if failure.trouble == Trouble::Lost => {
                    failures += 1;
                    node.note(Some(&failure));
                    if failures >= HUNG_AFTER {
                        node.hung.store(true, Ordering::Relaxed);
                        tracing::warn!(node = %node.address, "redis does not answer, connecting anew");
                        let _ =
                            timeout(Duration::from_secs(1), node.calls.force_reconnection()).await;
                        let _ =
                            timeout(Duration::from_secs(1), node.lane.force_reconnection()).await;
                        failures = 0;
                    }
                }
                Err(failure) => {
                    tracing::debug!(node = %node.address, error = %failure.text, "health");
                }
            }
        }
        let pause = if !node.known.load(Ordering::Relaxed) {
            CONNECT_PATIENCE / 10
        } else if node.hung.load(Ordering::Relaxed) {
            HEALTH_INTERVAL / 4
        } else {
            HEALTH_INTERVAL
        };
        drop(node);
        tokio::time::sleep(pause).await;
    }
}
