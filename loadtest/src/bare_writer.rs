//! The baseline of fan-out: a single-threaded epoll server that writes ready-made bytes to
//! every socket it has, and does nothing else. No server that writes once per delivery can
//! be cheaper.
//!
//! The first connection is the control: a length (four bytes, little endian) and the frame
//! to write; from then on each byte of it means one write to every other socket. The sockets
//! get a fixed answer to their upgrade, so that the swarm can be their client.

use std::{
    io::{self, BufRead as _, Read as _, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

const LISTENER: Token = Token(usize::MAX - 1);
const CONTROL: Token = Token(usize::MAX - 2);
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

struct Peer {
    tcp: TcpStream,
    upgraded: bool,
    /// What the kernel did not take: nothing, unless the reader is slow.
    unsent: Vec<u8>,
}

/// Serves until the control connection ends. Prints its address first.
pub fn serve() -> anyhow::Result<()> {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(4096)?;
    let listener = std::net::TcpListener::from(listener);
    println!("{}", listener.local_addr()?);
    serve_on(listener)
}

fn serve_on(listener: std::net::TcpListener) -> anyhow::Result<()> {
    let (mut control, _) = listener.accept()?;
    let mut length = [0; 4];
    control.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    control.read_exact(&mut frame)?;

    listener.set_nonblocking(true)?;
    control.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut control = TcpStream::from_std(control);
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    poll.registry()
        .register(&mut control, CONTROL, Interest::READABLE)?;
    let mut peers: Vec<Peer> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 4096];
    loop {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        for event in &events {
            match event.token() {
                LISTENER => {
                    while let Ok((mut tcp, _)) = listener.accept() {
                        tcp.set_nodelay(true)?;
                        let interest = Interest::READABLE | Interest::WRITABLE;
                        poll.registry()
                            .register(&mut tcp, Token(peers.len()), interest)?;
                        peers.push(Peer {
                            tcp,
                            upgraded: false,
                            unsent: Vec::new(),
                        });
                    }
                }
                CONTROL => match read_all(&mut control, &mut scratch)? {
                    Some(rounds) => {
                        for _ in 0..rounds {
                            for peer in peers.iter_mut().filter(|peer| peer.upgraded) {
                                peer.write(&frame)?;
                            }
                        }
                    }
                    None => return Ok(()),
                },
                Token(index) => {
                    let peer = &mut peers[index];
                    // What clients say after their upgrade (pongs) is thrown away.
                    let heard = read_all(&mut peer.tcp, &mut scratch)?.unwrap_or(0);
                    if heard > 0 && !peer.upgraded {
                        peer.upgraded = true;
                        peer.write(ANSWER)?;
                    } else if !peer.unsent.is_empty() {
                        peer.write(&[])?;
                    }
                }
            }
        }
    }
}

impl Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            let waiting = std::mem::take(&mut self.unsent);
            return self.write_or_keep(&waiting);
        }
        self.write_or_keep(bytes)
    }

    fn write_or_keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.tcp.write(bytes) {
            Ok(sent) if sent == bytes.len() => {}
            Ok(sent) => self.unsent.extend_from_slice(&bytes[sent..]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.unsent.extend_from_slice(bytes);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Reads until the socket is empty: how many bytes came, `None` at the end of the stream.
fn read_all(tcp: &mut TcpStream, scratch: &mut [u8]) -> io::Result<Option<usize>> {
    let mut total = 0;
    loop {
        match tcp.read(scratch) {
            Ok(0) => return Ok(None),
            Ok(count) => total += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Some(total)),
            Err(error) => return Err(error),
        }
    }
}

/// A bare writer as a process of its own, so that its CPU can be told from ours.
pub struct BareWriter {
    child: Child,
    control: std::net::TcpStream,
    /// Where its sockets connect to.
    pub address: SocketAddr,
}

impl BareWriter {
    /// Starts one that will write `frame`.
    pub fn start(frame: &[u8]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("bare-writer")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the bare writer")?;
        let mut address = String::new();
        let stdout = child.stdout.take().context("stdout is piped")?;
        io::BufReader::new(stdout).read_line(&mut address)?;
        let address = address
            .trim()
            .parse()
            .context("the bare writer prints its address")?;
        let mut control = std::net::TcpStream::connect(address)?;
        control.set_nodelay(true)?;
        control.write_all(&(frame.len() as u32).to_le_bytes())?;
        control.write_all(frame)?;
        Ok(Self {
            child,
            control,
            address,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it write the frame to every socket, once.
    pub fn publish(&mut self) -> io::Result<()> {
        self.control.write_all(b"p")
    }
}

impl Drop for BareWriter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_gets_the_frame_once_per_round() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || serve_on(listener));
        let mut control = std::net::TcpStream::connect(address).unwrap();
        control.write_all(&5_u32.to_le_bytes()).unwrap();
        control.write_all(b"frame").unwrap();
        let mut sockets: Vec<_> = (0..3)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        for socket in &mut sockets {
            socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let mut answer = vec![0; ANSWER.len()];
            socket.read_exact(&mut answer).unwrap();
            assert_eq!(answer, ANSWER);
        }
        control.write_all(b"pp").unwrap();
        for socket in &mut sockets {
            let mut frames = [0; 10];
            socket.read_exact(&mut frames).unwrap();
            assert_eq!(&frames, b"frameframe");
        }
        drop(control);
        server.join().unwrap().unwrap();
    }
}
