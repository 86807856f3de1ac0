//! Direct commands between pairs of users, either as fast as they are accepted or at a rate.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{after, kind_of, number_at};
use crate::{
    swarm::{Ended, Script, SocketId, Sockets},
    users::User,
};

/// A sender and its receiver.
pub struct Pair {
    pub sender: User,
    pub receiver: User,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Sender(usize),
    Receiver,
}

/// The script. Set up with [`Direct::open`], started with [`Direct::saturate`] or
/// [`Direct::at_rate`].
pub struct Direct {
    pairs: Vec<Pair>,
    /// The sockets of the senders, by pair.
    senders: Vec<SocketId>,
    roles: Vec<Option<Role>>,
    born: Instant,
    next_id: u64,
    mode: Mode,
    text: Vec<u8>,
    /// Sockets greeted with `connected`.
    pub connected: usize,
    /// `command.accepted`.
    pub accepted: u64,
    /// `command.new` at the receivers.
    pub received: u64,
    /// `command.status` at the senders: written by a worker, when one runs.
    pub states: u64,
    /// Errors and ended sockets: the last ones in words.
    pub trouble: Vec<String>,
    /// From the moment a command was due to its arrival, in microseconds.
    pub latency: Histogram<u64>,
}

#[derive(Clone, Copy)]
enum Mode {
    Rest,
    Saturate,
    Rate {
        start: Instant,
        per_second: f64,
        sent: u64,
    },
}

/// Characters of the content: what the peers were measured with.
const CONTENT: usize = 128;

impl Direct {
    /// Nothing open yet.
    pub fn new(pairs: Vec<Pair>) -> anyhow::Result<Self> {
        Ok(Self {
            senders: Vec::with_capacity(pairs.len()),
            pairs,
            roles: Vec::new(),
            born: Instant::now(),
            next_id: 0,
            mode: Mode::Rest,
            text: Vec::new(),
            connected: 0,
            accepted: 0,
            received: 0,
            states: 0,
            trouble: Vec::new(),
            latency: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        })
    }

    /// Opens the senders' sockets at one gateway and the receivers' at another.
    pub fn open(
        &mut self,
        senders: SocketAddr,
        receivers: SocketAddr,
        sockets: &mut Sockets,
    ) -> anyhow::Result<()> {
        for index in 0..self.pairs.len() {
            let pair = &self.pairs[index];
            let sender = sockets.open(senders, pair.sender.upgrade("sender", senders)?)?;
            let receiver =
                sockets.open(receivers, pair.receiver.upgrade("receiver", receivers)?)?;
            let highest = sender.max(receiver);
            if self.roles.len() <= highest {
                self.roles.resize(highest + 1, None);
            }
            self.roles[sender] = Some(Role::Sender(index));
            self.roles[receiver] = Some(Role::Receiver);
            self.senders.push(sender);
        }
        Ok(())
    }

    /// From now on every sender has `window` commands under way.
    pub fn saturate(&mut self, window: usize, sockets: &mut Sockets) {
        self.mode = Mode::Saturate;
        for _ in 0..window {
            for pair in 0..self.senders.len() {
                self.send(pair, Instant::now(), sockets);
            }
        }
    }

    /// From now on commands are sent when they are due, whatever became of those before.
    pub fn at_rate(&mut self, per_second: f64, sockets: &Sockets) -> std::io::Result<()> {
        self.mode = Mode::Rate {
            start: Instant::now(),
            per_second,
            sent: 0,
        };
        sockets.tick_every(Duration::from_secs_f64(1.0 / per_second))
    }

    /// Sends nothing more.
    pub fn rest(&mut self, sockets: &Sockets) -> std::io::Result<()> {
        self.mode = Mode::Rest;
        sockets.tick_every(Duration::ZERO)
    }

    /// Commands sent so far.
    pub fn sent(&self) -> u64 {
        self.next_id
    }

    fn send(&mut self, pair: usize, due: Instant, sockets: &mut Sockets) {
        use std::io::Write as _;

        let due = due.duration_since(self.born).as_nanos();
        let head = format!("due {due} ");
        self.text.clear();
        // Writing to a vector cannot fail.
        let _ = write!(
            self.text,
            r#"{{"type":"command.create","id":"b{}","payload":{{"commandType":"message","content":"{head:x<CONTENT$}","broadcast":"user","categories":[],"targetUser":"{}"}}}}"#,
            self.next_id,
            self.pairs[pair].receiver.id(),
        );
        self.next_id += 1;
        sockets.send(self.senders[pair], &self.text);
    }

    fn complain(&mut self, what: String) {
        if self.trouble.len() < 10 {
            self.trouble.push(what);
        }
    }
}

impl Script for Direct {
    fn text(&mut self, socket: SocketId, text: &[u8], sockets: &mut Sockets) {
        match kind_of(text) {
            b"command.new" => {
                self.received += 1;
                if let Some(at) = after(text, b"\"content\":\"due ") {
                    let now = self.born.elapsed().as_nanos() as u64;
                    let micros = now.saturating_sub(number_at(&text[at..])) / 1000;
                    self.latency.saturating_record(micros.max(1));
                }
            }
            b"command.accepted" => {
                self.accepted += 1;
                if matches!(self.mode, Mode::Saturate)
                    && let Some(Some(Role::Sender(pair))) = self.roles.get(socket)
                {
                    self.send(*pair, Instant::now(), sockets);
                }
            }
            b"command.status" => self.states += 1,
            b"connected" => self.connected += 1,
            _ => self.complain(String::from_utf8_lossy(text).into_owned()),
        }
    }

    fn ended(&mut self, _socket: SocketId, why: &Ended, _sockets: &mut Sockets) {
        self.complain(format!("{why:?}"));
    }

    fn tick(&mut self, _count: u64, sockets: &mut Sockets) {
        let Mode::Rate {
            start,
            per_second,
            sent,
        } = self.mode
        else {
            return;
        };
        let due = (start.elapsed().as_secs_f64() * per_second) as u64;
        for n in sent..due {
            let when = start + Duration::from_secs_f64(n as f64 / per_second);
            self.send(n as usize % self.senders.len(), when, sockets);
        }
        self.mode = Mode::Rate {
            start,
            per_second,
            sent: due.max(sent),
        };
    }
}
