//! From the log to the sockets of this node.
//!
//! A topic that somebody here follows has a position: everything up to it was given to every
//! live socket. Bells bring the next entry; a gap, a lost connection or a head beyond the
//! position lead to a re-read, so bells may fail in any way and nothing is lost, only late. A
//! socket is a place in its topic and a small queue; one that cannot keep up holds nothing and
//! reads by its position when it has room.
//!
//! Knows dialects only by what [`crate::dialect::shared`] makes of an entry. Knows nothing of
//! sockets or requests.

mod acker;
mod acknowledge;
mod acks;
mod addresses;
mod attach;
mod audiences;
mod backlog;
mod beginning;
mod broadcasts;
mod calls;
mod catch_up;
mod census;
mod chosen;
mod closer;
mod completed;
mod directory;
mod follower;
mod frames;
mod gather;
mod heads;
mod heard;
mod heartbeat;
mod hub;
mod item;
mod line;
mod linger;
mod listened;
mod listeners;
mod listening;
mod member;
pub mod metrics;
mod outbox;
mod parts;
mod place;
mod preferences;
mod presence;
mod probe;
mod reach;
mod reader;
mod readers;
mod receiver;
mod recent;
mod refusal;
mod registry;
mod repair;
mod reveal;
mod revocations;
mod shards;
mod shared_entry;
mod subscriptions;
mod topic;
mod track;
mod typing;
mod wishes;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use shared::{
    clock::Clock,
    domain::NodeId,
    lifecycle::Lifecycle,
    postgres::Postgres,
    redis::{Bells, Store, StoreError},
};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

pub use attach::{Attach, Attached, Attachment};
pub use beginning::Arrival;
pub use calls::CallListener;
pub use chosen::Notice;
pub use directory::DirectoryListener;
pub use line::Line;
pub use listening::{Right, Rights};
pub use member::TokenRef;
pub use outbox::{Batch, CloseReason, MAX_FRAMES, Outbox, OutboxLimits, Taken};
pub use presence::{PresenceSettings, Sight};
pub use probe::ProbeStatus;
pub use reach::Reach;
pub use reader::{Chunk, ReadError, Reader, Source, Walk};
pub use refusal::{postgres_refusal, store_refusal};
pub use reveal::Reveal;
pub use shared_entry::SharedEntry;

/// Sockets of a drain that close within this time close together.
const DRAIN_STEP: Duration = Duration::from_millis(10);
/// How long the last sockets of a drain have to take what is queued and close.
const DRAIN_GRACE: Duration = Duration::from_secs(5);
/// A drained client comes back within this time.
const RECONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How this node fans out.
#[derive(Debug, Clone)]
pub struct FanoutSettings {
    /// This node's name.
    pub node: NodeId,
    /// Which life of the node this is.
    pub incarnation: u64,
    /// Most sessions of a user; the oldest beyond are displaced.
    pub max_sessions: u32,
    /// Entries read when a session is opened; longer queues are read afterwards.
    pub first_page: u32,
    /// How often all positions are compared with Redis' heads.
    pub head_interval: Duration,
    /// How often bells are probed.
    pub probe_interval: Duration,
    /// Most sockets that read from the stores at a time.
    pub catch_ups: usize,
    /// Sockets that read from Postgres at a time: not all of its connections.
    pub cold_catch_ups: usize,
    /// How often it is written who has received which broadcasts, and how far devices have read large
    /// conversations.
    pub receipt_interval: Duration,
    /// How presence is treated.
    pub presence: PresenceSettings,
}

impl FanoutSettings {
    /// The defaults of a node.
    pub fn new(node: NodeId, incarnation: u64) -> Self {
        Self {
            node,
            incarnation,
            max_sessions: 10,
            first_page: 64,
            head_interval: Duration::from_secs(20),
            probe_interval: Duration::from_secs(10),
            catch_ups: 64,
            cold_catch_ups: 8,
            receipt_interval: Duration::from_secs(30),
            presence: PresenceSettings::default(),
        }
    }
}

/// See the module.
pub struct Fanout {
    store: Store,
    postgres: Postgres,
    bells: Bells,
    settings: FanoutSettings,
    lifecycle: Lifecycle,
    clock: Clock,
    hub: hub::Hub,
    census: census::Census,
    reader: Reader,
    acker: acker::Acker,
    receiver: receiver::Receiver,
    readers: readers::Readers,
    directory: OnceLock<DirectoryListener>,
    rights: OnceLock<Arc<dyn Rights>>,
    typing: typing::Typing,
    presences: presence::Presences,
    calls: OnceLock<Arc<dyn CallListener>>,
    broadcasts_loaded: watch::Sender<bool>,
    closer: closer::Closer,
    unregistered: shards::Shards,
    linger: linger::Linger,
    repairs: repair::Repairs,
    gaps: shards::Shards,
    revocations: revocations::Revocations,
    probe: Mutex<ProbeStatus>,
    catch_ups: Semaphore,
    cold_catch_ups: Semaphore,
}

impl Fanout {
    /// Opens the node's subscriber and starts the tasks that keep its topics true.
    pub async fn start(
        store: Store,
        postgres: Postgres,
        settings: FanoutSettings,
        lifecycle: Lifecycle,
    ) -> Result<Arc<Self>, StoreError> {
        let (bells, heard) = store.subscriber().await?;
        let fanout = Arc::new(Self {
            reader: Reader::new(store.clone(), postgres.clone()),
            postgres,
            receiver: receiver::Receiver::default(),
            readers: readers::Readers::default(),
            directory: OnceLock::new(),
            rights: OnceLock::new(),
            typing: typing::Typing::default(),
            presences: presence::Presences::default(),
            calls: OnceLock::new(),
            broadcasts_loaded: watch::Sender::new(false),
            acker: acker::Acker::new(store.clone(), lifecycle.clone()),
            catch_ups: Semaphore::new(settings.catch_ups),
            cold_catch_ups: Semaphore::new(settings.cold_catch_ups),
            store,
            bells,
            settings,
            lifecycle: lifecycle.clone(),
            clock: Clock::system(),
            hub: hub::Hub::new(),
            census: census::Census::default(),
            closer: closer::Closer::default(),
            unregistered: shards::Shards::default(),
            linger: linger::Linger::default(),
            repairs: repair::Repairs::default(),
            gaps: shards::Shards::default(),
            revocations: revocations::Revocations::default(),
            probe: Mutex::default(),
        });
        lifecycle.spawn_essential("show life", fanout.clone().show_life());
        lifecycle.spawn_essential("hear bells", fanout.clone().hear_bells(heard));
        lifecycle.spawn_essential("repair topics", fanout.clone().repair_topics());
        lifecycle.spawn_essential("close gaps", fanout.clone().close_gaps());
        lifecycle.spawn_essential("sweep heads", fanout.clone().sweep_heads());
        lifecycle.spawn_essential("unsubscribe idle topics", fanout.clone().unsubscribe_idle());
        lifecycle.spawn_essential("close sessions", fanout.clone().close_sessions());
        lifecycle.spawn_essential("keep sessions registered", fanout.clone().keep_registered());
        lifecycle.spawn_essential("keep revocations", fanout.clone().keep_revocations());
        lifecycle.spawn_essential("lapse typing", fanout.clone().lapse_typing());
        lifecycle.spawn_essential("tell activities", fanout.clone().tell_activities());
        lifecycle.spawn_essential("settle departures", fanout.clone().settle_departures());
        lifecycle.spawn_essential("pass on presences", fanout.clone().pass_on_presences());
        lifecycle.spawn_essential("tell presences", fanout.clone().tell_presences());
        lifecycle.spawn_essential("ask what was missed", fanout.clone().ask_missed_presences());
        lifecycle.spawn_essential("ask for presences", fanout.clone().ask_presences_slowly());
        lifecycle.spawn_essential("unwatch idle users", fanout.clone().unwatch_idle());
        lifecycle.spawn_essential("keep sight", fanout.clone().keep_sight());
        lifecycle.spawn_essential("look who is seen", fanout.clone().sweep_sight());
        lifecycle.spawn_essential("write receipts", fanout.clone().write_receipts());
        lifecycle.spawn_essential("write reading", fanout.clone().write_reading());
        lifecycle.spawn("follow broadcasts", fanout.clone().follow_broadcasts());
        lifecycle.spawn("follow the directory", fanout.clone().follow_directory());
        lifecycle.spawn_essential("probe bells", fanout.clone().probe_bells());
        Ok(fanout)
    }

    /// Asks every socket to close because the node is going away: evenly over `window`, and
    /// each told to come back after a random time, so that other nodes see no stampede.
    /// Returns when the last is gone, or has had a few seconds to go.
    pub async fn drain(&self, window: Duration) {
        let begun = Instant::now();
        let members = self.hub.all_members();
        let count = members.len().max(1) as f64;
        for (index, outbox) in members.into_iter().enumerate() {
            let due = begun + window.mul_f64(index as f64 / count);
            if due > Instant::now() + DRAIN_STEP {
                tokio::time::sleep_until(due).await;
            }
            let reconnect_after = RECONNECT_WITHIN.mul_f64(rand::random());
            outbox.request_close(CloseReason::Draining { reconnect_after });
        }
        let patience = Instant::now() + DRAIN_GRACE;
        while self.sockets() > 0 && Instant::now() < patience {
            tokio::time::sleep(DRAIN_STEP).await;
        }
    }

    /// Writes what was confirmed and closes what ended. True if that was done within `wait`.
    pub async fn flush(&self, wait: Duration) -> bool {
        let (acked, received, read, closed) = tokio::join!(
            self.acker.flush_all(wait),
            self.receiver.written(wait),
            self.readers.written(wait),
            self.sessions_closed(wait)
        );
        acked && received && read && closed
    }

    /// How many sockets are attached.
    pub fn sockets(&self) -> usize {
        self.hub.counts().1
    }

    /// Sets the gauges; called before a scrape.
    pub fn measure(&self) {
        let (topics, sockets) = self.hub.counts();
        metrics::TOPICS.set(topics as f64);
        metrics::ATTACHED.set(sockets as f64);
        metrics::ACKS_WAITING.set(self.acker.waiting() as f64);
        metrics::RECEIPTS_WAITING.set(self.receiver.waiting() as f64);
        metrics::READERS_WAITING.set(self.readers.waiting() as f64);
        metrics::WATCHED.set(self.watched_users() as f64);
        metrics::DEPARTURES_WAITING.set(self.departures() as f64);
        metrics::REPAIRS_WAITING.set(self.repairs.waiting() as f64);
    }

    /// The reader of logs, for requests that list them.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }
}

impl std::fmt::Debug for Fanout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fanout")
            .field("node", &self.settings.node)
            .finish_non_exhaustive()
    }
}
