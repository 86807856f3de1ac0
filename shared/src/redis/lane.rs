//! The publish lane of a node: everything that waits goes as one call, one barrier follows, then
//! all are answered. While a batch is in flight the next one gathers, so the busier it gets the
//! less an append costs; nothing ever waits for company.
//!
//! An append whose outcome is unknown is tried again under its idempotency key until its deadline.
//! It counts as accepted only after a barrier that followed a write of its own.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fred::{clients::Client, interfaces::ClientLike, types::Value};
use futures_util::future::join_all;
use parking_lot::RwLock;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    append::{Append, Appended, Outcome, STRIDE, push_args, read_outcome},
    client::command,
    error::{Failure, StoreError, Trouble},
    facts::Barrier,
    functions, keys,
    node::{Node, NodeContext},
    reply,
    topology::Topology,
};
use crate::domain::{Durability, MessageId, Partition};

/// Most appends that wait for a lane; above it they are refused at once.
pub(super) const QUEUE: usize = 4096;
/// Most appends in one call, so that no call holds up Redis for long.
const CALL: usize = 64;
/// Most appends before one barrier: where an fsync is slow, this decides how many it carries.
const BATCH: usize = 4 * CALL;
/// Pause before an append is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Where lanes look up who serves a partition now. `None` once the store is closed.
pub(super) type Routes = Arc<RwLock<Option<Arc<Topology>>>>;

/// An append on its way.
pub(super) struct Waiting {
    pub(super) append: Append,
    pub(super) partition: Partition,
    /// The same for every try.
    id: MessageId,
    /// Has to be told: may use the memory that is kept free, and is not refused where nothing
    /// is durable.
    reserve: bool,
    pub(super) answer: oneshot::Sender<Result<Outcome, StoreError>>,
    /// Until when it may wait to be sent for the first time.
    pub(super) patience: Instant,
    /// Until when an unknown outcome is looked into.
    pub(super) deadline: Instant,
    /// Set when it may have been executed.
    unknown: bool,
    /// What the first try answered, if only the barrier failed.
    first: Option<Outcome>,
    again_at: Instant,
}

impl Waiting {
    /// An append to put in a lane's queue.
    pub(super) fn new(
        append: Append,
        partition: Partition,
        id: MessageId,
        reserve: bool,
        timeout: Duration,
    ) -> (Self, oneshot::Receiver<Result<Outcome, StoreError>>) {
        let (answer, receiver) = oneshot::channel();
        let now = Instant::now();
        let waiting = Self {
            append,
            partition,
            id,
            reserve,
            answer,
            patience: now + timeout,
            deadline: now + timeout * 2,
            unknown: false,
            first: None,
            again_at: now,
        };
        (waiting, receiver)
    }

    fn is_durable(&self) -> bool {
        self.append.durability > Durability::Memory
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= if self.unknown {
            self.deadline
        } else {
            self.patience
        }
    }

    fn fail(self, failure: Failure) {
        let error = if self.unknown {
            StoreError::Unknown(failure.text)
        } else {
            StoreError::from(failure)
        };
        let _ = self.answer.send(Err(error));
    }

    fn succeed(self, outcome: Outcome) {
        let outcome = match (&outcome.appended, self.first) {
            // The first try is the one that counts, if Redis still has it.
            (Appended::Duplicate { id, .. }, Some(first)) if matches!(&first.appended, Appended::New { id: same, .. } if same == id) => {
                first
            }
            _ => outcome,
        };
        let _ = self.answer.send(Ok(outcome));
    }
}

/// Serves the lane until the node is dropped.
pub(super) async fn run(
    node: Weak<Node>,
    mut queue: mpsc::Receiver<Waiting>,
    context: Arc<NodeContext>,
) {
    let mut again: Vec<Waiting> = Vec::new();
    let mut fresh = Vec::with_capacity(BATCH);
    loop {
        let next = again.iter().map(|waiting| waiting.again_at).min();
        tokio::select! {
            biased;
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                while fresh.len() < BATCH {
                    let Ok(waiting) = queue.try_recv() else { break };
                    fresh.push(waiting);
                }
            }
            count = queue.recv_many(&mut fresh, BATCH) => {
                if count == 0 {
                    return;
                }
            }
        }
        let Some(node) = node.upgrade() else { return };
        let now = Instant::now();
        let (due, later) = again
            .into_iter()
            .partition(|waiting: &Waiting| waiting.again_at <= now);
        again = later;
        let mut batch: Vec<Waiting> = due;
        batch.append(&mut fresh);
        let topology = context.lanes.read().clone();
        let batch = batch
            .into_iter()
            .filter_map(|waiting| here(waiting, &node, topology.as_deref(), now, &mut again))
            .collect();
        let by_partition = topology.is_some_and(|topology| topology.is_cluster());
        Box::pin(send(&node, by_partition, batch, &mut again)).await;
    }
}

/// Keeps what can be sent now; answers what is over, passes on what belongs to another lane.
fn here(
    mut waiting: Waiting,
    node: &Arc<Node>,
    topology: Option<&Topology>,
    now: Instant,
    again: &mut Vec<Waiting>,
) -> Option<Waiting> {
    if waiting.answer.is_closed() {
        return None;
    }
    if waiting.is_over(now) {
        waiting.fail(Failure::refused("redis did not take it in time"));
        return None;
    }
    let owner = topology.and_then(|topology| topology.owner(waiting.partition).ok());
    if let Some(owner) = owner.filter(|owner| owner.serial != node.serial) {
        if let Err(
            mpsc::error::TrySendError::Full(waiting) | mpsc::error::TrySendError::Closed(waiting),
        ) = owner.queue.try_send(waiting)
        {
            waiting.fail(Failure::refused("too many appends are waiting"));
        }
        return None;
    }
    if !node.is_usable() {
        waiting.again_at = now + RETRY_PAUSE;
        again.push(waiting);
        return None;
    }
    Some(waiting)
}

async fn send(
    node: &Arc<Node>,
    by_partition: bool,
    mut batch: Vec<Waiting>,
    again: &mut Vec<Waiting>,
) {
    let mut barrier = node.barrier();
    if barrier == Barrier::Impossible {
        for waiting in batch.extract_if(.., |waiting| waiting.is_durable() && !waiting.reserve) {
            waiting.fail(Failure::refused(
                "redis is not set up to keep what it takes",
            ));
        }
    }
    // What comes from the reserve is kept as well as the server can.
    if barrier == Barrier::Impossible || !batch.iter().any(Waiting::is_durable) {
        barrier = Barrier::None;
    }
    if batch.is_empty() {
        return;
    }
    let groups = split(batch, by_partition);
    let calls: Vec<_> = groups
        .iter()
        .map(|group| arguments(group, node))
        .map(|args| node.lane.custom::<Value, Value>(command("FCALL"), args))
        .collect();

    if barrier == Barrier::None {
        let answers = join_all(calls).await;
        for (group, answer) in groups.into_iter().zip(answers) {
            settle(
                node,
                group,
                answer.map_err(Failure::from),
                again,
                |waiting, outcome| {
                    waiting.succeed(outcome);
                },
            )
            .await;
        }
        return;
    }

    // All of this is written at once. The connection is given a name before and asked for it
    // after: on a new connection, perhaps to another server, the barrier would hold at once. (The
    // connection's id would not do. Each server counts from one.)
    let name = barrier_name();
    let client = |args| node.lane.custom::<Value, Value>(command("CLIENT"), args);
    let set_name = client(vec!["SETNAME".into(), name.as_str().into()]);
    let get_name = client(vec!["GETNAME".into()]);
    let mut writes = std::pin::pin!(async { tokio::join!(biased; set_name, join_all(calls)).1 });
    let patience = node.timeout / 2;
    let mut rest = std::pin::pin!(async {
        tokio::join!(biased; wait(&node.lane, barrier, patience), get_name)
    });
    let mut early = None;
    let answers = tokio::select! {
        biased;
        done = &mut writes => done,
        done = &mut rest => {
            early = Some(done);
            writes.await
        }
    };
    let mut held = Vec::new();
    for (group, answer) in groups.into_iter().zip(answers) {
        settle(
            node,
            group,
            answer.map_err(Failure::from),
            again,
            |waiting, outcome| {
                let needs_barrier = outcome.persist_id.is_some();
                if needs_barrier && waiting.is_durable() {
                    held.push((waiting, outcome));
                } else {
                    waiting.succeed(outcome);
                }
            },
        )
        .await;
    }
    let (waited, found) = match early {
        Some(done) => done,
        None => rest.await,
    };
    let same = found.is_ok_and(|found| found.as_str().as_deref() == Some(name.as_str()));
    let durable = same && waited.as_ref().is_ok_and(|enough| *enough);
    if let Err(failure) = &waited {
        node.note(Some(failure));
    }
    for (mut waiting, outcome) in held {
        if durable {
            waiting.succeed(outcome);
        } else {
            waiting.unknown = true;
            waiting.first.get_or_insert(outcome);
            put_back(waiting, again);
        }
    }
}

/// A name for a connection that no other batch or barrier gives, of this process or another.
pub(super) fn barrier_name() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(rand::random);
    static BATCHES: AtomicU64 = AtomicU64::new(0);
    let batch = BATCHES.fetch_add(1, Ordering::Relaxed);
    format!("tidegate-lane-{:016x}-{batch}", *PROCESS)
}

/// Waits until what was written on this connection is durable; false if it is not in time.
pub(super) async fn wait(
    client: &Client,
    barrier: Barrier,
    patience: Duration,
) -> Result<bool, Failure> {
    let patience = patience.as_millis() as i64;
    let answer = match barrier {
        Barrier::None | Barrier::Impossible => return Ok(true),
        Barrier::Replica => {
            client
                .custom::<Value, Value>(command("WAIT"), vec![1.into(), patience.into()])
                .await?
        }
        Barrier::File => {
            client
                .custom::<Value, Value>(
                    command("WAITAOF"),
                    vec![1.into(), 0.into(), patience.into()],
                )
                .await?
        }
    };
    let reached = match answer {
        Value::Array(counts) => counts.first().and_then(Value::as_u64),
        count => count.as_u64(),
    };
    Ok(reached.is_some_and(|count| count >= 1))
}

/// Deals with the answer to one call: hands each outcome to `done`, and decides about failures.
async fn settle(
    node: &Arc<Node>,
    group: Vec<Waiting>,
    answer: Result<Value, Failure>,
    again: &mut Vec<Waiting>,
    mut done: impl FnMut(Waiting, Outcome),
) {
    node.note(answer.as_ref().err());
    let answers = answer.and_then(|answer| {
        let answers = reply::list(answer).map_err(|error| Failure::of_reply(&error.to_string()))?;
        if answers.len() == group.len() {
            Ok(answers)
        } else {
            Err(Failure {
                trouble: Trouble::Defect,
                text: "append answered for another number of entries".into(),
            })
        }
    });
    match answers {
        Ok(answers) => {
            for (waiting, answer) in group.into_iter().zip(answers) {
                match read_outcome(&answer) {
                    Ok(outcome) => done(waiting, outcome),
                    Err(failure) => {
                        node.note(Some(&failure));
                        after_failure(waiting, failure, again);
                    }
                }
            }
        }
        Err(failure) => {
            if failure.trouble == Trouble::NoFunction
                && let Err(failure) = functions::load(&node.lane).await
            {
                tracing::warn!(node = %node.address, error = %failure.text, "could not load the functions");
            }
            for waiting in group {
                after_failure(waiting, failure.clone(), again);
            }
        }
    }
}

fn after_failure(mut waiting: Waiting, failure: Failure, again: &mut Vec<Waiting>) {
    match failure.trouble {
        Trouble::Lost => waiting.unknown = true,
        Trouble::Elsewhere | Trouble::NoFunction => {}
        Trouble::Refused | Trouble::OutOfMemory if waiting.unknown => {}
        _ => return waiting.fail(failure),
    }
    put_back(waiting, again);
}

fn put_back(mut waiting: Waiting, again: &mut Vec<Waiting>) {
    waiting.again_at = Instant::now() + RETRY_PAUSE;
    again.push(waiting);
}

/// Makes calls of a batch. On a cluster each may only touch one slot. Order within a partition
/// stays.
fn split(batch: Vec<Waiting>, by_partition: bool) -> Vec<Vec<Waiting>> {
    let mut open: HashMap<Option<Partition>, usize> = HashMap::new();
    let mut groups: Vec<Vec<Waiting>> = Vec::new();
    for waiting in batch {
        let place = by_partition.then_some(waiting.partition);
        let index = match open.get(&place) {
            Some(index) if groups[*index].len() < CALL => *index,
            _ => {
                groups.push(Vec::new());
                open.insert(place, groups.len() - 1);
                groups.len() - 1
            }
        };
        groups[index].push(waiting);
    }
    groups
}

fn arguments(group: &[Waiting], node: &Node) -> Vec<Value> {
    // One partition stands for all: keys route the call, and without a cluster there is nothing
    // to route.
    let mut args = Vec::with_capacity(5 + group.len() * STRIDE);
    // Who shares a call with an append from the reserve was let in below the limit.
    let function = if group.iter().any(|waiting| waiting.reserve) {
        functions::APPEND_RESERVE
    } else {
        functions::APPEND
    };
    args.push(Value::from_static_str(function.name));
    args.push(1.into());
    args.push(
        group
            .first()
            .map(|waiting| keys::meta(waiting.partition))
            .unwrap_or_default()
            .into(),
    );
    args.push((node.idempotency_ttl.as_millis() as i64).into());
    args.push(Value::from_static_str(if node.behind_sentinel {
        "1"
    } else {
        ""
    }));
    for waiting in group {
        push_args(&mut args, waiting.partition, &waiting.append, waiting.id);
    }
    args
}
