//! The door to Redis: connecting, keeping the topology, and the calls that need no file of their
//! own. The rest of [`Store`]'s methods stand beside what they are about.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fred::types::Value;
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    append::{Append, Appended},
    bells::Ears,
    client::Connector,
    error::{Failure, StoreError},
    functions::Function,
    keys,
    lane::{Routes, Waiting},
    mint::Mint,
    node::{Node, NodeContext},
    reply,
    settings::StoreSettings,
    stored::StoredMarks,
    task,
    topology::{self, Topology},
};
use crate::{
    clock::Clock,
    domain::{Durability, Partition, PartitionCount, Timestamp, Topic},
};

/// How often the topology is looked up when nothing is wrong, and when something is.
const LOOK_SELDOM: Duration = Duration::from_secs(5);
const LOOK_OFTEN: Duration = Duration::from_secs(1);
/// How often Redis is asked for the time.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);
/// How often at the start.
const FIRST_LOOKS: Duration = Duration::from_millis(200);
/// For how long after a sign of trouble the topology is looked up often.
const SUSPICION: Duration = Duration::from_secs(15);
/// How long `Durability::Stored` waits for the workers.
const STORED_PATIENCE: Duration = Duration::from_secs(5);

/// A handle to the deployment's Redis. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) settings: StoreSettings,
    pub(super) routes: Routes,
    /// Counts changes of who serves what.
    pub(super) changed: watch::Sender<u64>,
    pub(super) look_again: Arc<Notify>,
    pub(super) context: Arc<NodeContext>,
    pub(super) stored: StoredMarks,
    /// The open subscriber, if there is one.
    pub(super) ears: Mutex<std::sync::Weak<Ears>>,
    _stop_when_dropped: DropGuard,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Lets go of the nodes; their tasks end with them.
        *self.routes.write() = None;
    }
}

impl Store {
    /// Connects, loads the server functions, checks the partition count and the servers' version.
    /// Waits, with a log line, until Redis answers; only what waiting cannot heal is an error.
    pub async fn connect(settings: StoreSettings) -> Result<Self, StoreError> {
        if settings.partitions.0 == 0 {
            return Err(StoreError::Misconfigured(
                "the number of partitions must not be 0".into(),
            ));
        }
        let connector = Connector::new(&settings.url, settings.command_timeout)?;
        let slots = topology::partition_slots(settings.partitions);
        let routes: Routes = Arc::new(RwLock::new(None));
        let look_again = Arc::new(Notify::new());
        let context = Arc::new(NodeContext {
            connector,
            max_in_flight: settings.max_in_flight,
            idempotency_ttl: settings.idempotency_ttl,
            memory_limit: settings.memory_limit,
            look_again: look_again.clone(),
            lanes: routes.clone(),
            mint: Mint::new(settings.clock.clone()),
        });
        let found = first_topology(&settings, &context, &slots).await?;
        *routes.write() = Some(Arc::new(found));
        let stop = CancellationToken::new();
        let store = Self {
            inner: Arc::new(Inner {
                settings,
                routes,
                changed: watch::Sender::new(0),
                look_again,
                context,
                stored: StoredMarks::default(),
                ears: Mutex::new(std::sync::Weak::new()),
                _stop_when_dropped: stop.clone().drop_guard(),
            }),
        };
        let watched = Arc::downgrade(&store.inner);
        task::spawn(
            stop.clone(),
            watch_topology(watched.clone(), slots, store.inner.look_again.clone()),
        );
        store.prepare().await?;
        task::spawn(stop, keep_clock(watched));
        Ok(store)
    }

    /// What has to be known before the first call; tries until Redis answers.
    async fn prepare(&self) -> Result<(), StoreError> {
        loop {
            let prepared = match self.claim_partitions().await {
                Ok(()) => self.set_clock().await,
                failed => failed,
            };
            match prepared {
                Err(StoreError::Misconfigured(why)) => return Err(StoreError::Misconfigured(why)),
                Err(error) => tracing::warn!(%error, "waiting for redis"),
                Ok(()) => return Ok(()),
            }
            tokio::time::sleep(FIRST_LOOKS).await;
        }
    }

    /// The number of partitions is fixed by whoever comes first.
    async fn claim_partitions(&self) -> Result<(), StoreError> {
        let wanted = self.inner.settings.partitions.0;
        let node = self.topology()?.owner_of_key(keys::DEPLOYMENT)?.clone();
        let args = || vec![Value::from(keys::DEPLOYMENT), "partitions".into()];
        // Looks first: a write would be refused by a server that is out of memory.
        let mut found = node.command("HGET", args()).await?;
        if found.is_null() {
            let mut claim = args();
            claim.push(i64::from(wanted).into());
            node.command("HSETNX", claim).await?;
            found = node.command("HGET", args()).await?;
        }
        let found: u16 = reply::parse(&found)?;
        if found != wanted {
            return Err(StoreError::Misconfigured(
                format!(
                    "this deployment was made with {found} partitions, the settings say {wanted}"
                )
                .into(),
            ));
        }
        Ok(())
    }

    /// Through the publish lane of the topic's shard: calls are joined, one barrier follows, then
    /// all are answered. An unknown outcome is looked into until twice `command_timeout`; then it
    /// is [`StoreError::Unknown`]. `Durability::Stored` waits for the workers' commit (5 s, then
    /// Unknown). Above the memory limit nothing is taken.
    pub async fn append(&self, entry: Append) -> Result<Appended, StoreError> {
        if self.owner(entry.topic)?.is_full() {
            return Err(StoreError::OutOfMemory);
        }
        self.publish(entry, false).await
    }

    /// [`Store::append`], also into the memory that is kept free, when there is none left, and where
    /// Redis makes nothing durable: for what ends commands and withdraws tokens, and for workers,
    /// without whose entries nothing could be committed, trimmed and freed.
    pub async fn append_from_reserve(&self, entry: Append) -> Result<Appended, StoreError> {
        self.publish(entry, true).await
    }

    async fn publish(&self, entry: Append, reserve: bool) -> Result<Appended, StoreError> {
        let partition = self.partition_of(entry.topic);
        let topology = self.topology()?;
        let node = topology.owner(partition)?;
        let stored = entry.durability == Durability::Stored;
        let limit = self.inner.settings.command_timeout;
        let mint = &self.inner.context.mint;
        if matches!(entry.topic, Topic::Conversation(_)) != entry.author.is_some() {
            return Err(StoreError::unexpected(
                "a conversation's entries have an author, others have none",
            ));
        }
        let key = entry.key.clone();
        let id = entry.id.unwrap_or_else(|| mint.id_for(&key));
        let (waiting, answer) = Waiting::new(entry, partition, id, reserve, limit);
        node.queue
            .try_send(waiting)
            .map_err(|_| StoreError::Unavailable("too many appends are waiting".into()))?;
        // The lane keeps the deadline; the margin is for a lane that is held up itself.
        let outcome = match timeout(limit * 2 + Duration::from_millis(250), answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(StoreError::Unknown(
                "no answer from the publish lane".into(),
            )),
        };
        if let Err(StoreError::Unknown(_)) = &outcome {
            mint.remember(key, id, self.inner.settings.idempotency_ttl);
        }
        let outcome = outcome?;
        if stored && let Some(persist_id) = &outcome.persist_id {
            let deadline = Instant::now() + STORED_PATIENCE;
            Box::pin(self.wait_stored(partition, persist_id, deadline)).await?;
        }
        Ok(outcome.appended)
    }

    /// Number of shards now.
    pub fn shards(&self) -> usize {
        self.topology().map_or(0, |topology| topology.nodes.len())
    }

    /// The shard that serves a topic now; 0 while none does.
    pub fn shard_of(&self, topic: Topic) -> usize {
        let partition = self.partition_of(topic);
        self.topology()
            .ok()
            .and_then(|topology| topology.shard_of(partition))
            .unwrap_or(0)
    }

    /// The number of partitions of the deployment.
    pub fn partitions(&self) -> PartitionCount {
        self.inner.settings.partitions
    }

    /// For how long a second try is recognised.
    pub fn idempotency_ttl(&self) -> Duration {
        self.inner.settings.idempotency_ttl
    }

    /// Sorts topics, each with its place in the list, into groups that one call may touch: on a
    /// cluster those of one partition, otherwise all.
    pub(super) fn groups(
        &self,
        topics: impl IntoIterator<Item = Topic>,
    ) -> Result<Vec<Vec<(Partition, usize)>>, StoreError> {
        let is_cluster = self.topology()?.is_cluster();
        let mut order: Vec<(Partition, usize)> = topics
            .into_iter()
            .enumerate()
            .map(|(index, topic)| (self.partition_of(topic), index))
            .collect();
        if is_cluster {
            order.sort_unstable();
        }
        let groups = order.chunk_by(|one, other| !is_cluster || one.0 == other.0);
        Ok(groups.map(<[_]>::to_vec).collect())
    }

    /// Puts partitions into groups that one call may touch: on a cluster each by itself, otherwise all.
    pub(super) fn groups_of(
        &self,
        partitions: &[Partition],
    ) -> Result<Vec<Vec<Partition>>, StoreError> {
        let is_cluster = self.topology()?.is_cluster();
        let groups = partitions.chunk_by(|_, _| !is_cluster);
        Ok(groups.map(<[_]>::to_vec).collect())
    }

    /// Redis' clock as it was learnt last, for whoever cannot wait.
    pub fn clock(&self) -> &Clock {
        &self.inner.settings.clock
    }

    /// Asks Redis what time it is.
    pub async fn time(&self) -> Result<Timestamp, StoreError> {
        let node = self.topology()?.owner_of_key(keys::DEPLOYMENT)?.clone();
        let parts = reply::list(node.command("TIME", Vec::new()).await?)?;
        let [seconds, micros] = parts.as_slice() else {
            return Err(StoreError::unexpected("TIME answered something else"));
        };
        let (seconds, micros): (i64, i64) = (reply::parse(seconds)?, reply::parse(micros)?);
        Ok(Timestamp(seconds * 1000 + micros / 1000))
    }

    async fn set_clock(&self) -> Result<(), StoreError> {
        let asked = Instant::now();
        let theirs = self.time().await?;
        self.clock().set(theirs, asked + asked.elapsed() / 2);
        Ok(())
    }

    /// Weaknesses of the servers' configuration, for the log at start: `name: sentence`.
    pub async fn audit(&self) -> Result<Vec<String>, StoreError> {
        let topology = self.topology()?;
        let mut found = Vec::new();
        for node in &topology.nodes {
            node.look(true).await?;
            found.extend(node.facts().weaknesses());
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    pub(super) fn topology(&self) -> Result<Arc<Topology>, Failure> {
        self.inner.topology()
    }

    pub(super) fn partition_of(&self, topic: Topic) -> Partition {
        topic.partition(self.inner.settings.partitions)
    }

    pub(super) fn owner(&self, topic: Topic) -> Result<Arc<Node>, Failure> {
        Ok(self.topology()?.owner(self.partition_of(topic))?.clone())
    }

    /// A function that touches one partition.
    pub(super) async fn call(
        &self,
        partition: Partition,
        function: Function,
        args: Vec<Value>,
    ) -> Result<Value, StoreError> {
        let key = keys::meta(partition);
        self.elsewhere_again(
            |topology| topology.owner(partition).cloned(),
            |node| {
                let (key, args) = (key.clone(), args.clone());
                async move { node.call(function, &[&key], args).await }
            },
        )
        .await
    }

    /// The same for what is to outlive the server it was read of: an answer that `holds`
    /// something comes once another server would have it.
    pub(super) async fn call_settled(
        &self,
        partition: Partition,
        function: Function,
        args: Vec<Value>,
        holds: fn(&Value) -> bool,
    ) -> Result<Value, StoreError> {
        let key = keys::meta(partition);
        self.elsewhere_again(
            |topology| topology.owner(partition).cloned(),
            |node| {
                let (key, args) = (key.clone(), args.clone());
                async move {
                    let answer = node.call(function, &[&key], args).await?;
                    if holds(&answer) {
                        node.settle(partition).await?;
                    }
                    Ok(answer)
                }
            },
        )
        .await
    }

    /// A command or function for one key outside the partitions.
    pub(super) async fn call_key(
        &self,
        key: &str,
        function: Function,
        args: Vec<Value>,
    ) -> Result<Value, StoreError> {
        self.elsewhere_again(
            |topology| topology.owner_of_key(key).cloned(),
            |node| {
                let args = args.clone();
                async move { node.call(function, &[key], args).await }
            },
        )
        .await
    }

    /// A plain command whose first argument is its key.
    pub(super) async fn command(
        &self,
        name: &'static str,
        key: &str,
        more: Vec<Value>,
    ) -> Result<Value, StoreError> {
        self.elsewhere_again(
            |topology| topology.owner_of_key(key).cloned(),
            |node| {
                let mut args = vec![Value::from(key)];
                args.extend(more.iter().cloned());
                async move { node.command(name, args).await }
            },
        )
        .await
    }

    /// Calls, and where the node answers that another one serves the key, looks the topology up
    /// and calls there, for as long as a call may take. Nothing was executed in that case.
    async fn elsewhere_again<F: Future<Output = Result<Value, Failure>>>(
        &self,
        owner: impl Fn(&Topology) -> Result<Arc<Node>, Failure>,
        call: impl Fn(Arc<Node>) -> F,
    ) -> Result<Value, StoreError> {
        let deadline = Instant::now() + self.inner.settings.command_timeout;
        let mut changed = self.inner.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let node = self.topology().and_then(|topology| owner(&topology))?;
            match call(node).await {
                Err(failure) if failure.trouble == super::error::Trouble::Elsewhere => {
                    self.inner.look_again.notify_one();
                    let pause = (Instant::now() + Duration::from_millis(100)).min(deadline);
                    let _ = timeout_at(pause, changed.changed()).await;
                    if Instant::now() >= deadline {
                        return Err(failure.into());
                    }
                }
                answer => return Ok(answer?),
            }
        }
    }
}

impl Inner {
    pub(super) fn topology(&self) -> Result<Arc<Topology>, Failure> {
        self.routes
            .read()
            .clone()
            .ok_or_else(|| Failure::refused("closed"))
    }
}

/// Waits until every node answers, has the functions and is new enough.
async fn first_topology(
    settings: &StoreSettings,
    context: &Arc<NodeContext>,
    slots: &Arc<[u16]>,
) -> Result<Topology, StoreError> {
    let mut known: Vec<Arc<Node>> = Vec::new();
    let mut last_line: Option<Instant> = None;
    loop {
        let problem = match topology::discover(context, slots, &known).await {
            Ok(found) => match ready(&found).await {
                Ok(()) => return Ok(found),
                Err(StoreError::Misconfigured(why)) => return Err(StoreError::Misconfigured(why)),
                Err(error) => {
                    known = found.nodes;
                    error.to_string()
                }
            },
            Err(failure) => failure.text.to_string(),
        };
        if last_line.is_none_or(|at| at.elapsed() > Duration::from_secs(3)) {
            tracing::warn!(url = settings.masked_url(), problem, "waiting for redis");
            last_line = Some(Instant::now());
        }
        tokio::time::sleep(FIRST_LOOKS).await;
    }
}

async fn ready(topology: &Topology) -> Result<(), StoreError> {
    for node in &topology.nodes {
        node.look(true).await?;
        let facts = node.facts();
        if facts.version < (7, 0) {
            let (major, minor) = facts.version;
            return Err(StoreError::Misconfigured(
                format!(
                    "redis {major}.{minor} at {} is too old: 7.0 is needed",
                    node.address
                )
                .into(),
            ));
        }
        if facts.is_cluster && !topology.is_cluster() {
            return Err(StoreError::Misconfigured(
                format!(
                    "{} is a cluster: use redis-cluster:// in the url",
                    node.address
                )
                .into(),
            ));
        }
        if !facts.is_master {
            return Err(StoreError::Unavailable(
                format!("{} is a replica", node.address).into(),
            ));
        }
        super::functions::load(&node.calls).await?;
    }
    Ok(())
}

/// Looks the topology up, more often for a while after a sign of trouble.
async fn watch_topology(store: std::sync::Weak<Inner>, slots: Arc<[u16]>, look_again: Arc<Notify>) {
    let mut suspicious_until: Option<Instant> = None;
    loop {
        let suspicious = suspicious_until.is_some_and(|until| Instant::now() < until);
        let pause = if suspicious { LOOK_OFTEN } else { LOOK_SELDOM };
        if timeout(pause, look_again.notified()).await.is_ok() {
            suspicious_until = Some(Instant::now() + SUSPICION);
            // Many calls may fail at once: one look is enough for all of them.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let Some(inner) = store.upgrade() else { return };
        let Ok(current) = inner.topology() else {
            return;
        };
        match topology::discover(&inner.context, &slots, &current.nodes).await {
            Ok(found) if found.serves_like(&current) => {}
            Ok(found) => {
                let masters: Vec<String> = found
                    .nodes
                    .iter()
                    .map(|node| node.address.to_string())
                    .collect();
                tracing::info!(?masters, "the topology of redis changed");
                *inner.routes.write() = Some(Arc::new(found));
                inner.changed.send_modify(|count| *count += 1);
            }
            Err(failure) => {
                tracing::debug!(error = %failure.text, "could not look up the topology of redis");
                suspicious_until = Some(Instant::now() + SUSPICION);
            }
        }
    }
}

/// Keeps the clock right until the store is dropped.
async fn keep_clock(store: std::sync::Weak<Inner>) {
    loop {
        tokio::time::sleep(CLOCK_INTERVAL).await;
        let Some(inner) = store.upgrade() else { return };
        // Until the next look the clock runs on by itself.
        let _ = Store { inner }.set_clock().await;
    }
}

/// As functions take what is so or not.
pub(super) fn flag(is_so: bool) -> &'static str {
    if is_so { "1" } else { "" }
}

/// Arguments from texts.
pub(super) fn texts<const N: usize>(args: [&str; N]) -> Vec<Value> {
    args.into_iter()
        .map(|arg| Value::Bytes(Bytes::copy_from_slice(arg.as_bytes())))
        .collect()
}

/// What the bells hand over.
pub(super) type EventSender = mpsc::Sender<Vec<super::bells::BellEvent>>;
