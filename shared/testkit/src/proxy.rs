//! A TCP proxy that can be a bad network: late, silent, cut, or dripping byte by byte.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// Each piece waits this long.
    pub delay: Duration,
    /// Nothing is read: the sender's buffers fill up.
    pub paused: bool,
    /// Bytes are read and thrown away: the sender notices nothing.
    pub blackhole: bool,
    /// The connection is reset after this many bytes more.
    pub cut_after: Option<usize>,
    /// One byte per write.
    pub dripping: bool,
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the one who connects to the server.
    Up,
    /// Back.
    Down,
}

/// A running proxy. Dropping it ends all its connections.
pub struct Proxy {
    address: SocketAddr,
    up: watch::Sender<Link>,
    down: watch::Sender<Link>,
    resets: watch::Sender<u64>,
    accepting: watch::Sender<bool>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port and forwards to `target`.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let wires = Wires {
            up: watch::Sender::new(Link::default()),
            down: watch::Sender::new(Link::default()),
            resets: watch::Sender::new(0),
            open: Arc::default(),
        };
        let accepting = watch::Sender::new(true);
        let (up, down, resets, open) = (
            wires.up.clone(),
            wires.down.clone(),
            wires.resets.clone(),
            wires.open.clone(),
        );
        let task = tokio::spawn(accept(listener, target, wires, accepting.subscribe()));
        Self {
            address,
            up,
            down,
            resets,
            accepting,
            open,
            task,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes a direction, for open connections, too.
    pub fn set(&self, direction: Direction, change: impl FnOnce(&mut Link)) {
        let link = if direction == Direction::Up {
            &self.up
        } else {
            &self.down
        };
        link.send_modify(change);
    }

    /// Changes both.
    pub fn set_both(&self, change: impl Fn(&mut Link)) {
        self.up.send_modify(&change);
        self.down.send_modify(&change);
    }

    /// Everything as it should be again.
    pub fn heal(&self) {
        self.accepting.send_replace(true);
        self.set_both(|link| *link = Link::default());
    }

    /// Resets every open connection.
    pub fn reset_all(&self) {
        self.resets.send_modify(|n| *n += 1);
    }

    /// New connections are (not) taken any more.
    pub fn set_accepting(&self, on: bool) {
        self.accepting.send_replace(on);
    }

    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.reset_all();
        self.task.abort();
    }
}

struct Wires {
    up: watch::Sender<Link>,
    down: watch::Sender<Link>,
    resets: watch::Sender<u64>,
    open: Arc<AtomicUsize>,
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    wires: Wires,
    mut accepting: watch::Receiver<bool>,
) {
    while accepting.wait_for(|on| *on).await.is_ok() {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        if !*accepting.borrow() {
            let _ = client.set_zero_linger();
            continue;
        }
        let (up, down, mut resets) = (
            wires.up.subscribe(),
            wires.down.subscribe(),
            wires.resets.subscribe(),
        );
        let open = wires.open.clone();
        tokio::spawn(async move {
            open.fetch_add(1, Ordering::Relaxed);
            if let Ok(mut server) = TcpStream::connect(target).await {
                let mut client = client;
                let _ = client.set_nodelay(true);
                let _ = server.set_nodelay(true);
                let (client_read, client_write) = client.split();
                let (server_read, server_write) = server.split();
                let broken = tokio::select! {
                    ended = async {
                        tokio::try_join!(carry(client_read, server_write, up), carry(server_read, client_write, down))
                    } => ended.is_err(),
                    _ = resets.changed() => true,
                };
                if broken {
                    let _ = client.set_zero_linger();
                    let _ = server.set_zero_linger();
                }
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Carries one direction until its end; an error means that the connection has to be reset.
async fn carry(
    mut read: ReadHalf<'_>,
    mut write: WriteHalf<'_>,
    mut link: watch::Receiver<Link>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut carried = 0;
    loop {
        link.wait_for(|link| !link.paused)
            .await
            .map_err(io::Error::other)?;
        let length = read.read(&mut buffer).await?;
        if length == 0 {
            return write.shutdown().await;
        }
        // Held back if the pause came while we were reading.
        let now = link
            .wait_for(|link| !link.paused)
            .await
            .map_err(io::Error::other)?
            .clone();
        tokio::time::sleep(now.delay).await;
        if now.blackhole {
            continue;
        }
        let allowed = now
            .cut_after
            .map_or(length, |limit| length.min(limit.saturating_sub(carried)));
        let piece = if now.dripping { 1 } else { length };
        for part in buffer[..allowed].chunks(piece) {
            write.write_all(part).await?;
        }
        if allowed < length {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if now.cut_after.is_some() {
            carried += length;
        }
    }
}
