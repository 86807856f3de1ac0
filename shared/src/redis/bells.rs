//! The subscriber: one connection per node that does nothing else, and its own bookkeeping of
//! what is subscribed where. fred hides when Redis takes a subscription away, and its own
//! resubscription loses some; so here every connect, every change of topology and every overflow
//! subscribes anew and counts as a gap.

use std::{
    collections::{HashMap, HashSet, hash_map},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fred::{
    clients::Client,
    interfaces::{ClientLike, EventInterface, HeartbeatInterface, PubsubInterface},
    types::{Message, Value},
};
use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{
        Notify,
        broadcast::{
            self,
            error::{RecvError, TryRecvError},
        },
        mpsc, oneshot, watch,
    },
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    error::{Failure, StoreError, Trouble},
    keys::{self, Channel},
    node::Node,
    store::{EventSender, Inner, Store},
    task,
};
use crate::domain::{
    CallEvent, Entry, Partition, Position, Presence, SessionId, Signal, Timestamp, Topic, UserId,
};

/// Batches of events that wait for the receiver.
const BATCHES: usize = 64;
/// Most events in a batch.
const BATCH: usize = 1024;
/// Channels that are subscribed side by side after a reconnect.
const RESUBSCRIBE_AT_ONCE: usize = 1000;
/// A subscription that is not confirmed in this time is tried again.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(2);

/// What the subscriber hears.
#[derive(Debug, Clone)]
pub enum BellEvent {
    /// A live entry.
    Entry(Entry),
    /// This session has to close with 4409.
    Displaced {
        /// The user's topic.
        topic: Topic,
        /// The session.
        session: SessionId,
    },
    /// Something happens in a conversation, and is in no log.
    Signal {
        /// The conversation's topic.
        topic: Topic,
        /// What happens.
        signal: Signal,
    },
    /// A user appears otherwise to others.
    Presence(Presence),
    /// Something happens in a call of the topic's user, and is in no log.
    Call {
        /// The user's topic.
        topic: Topic,
        /// What happens, and which of the user's sockets are told.
        event: CallEvent,
    },
    /// Workers have committed the partition's persist stream up to this id.
    Stored {
        /// Which partition.
        partition: Partition,
        /// Up to where.
        persist_id: String,
    },
    /// Bells of this shard's topics may have been missed: re-read every one of them.
    Gap {
        /// As [`Store::shard_of`] answers now.
        shard: usize,
    },
}

/// The subscriber's command side.
#[derive(Clone)]
pub struct Bells {
    pub(super) ears: Arc<Ears>,
}

impl Bells {
    /// Returns once Redis has confirmed the subscription. Many calls at once are cheap. From then
    /// on the topic stays subscribed over reconnects and topology changes, each told as
    /// [`BellEvent::Gap`]. After an error it is not subscribed.
    pub async fn subscribe(&self, topic: Topic) -> Result<(), StoreError> {
        let partition = topic.partition(self.ears.store.settings.partitions);
        self.ears.subscribe(Channel::Topic(partition, topic)).await
    }

    /// Stops hearing a topic.
    pub async fn unsubscribe(&self, topic: Topic) -> Result<(), StoreError> {
        let partition = topic.partition(self.ears.store.settings.partitions);
        self.ears
            .unsubscribe(Channel::Topic(partition, topic))
            .await;
        Ok(())
    }

    /// Rings for commits of this partition (for `Durability::Stored`).
    pub async fn subscribe_stored(&self, partition: Partition) -> Result<(), StoreError> {
        self.ears.subscribe(Channel::Stored(partition)).await
    }
}

/// All of the subscriber.
pub(super) struct Ears {
    /// Distinguishes this process' probes.
    pub(super) name: String,
    store: Arc<Inner>,
    /// One per node, by the node's serial number.
    by_node: RwLock<HashMap<u32, Arc<Ear>>>,
    wanted: Mutex<HashMap<Channel, Subscription>>,
    probes: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    next_probe: AtomicU64,
    repair: Arc<Notify>,
    _stop_when_dropped: DropGuard,
}

/// How far a channel has come that is to be heard. Small, as there is one for each topic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subscription {
    /// A caller of `subscribe` is busy with it; nobody relies on it yet.
    Pending,
    /// On this connection.
    Confirmed(Connection),
}

const _: () = assert!(size_of::<(Channel, Subscription)>() <= 36);

/// Takes a pending subscription back when its caller gives up or goes away.
struct Pending<'a> {
    ears: &'a Ears,
    channel: Channel,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut wanted = self.ears.wanted.lock();
        if wanted.get(&self.channel) == Some(&Subscription::Pending) {
            wanted.remove(&self.channel);
        }
    }
}

/// A node's subscriber connection: the node, and how often it was made anew.
type Connection = (u32, u32);

/// The subscriber connection to one node.
struct Ear {
    serial: u32,
    client: Client,
    connects: AtomicU32,
    _stop_when_dropped: DropGuard,
}

impl Ear {
    fn connection(&self) -> Connection {
        (self.serial, self.connects.load(Ordering::SeqCst))
    }
}

impl Store {
    /// Opens the subscriber: one per process. Events of every shard arrive at the receiver, in
    /// order per shard. It ends when the [`Bells`] are dropped.
    pub async fn subscriber(&self) -> Result<(Bells, mpsc::Receiver<Vec<BellEvent>>), StoreError> {
        let (events, receiver) = mpsc::channel(BATCHES);
        let stop = CancellationToken::new();
        let ears = Arc::new(Ears {
            name: uuid::Uuid::now_v7().simple().to_string(),
            store: self.inner.clone(),
            by_node: RwLock::new(HashMap::new()),
            wanted: Mutex::new(HashMap::new()),
            probes: Mutex::new(HashMap::new()),
            next_probe: AtomicU64::new(1),
            repair: Arc::new(Notify::new()),
            _stop_when_dropped: stop.clone().drop_guard(),
        });
        ears.follow_topology(&events)?;
        *self.inner.ears.lock() = Arc::downgrade(&ears);
        task::spawn(
            stop,
            keep(
                Arc::downgrade(&ears),
                events,
                self.inner.changed.subscribe(),
            ),
        );
        // A node that is away now is connected to when it comes back.
        let clients: Vec<Client> = ears
            .by_node
            .read()
            .values()
            .map(|ear| ear.client.clone())
            .collect();
        let connecting = join_all(clients.iter().map(ClientLike::wait_for_connect));
        let _ = timeout(self.inner.settings.command_timeout, connecting).await;
        Ok((Bells { ears }, receiver))
    }
}

impl Ears {
    /// Has an ear at every node, and no other.
    fn follow_topology(self: &Arc<Self>, events: &EventSender) -> Result<(), Failure> {
        let topology = self.store.topology()?;
        let mut ears = self.by_node.write();
        ears.retain(|serial, _| topology.nodes.iter().any(|node| node.serial == *serial));
        for node in &topology.nodes {
            if let hash_map::Entry::Vacant(place) = ears.entry(node.serial) {
                place.insert(self.open(node, events)?);
            }
        }
        Ok(())
    }

    fn open(self: &Arc<Self>, node: &Arc<Node>, events: &EventSender) -> Result<Arc<Ear>, Failure> {
        let stop = CancellationToken::new();
        let client = self.store.context.connector.subscriber(&node.address)?;
        let ear = Arc::new(Ear {
            serial: node.serial,
            client: client.clone(),
            connects: AtomicU32::new(0),
            _stop_when_dropped: stop.clone().drop_guard(),
        });
        // Before connecting: the first message and the first connect must not be missed.
        task::spawn(
            stop.clone(),
            listen(
                Arc::downgrade(self),
                ear.serial,
                client.message_rx(),
                events.clone(),
            ),
        );
        task::spawn(
            stop.clone(),
            count_connects(
                Arc::downgrade(self),
                Arc::downgrade(&ear),
                client.reconnect_rx(),
            ),
        );
        drop(client.connect());
        let (beating, quitting) = (client.clone(), client);
        task::spawn(stop.clone(), async move {
            let _ = beating
                .enable_heartbeat(Duration::from_secs(1), false)
                .await;
        });
        task::at_stop(stop, async move {
            let _ = timeout(Duration::from_secs(1), quitting.quit()).await;
        });
        Ok(ear)
    }

    fn ear_of(&self, partition: Partition) -> Result<Arc<Ear>, Failure> {
        let serial = self.store.topology()?.owner(partition)?.serial;
        self.by_node
            .read()
            .get(&serial)
            .cloned()
            .ok_or_else(|| Failure::refused("not connected to the node yet"))
    }

    /// Subscribes and waits for the confirmation, for as long as a call may take.
    pub(super) async fn subscribe(&self, channel: Channel) -> Result<(), StoreError> {
        {
            let mut wanted = self.wanted.lock();
            let subscription = *wanted.entry(channel).or_insert(Subscription::Pending);
            if self.is_in_force(channel, subscription) {
                return Ok(());
            }
        }
        let _pending = Pending {
            ears: self,
            channel,
        };
        let deadline = Instant::now() + self.store.settings.command_timeout;
        loop {
            let Err(failure) = self.try_subscribe(channel, deadline).await else {
                return Ok(());
            };
            if Instant::now() + Duration::from_millis(50) >= deadline {
                return Err(failure.into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Answers the serial number of the node on which it was confirmed.
    async fn try_subscribe(&self, channel: Channel, deadline: Instant) -> Result<u32, Failure> {
        let ear = self.ear_of(channel.partition())?;
        if !ear.client.is_connected() {
            return Err(Failure::refused("not connected"));
        }
        let connection = ear.connection();
        let subscribing = Box::pin(ear.client.ssubscribe(channel.name(&self.name)));
        let failure = match timeout_at(deadline, subscribing).await {
            Ok(Ok(())) => {
                let mut wanted = self.wanted.lock();
                // On a connection made anew meanwhile the confirmation is worth nothing.
                if ear.connection() == connection {
                    if let Some(subscription) = wanted.get_mut(&channel) {
                        *subscription = Subscription::Confirmed(connection);
                    }
                    return Ok(ear.serial);
                }
                Failure::refused("the connection was lost meanwhile")
            }
            Ok(Err(error)) => error.into(),
            Err(_) => Failure::refused("subscription not confirmed in time"),
        };
        if failure.trouble == Trouble::Elsewhere {
            self.store.look_again.notify_one();
        }
        Err(failure)
    }

    /// Whether it is confirmed on the connection to the node that serves the channel now.
    fn is_in_force(&self, channel: Channel, subscription: Subscription) -> bool {
        let ear = self.ear_of(channel.partition());
        ear.is_ok_and(|ear| subscription == Subscription::Confirmed(ear.connection()))
    }

    async fn unsubscribe(&self, channel: Channel) {
        let removed = self.wanted.lock().remove(&channel);
        let Some(Subscription::Confirmed((serial, _))) = removed else {
            return;
        };
        let ear = self.by_node.read().get(&serial).cloned();
        if let Some(ear) = ear.filter(|ear| ear.client.is_connected()) {
            // If it fails the connection is gone, and the subscription with it.
            let unsubscribing = Box::pin(ear.client.sunsubscribe(channel.name(&self.name)));
            let _ = timeout(CONFIRM_PATIENCE, unsubscribing).await;
        }
    }

    /// A number to publish, and what becomes ready when it is heard.
    pub(super) fn expect_probe(&self) -> (u64, oneshot::Receiver<()>) {
        let (heard, receiver) = oneshot::channel();
        let token = self.next_probe.fetch_add(1, Ordering::Relaxed);
        let mut probes = self.probes.lock();
        probes.retain(|_, waiting| !waiting.is_closed());
        probes.insert(token, heard);
        (token, receiver)
    }

    /// Subscribes what is not subscribed where it belongs. Answers whether everything is now, and
    /// the nodes on which something was subscribed anew.
    async fn resubscribe(&self) -> (bool, HashSet<u32>) {
        let missing: Vec<Channel> = {
            let wanted = self.wanted.lock();
            let is_lost = |channel, subscription| {
                subscription != Subscription::Pending && !self.is_in_force(channel, subscription)
            };
            let lost = wanted
                .iter()
                .filter(|(channel, it)| is_lost(**channel, **it));
            lost.map(|(channel, _)| *channel).collect()
        };
        let mut complete = true;
        let mut anew = HashSet::new();
        for chunk in missing.chunks(RESUBSCRIBE_AT_ONCE) {
            let deadline = Instant::now() + CONFIRM_PATIENCE;
            let tries = chunk
                .iter()
                .map(|channel| self.try_subscribe(*channel, deadline));
            for result in join_all(tries).await {
                match result {
                    Ok(serial) => {
                        anew.insert(serial);
                    }
                    Err(_) => complete = false,
                }
            }
        }
        (complete, anew)
    }

    /// Shards of which something may have been missed.
    fn gaps(&self, serials: Option<&HashSet<u32>>) -> Vec<BellEvent> {
        let Ok(topology) = self.store.topology() else {
            return Vec::new();
        };
        topology
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| serials.is_none_or(|serials| serials.contains(&node.serial)))
            .map(|(shard, _)| BellEvent::Gap { shard })
            .collect()
    }

    /// Reads a message; `None` for what is not for the receiver.
    fn understand(&self, message: Message) -> Option<BellEvent> {
        let channel = keys::parse_channel(&message.channel)?;
        let body = match message.value {
            Value::String(text) => text.into_inner(),
            Value::Bytes(bytes) => bytes,
            _ => return None,
        };
        match channel {
            Channel::Topic(_, topic) => read_bell(topic, &body),
            Channel::Stored(partition) => {
                let persist_id = std::str::from_utf8(&body)
                    .ok()?
                    .strip_prefix("1 stored ")?
                    .to_owned();
                self.store.stored.note(partition, &persist_id);
                Some(BellEvent::Stored {
                    partition,
                    persist_id,
                })
            }
            Channel::Probe(_) => {
                let token = std::str::from_utf8(&body).ok()?.parse().ok()?;
                if let Some(heard) = self.probes.lock().remove(&token) {
                    let _ = heard.send(());
                }
                None
            }
        }
    }
}

/// Reads `1 <epoch> <offset> <id> <ms> <kind>\n<body>`, `1 displaced <session>`, a signal, a presence, or
/// what happens in a call, `1 call <event> <call> <audience>\n<body>`. The body stays where it was
/// received. Another version or kind was written by a newer release; the
/// gap it leaves makes the topic re-read.
fn read_bell(topic: Topic, message: &Bytes) -> Option<BellEvent> {
    let end = message
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(message.len());
    let header = std::str::from_utf8(&message[..end])
        .ok()?
        .strip_prefix("1 ")?;
    if let Some(session) = header.strip_prefix("displaced ") {
        return Some(BellEvent::Displaced {
            topic,
            session: session.parse().ok()?,
        });
    }
    if let Some(signal) = header.strip_prefix("signal ") {
        let signal = read_signal(signal)?;
        return Some(BellEvent::Signal { topic, signal });
    }
    if let Some(presence) = header.strip_prefix("presence ") {
        let Topic::Presence(user) = topic else {
            return None;
        };
        let text = message.get(end + 1..).unwrap_or_default();
        return read_presence(user, presence, text).map(BellEvent::Presence);
    }
    if let Some(call) = header.strip_prefix("call ") {
        let (kind, rest) = call.split_once(' ')?;
        let (call, rest) = rest.split_once(' ')?;
        let (audience, number) = rest.split_once(' ').unwrap_or((rest, "0"));
        let event = CallEvent {
            call: call.parse().ok()?,
            kind: kind.parse().ok()?,
            audience: audience.parse().ok()?,
            number: number.parse().ok()?,
            body: message.slice((end + 1).min(message.len())..),
        };
        return Some(BellEvent::Call { topic, event });
    }
    let mut words = header.split(' ');
    let mut next = || words.next();
    let position = Position {
        epoch: next()?.parse().ok()?,
        offset: next()?.parse().ok()?,
    };
    let id = next()?.parse().ok()?;
    let at = Timestamp(next()?.parse().ok()?);
    let kind = next()?.parse().ok()?;
    Some(BellEvent::Entry(Entry {
        topic,
        position,
        id,
        kind,
        at,
        body: message.slice((end + 1).min(message.len())..),
    }))
}

/// What is published for a signal; [`read_signal`] reads it, without `1 signal `.
pub(super) fn write_signal(signal: &Signal) -> String {
    let Signal {
        kind,
        user,
        session,
    } = signal;
    match session {
        Some(session) => format!("1 signal {kind} {user} {session}"),
        None => format!("1 signal {kind} {user} -"),
    }
}

/// What is published for an event of a call.
pub(super) fn write_call(event: &CallEvent) -> Vec<u8> {
    let CallEvent {
        call,
        kind,
        audience,
        number,
        body,
    } = event;
    let mut message = format!("1 call {kind} {call} {audience}").into_bytes();
    if *number > 0 {
        message.extend_from_slice(format!(" {number}").as_bytes());
    }
    message.push(b'\n');
    message.extend_from_slice(body);
    message
}

/// Reads `<kind> <user> <session or ->`.
fn read_signal(text: &str) -> Option<Signal> {
    let mut words = text.split(' ');
    let signal = Signal {
        kind: words.next()?.parse().ok()?,
        user: words.next()?.parse().ok()?,
        session: match words.next()? {
            "-" => None,
            session => Some(session.parse().ok()?),
        },
    };
    words.next().is_none().then_some(signal)
}

/// Reads `<version> <status> <devices> <seen ms or ->`, as `presence.lua` writes it.
pub(super) fn read_presence(user: UserId, header: &str, text: &[u8]) -> Option<Presence> {
    let mut words = header.split(' ');
    let presence = Presence {
        user,
        version: words.next()?.parse().ok()?,
        status: words.next()?.parse().ok()?,
        devices: words.next()?.parse().ok()?,
        last_seen_at: match words.next()? {
            "-" => None,
            seen => Some(Timestamp(seen.parse().ok()?)),
        },
        text: match std::str::from_utf8(text).ok()? {
            "" => None,
            text => Some(text.into()),
        },
    };
    words.next().is_none().then_some(presence)
}

/// Takes messages of one ear over to the receiver, everything that is there at once. A receiver
/// that is slow holds this up; what then overflows is a gap.
async fn listen(
    ears: std::sync::Weak<Ears>,
    serial: u32,
    mut messages: broadcast::Receiver<Message>,
    events: EventSender,
) {
    loop {
        let first = messages.recv().await;
        let Some(ears) = ears.upgrade() else { return };
        let mut batch = Vec::new();
        let mut lost = 0;
        match first {
            Ok(message) => batch.extend(ears.understand(message)),
            Err(RecvError::Lagged(count)) => lost += count,
            Err(RecvError::Closed) => return,
        }
        while batch.len() < BATCH {
            match messages.try_recv() {
                Ok(message) => batch.extend(ears.understand(message)),
                Err(TryRecvError::Lagged(count)) => lost += count,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        if lost > 0 {
            tracing::warn!(lost, "bells came faster than they were taken");
            batch.extend(ears.gaps(Some(&HashSet::from([serial]))));
        }
        drop(ears);
        if !batch.is_empty() && events.send(batch).await.is_err() {
            return;
        }
    }
}

/// Counts connects of an ear and has its subscriptions made anew.
async fn count_connects(
    ears: std::sync::Weak<Ears>,
    ear: std::sync::Weak<Ear>,
    mut connects: broadcast::Receiver<fred::types::config::Server>,
) {
    while !matches!(connects.recv().await, Err(RecvError::Closed)) {
        let (Some(ears), Some(ear)) = (ears.upgrade(), ear.upgrade()) else {
            return;
        };
        ear.connects.fetch_add(1, Ordering::SeqCst);
        ears.repair.notify_one();
    }
}

/// Keeps every wanted channel subscribed where it belongs and tells of gaps.
async fn keep(ears: std::sync::Weak<Ears>, events: EventSender, mut changed: watch::Receiver<u64>) {
    let Some(repair) = ears.upgrade().map(|ears| ears.repair.clone()) else {
        return;
    };
    let mut known: HashMap<u32, u32> = HashMap::new();
    let mut complete = true;
    loop {
        let pause = if complete {
            Duration::from_secs(5)
        } else {
            Duration::from_millis(200)
        };
        let moved = tokio::select! {
            () = repair.notified() => false,
            () = tokio::time::sleep(pause) => false,
            result = changed.changed() => match result {
                Ok(()) => true,
                Err(_) => return,
            },
        };
        let Some(ears) = ears.upgrade() else { return };
        if let Err(failure) = ears.follow_topology(&events) {
            tracing::warn!(error = %failure.text, "could not follow the topology of redis");
        }
        let connects: HashMap<u32, u32> = ears
            .by_node
            .read()
            .values()
            .map(|ear| ear.connection())
            .collect();
        let (all, mut anew) = ears.resubscribe().await;
        // The first connect has missed nothing.
        anew.extend(connects.iter().filter_map(|(serial, count)| {
            known
                .get(serial)
                .is_some_and(|before| *before > 0 && before != count)
                .then_some(*serial)
        }));
        let gaps = ears.gaps((!moved).then_some(&anew));
        known = connects;
        complete = all;
        drop(ears);
        if !gaps.is_empty() && events.send(gaps).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod fuzz;
