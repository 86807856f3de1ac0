//! Many sockets that listen: idle ones, readers of a fan-out, clients of a connect storm.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use super::kind_of;
use crate::swarm::{Ended, Script, SocketId, Sockets};

/// Where a socket goes and what it asks for.
pub type Target = (SocketAddr, Vec<u8>);

/// Opens what it is given, so many at a time, and counts what arrives.
pub struct Fleet {
    waiting: VecDeque<(Target, Vec<String>)>,
    /// What sockets on their way say once they are greeted.
    to_say: HashMap<SocketId, Vec<String>>,
    counts: fn(&[u8]) -> bool,
    greeting: Greeting,
    at_a_time: usize,
    opening: usize,
    /// Sockets that have been greeted with `connected`.
    pub connected: usize,
    /// Sockets that ended, by reason.
    pub ended: BTreeMap<String, usize>,
    /// The last entry that came, as it was on the wire, without frame header.
    pub sample: Vec<u8>,
    pub deliveries: Arc<Deliveries>,
}

/// What comes before entries do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeting {
    /// Nothing: a socket is open as soon as it is upgraded.
    None,
    /// `connected`, of a gateway that speaks JSON.
    Json,
    /// CONNECTED, and the receipt of a subscription to commands.
    Stomp,
}

const CONNECT: &[u8] = b"CONNECT\naccept-version:1.2\nhost:bench\n\n\0";
const SUBSCRIBE: &[u8] = b"SUBSCRIBE\nid:0\ndestination:/user/queue/commands\nreceipt:there\n\n\0";

/// Entries that arrived on any socket, for a publisher to wait for.
#[derive(Default)]
pub struct Deliveries {
    count: AtomicU64,
    wanted: AtomicU64,
    reached: Notify,
}

impl Deliveries {
    /// Entries so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until there are this many.
    pub async fn reach(&self, wanted: u64) {
        self.wanted.store(wanted, Ordering::Release);
        while self.count() < wanted {
            self.reached.notified().await;
        }
    }

    fn one_more(&self) {
        let count = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        if count >= self.wanted.load(Ordering::Acquire) {
            self.reached.notify_one();
        }
    }
}

impl Fleet {
    /// Sockets of a gateway, which greets each with `connected`.
    pub fn of_gateway(at_a_time: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            to_say: HashMap::new(),
            counts: |kind| matches!(kind, b"command.new" | b"message.new" | b"MESSAGE"),
            greeting: Greeting::Json,
            at_a_time,
            opening: 0,
            connected: 0,
            ended: BTreeMap::new(),
            sample: Vec::new(),
            deliveries: Arc::default(),
        }
    }

    /// The same for clients that speak STOMP and listen to the user's commands.
    pub fn of_stomp_clients(at_a_time: usize) -> Self {
        Self {
            greeting: Greeting::Stomp,
            ..Self::of_gateway(at_a_time)
        }
    }

    /// Sockets of a server that only writes.
    pub fn of_bare_writer(at_a_time: usize) -> Self {
        Self {
            greeting: Greeting::None,
            ..Self::of_gateway(at_a_time)
        }
    }

    /// Sockets of a gateway that count frames of other types than entries.
    pub fn that_counts(counts: fn(&[u8]) -> bool) -> Self {
        Self {
            counts,
            ..Self::of_gateway(64)
        }
    }

    /// Opens these, too.
    pub fn open(&mut self, targets: Vec<Target>, sockets: &mut Sockets) {
        self.open_and_say(targets.into_iter().map(|it| (it, Vec::new())), sockets);
    }

    /// The same; each says something once it is greeted.
    pub fn open_and_say(
        &mut self,
        targets: impl IntoIterator<Item = (Target, Vec<String>)>,
        sockets: &mut Sockets,
    ) {
        self.waiting.extend(targets);
        self.go_on(sockets);
    }

    /// Why sockets ended, in one line.
    pub fn reasons(&self) -> String {
        format!("{:?}", self.ended)
    }

    fn go_on(&mut self, sockets: &mut Sockets) {
        while self.opening < self.at_a_time {
            let Some(((address, request), words)) = self.waiting.pop_front() else {
                return;
            };
            match sockets.open(address, request) {
                Ok(socket) => {
                    self.opening += 1;
                    if !words.is_empty() {
                        self.to_say.insert(socket, words);
                    }
                }
                Err(error) => *self.ended.entry(error.to_string()).or_default() += 1,
            }
        }
    }

    fn is_there(&mut self, socket: SocketId, sockets: &mut Sockets) {
        self.connected += 1;
        for words in self.to_say.remove(&socket).unwrap_or_default() {
            sockets.send(socket, words.as_bytes());
        }
        self.opening = self.opening.saturating_sub(1);
        self.go_on(sockets);
    }
}

impl Script for Fleet {
    fn opened(&mut self, socket: SocketId, sockets: &mut Sockets) {
        match self.greeting {
            Greeting::None => self.is_there(socket, sockets),
            Greeting::Json => {}
            Greeting::Stomp => sockets.send(socket, CONNECT),
        }
    }

    fn text(&mut self, socket: SocketId, text: &[u8], sockets: &mut Sockets) {
        let kind = match self.greeting {
            Greeting::None => b"message.new",
            Greeting::Json => kind_of(text),
            Greeting::Stomp => text.split(|byte| *byte == b'\n').next().unwrap_or(b""),
        };
        match kind {
            kind if (self.counts)(kind) => {
                if self.sample.len() != text.len() {
                    self.sample = text.to_vec();
                }
                self.deliveries.one_more();
            }
            b"CONNECTED" => sockets.send(socket, SUBSCRIBE),
            b"connected" | b"RECEIPT" => self.is_there(socket, sockets),
            _ => {}
        }
    }

    fn ended(&mut self, _socket: SocketId, why: &Ended, _sockets: &mut Sockets) {
        *self.ended.entry(format!("{why:?}")).or_default() += 1;
    }
}
