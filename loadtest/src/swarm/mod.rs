//! Tens of thousands of client sockets on one thread.
//!
//! The sockets share the machine with what is measured, so they have to be cheap: one epoll
//! loop, one read buffer, no task and no timer per socket. What the sockets do is a
//! [`Script`]; the rest of the program talks to it by [`Swarm::ask`].

mod frame;
mod socket;
mod source;

use std::{
    io,
    net::SocketAddr,
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use mio::{Events, Interest, Poll, Token, Waker};

pub use frame::server_text;
pub use socket::Ended;
use socket::{Heard, Socket};

use crate::pace::Ticks;

/// A socket of a swarm. Numbers are used again after a socket ended.
pub type SocketId = usize;

/// What the sockets of a swarm do.
pub trait Script: Send + 'static {
    /// The upgrade was answered with 101.
    fn opened(&mut self, _socket: SocketId, _sockets: &mut Sockets) {}
    /// A text frame came.
    fn text(&mut self, socket: SocketId, text: &[u8], sockets: &mut Sockets);
    /// The socket is gone.
    fn ended(&mut self, _socket: SocketId, _why: &Ended, _sockets: &mut Sockets) {}
    /// `count` ticks have passed, see [`Sockets::tick_every`].
    fn tick(&mut self, _count: u64, _sockets: &mut Sockets) {}
}

type Order<S> = Box<dyn FnOnce(&mut S, &mut Sockets) + Send>;

const WAKE: Token = Token(usize::MAX - 1);
const TICK: Token = Token(usize::MAX - 2);

/// The sockets, as a script sees them.
pub struct Sockets {
    poll: Poll,
    slots: Vec<Option<Socket>>,
    free: Vec<SocketId>,
    ended: Vec<(SocketId, Ended)>,
    ticks: Ticks,
    serving: Option<Serving>,
    spare: Vec<u8>,
    stop: bool,
}

/// The socket the script hears at this moment.
struct Serving {
    id: SocketId,
    own: Vec<u8>,
}

impl Sockets {
    /// Begins to open a socket.
    pub fn open(&mut self, target: SocketAddr, request: Vec<u8>) -> io::Result<SocketId> {
        let mut socket = Socket::connect(target, source::next(), request)?;
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.poll.registry().register(
            &mut socket.tcp,
            Token(id),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.slots[id] = Some(socket);
        Ok(id)
    }

    /// Sends a text frame; a socket that is gone ignores it.
    pub fn send(&mut self, id: SocketId, text: &[u8]) {
        if let Some(serving) = &mut self.serving
            && serving.id == id
        {
            frame::write_frame(&mut serving.own, 1, text);
        } else if let Some(Some(socket)) = self.slots.get_mut(id)
            && let Err(why) = socket.send(text)
        {
            self.ended.push((id, why));
        }
    }

    /// Calls [`Script::tick`] at this rate; zero stops it.
    pub fn tick_every(&self, period: Duration) -> io::Result<()> {
        self.ticks.every(period)
    }

    /// How many sockets are open, upgrade included.
    pub fn open_count(&self) -> usize {
        self.slots
            .iter()
            .flatten()
            .filter(|socket| socket.is_open())
            .count()
    }
}

/// An upgrade request for `path`, with more header lines (each ended by CRLF).
pub fn upgrade_request(path: &str, headers: &str, host: SocketAddr) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// A running swarm. Dropping it ends its sockets.
pub struct Swarm<S> {
    orders: mpsc::SyncSender<Order<S>>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl<S: Script> Swarm<S> {
    /// Starts the swarm's thread.
    pub fn start(script: S) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let mut ticks = Ticks::new()?;
        poll.registry()
            .register(&mut ticks, TICK, Interest::READABLE)?;
        let (orders, inbox) = mpsc::sync_channel(64);
        let sockets = Sockets {
            poll,
            slots: Vec::new(),
            free: Vec::new(),
            ended: Vec::new(),
            ticks,
            serving: None,
            spare: Vec::new(),
            stop: false,
        };
        let thread = std::thread::Builder::new()
            .name("swarm".into())
            .spawn(move || run(script, sockets, &inbox))?;
        Ok(Self {
            orders,
            waker,
            thread: Some(thread),
        })
    }

    /// Runs `order` on the swarm's thread and waits for what it answers.
    pub fn ask<T: Send + 'static>(
        &self,
        order: impl FnOnce(&mut S, &mut Sockets) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.orders
            .send(Box::new(move |script, sockets| {
                // Nobody waits any more if this fails.
                let _ = answer.send(order(script, sockets));
            }))
            .ok()
            .context("the swarm has ended")?;
        self.waker.wake()?;
        answered
            .recv_timeout(Duration::from_mins(1))
            .context("the swarm does not answer")
    }

    /// Asks again and again until the answer is `Some`, at most until the deadline.
    pub fn until<T: Send + 'static>(
        &self,
        what: &str,
        deadline: Duration,
        question: impl Fn(&mut S, &mut Sockets) -> Option<T> + Send + Sync + Clone + 'static,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        loop {
            let question = question.clone();
            if let Some(answer) = self.ask(move |script, sockets| question(script, sockets))? {
                return Ok(answer);
            }
            anyhow::ensure!(
                start.elapsed() < deadline,
                "{what}: not within {deadline:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl<S> Drop for Swarm<S> {
    fn drop(&mut self) {
        // The thread may be gone already; then there is nothing to stop.
        let _ = self.orders.send(Box::new(|_, sockets| sockets.stop = true));
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run<S: Script>(mut script: S, mut sockets: Sockets, inbox: &mpsc::Receiver<Order<S>>) {
    let mut events = Events::with_capacity(4096);
    let mut scratch = vec![0; 64 * 1024];
    while !sockets.stop {
        if let Err(error) = sockets.poll.poll(&mut events, None)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return;
        }
        for event in &events {
            match event.token() {
                WAKE => {
                    for order in inbox.try_iter() {
                        order(&mut script, &mut sockets);
                    }
                }
                TICK => {
                    let count = sockets.ticks.passed();
                    script.tick(count, &mut sockets);
                }
                Token(id) => serve(
                    id,
                    event.is_readable(),
                    event.is_writable(),
                    &mut script,
                    &mut sockets,
                    &mut scratch,
                ),
            }
        }
        while let Some((id, why)) = sockets.ended.pop() {
            // It may have ended twice in one round.
            if sockets.slots[id].take().is_some() {
                sockets.free.push(id);
                script.ended(id, &why, &mut sockets);
            }
        }
    }
}

fn serve<S: Script>(
    id: SocketId,
    readable: bool,
    writable: bool,
    script: &mut S,
    sockets: &mut Sockets,
    scratch: &mut [u8],
) {
    // Taken out while the script runs, so that the script may use all the others; what it
    // sends to this one is kept in `own` and follows at once.
    let Some(mut socket) = sockets.slots.get_mut(id).and_then(Option::take) else {
        return;
    };
    sockets.serving = Some(Serving {
        id,
        own: std::mem::take(&mut sockets.spare),
    });
    let mut result = Ok(());
    if writable {
        result = socket.flush();
    }
    if readable && result.is_ok() {
        result = socket.read(scratch, &mut |heard| match heard {
            Heard::Open => script.opened(id, sockets),
            Heard::Text(text) => script.text(id, text, sockets),
        });
    }
    let Some(mut serving) = sockets.serving.take() else {
        return;
    };
    if result.is_ok() && !serving.own.is_empty() {
        result = socket.send_frames(&serving.own);
    }
    serving.own.clear();
    sockets.spare = serving.own;
    sockets.slots[id] = Some(socket);
    if let Err(why) = result {
        sockets.ended.push((id, why));
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Opens sockets, sends ten numbered texts on each and collects the echoes.
    #[derive(Default)]
    struct Echoes {
        opened: usize,
        heard: Vec<Vec<u32>>,
        ended: Vec<Ended>,
    }

    impl Script for Echoes {
        fn opened(&mut self, socket: SocketId, sockets: &mut Sockets) {
            self.opened += 1;
            sockets.send(socket, b"0");
        }

        fn text(&mut self, socket: SocketId, text: &[u8], sockets: &mut Sockets) {
            let number: u32 = std::str::from_utf8(text)
                .unwrap()
                .trim_end()
                .parse()
                .unwrap();
            self.heard[socket].push(number);
            if number < 9 {
                // Long enough for each of the three header lengths.
                let width = [1, 300, 70_000][number as usize % 3];
                sockets.send(
                    socket,
                    format!("{}{}", number + 1, " ".repeat(width)).as_bytes(),
                );
            }
        }

        fn ended(&mut self, _socket: SocketId, why: &Ended, _sockets: &mut Sockets) {
            self.ended.push(why.clone());
        }
    }

    /// A server that echoes, pings before each echo and insists on the pong.
    fn echo_server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for tcp in listener.incoming() {
                std::thread::spawn(move || {
                    let mut socket = tungstenite::accept(tcp.unwrap()).unwrap();
                    for round in 0..10_u8 {
                        let text = socket.read().unwrap();
                        socket
                            .send(tungstenite::Message::Ping(vec![round].into()))
                            .unwrap();
                        // The pong comes before anything that was caused by the echo.
                        assert_eq!(
                            socket.read().unwrap(),
                            tungstenite::Message::Pong(vec![round].into())
                        );
                        socket.send(text).unwrap();
                    }
                    let frame = tungstenite::protocol::CloseFrame {
                        code: 4409.into(),
                        reason: "".into(),
                    };
                    socket.close(Some(frame)).unwrap();
                });
            }
        });
        address
    }

    #[test]
    fn many_sockets_talk_to_a_real_server_and_learn_why_they_ended() {
        let server = echo_server();
        let swarm = Swarm::start(Echoes {
            heard: vec![Vec::new(); 50],
            ..Echoes::default()
        })
        .unwrap();
        swarm
            .ask(move |_, sockets| {
                for _ in 0..50 {
                    sockets
                        .open(server, upgrade_request("/", "", server))
                        .unwrap();
                }
            })
            .unwrap();
        let heard = swarm
            .until("all sockets ended", Duration::from_secs(20), |script, _| {
                (script.ended.len() == 50)
                    .then(|| (script.opened, script.heard.clone(), script.ended.clone()))
            })
            .unwrap();
        assert_eq!(heard.0, 50);
        assert!(
            heard
                .1
                .iter()
                .all(|numbers| numbers.iter().copied().eq(0..10)),
            "{:?}",
            heard.1
        );
        assert!(
            heard.2.iter().all(|why| *why == Ended::Close(4409)),
            "{:?}",
            heard.2
        );
    }

    #[test]
    fn a_refused_connection_ends_the_socket() {
        let nobody = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let swarm = Swarm::start(Echoes::default()).unwrap();
        swarm
            .ask(move |_, sockets| sockets.open(nobody, Vec::new()).map(drop).unwrap())
            .unwrap();
        let why = swarm
            .until("the socket ended", Duration::from_secs(5), |script, _| {
                script.ended.first().cloned()
            })
            .unwrap();
        assert_eq!(why, Ended::Lost(io::ErrorKind::ConnectionRefused));
    }
}
