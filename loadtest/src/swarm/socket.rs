//! One client socket: connects, upgrades, cuts the stream into frames, answers pings.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
};

use mio::net::TcpStream;

use super::frame::{self, Opcode};

/// What a socket tells while it reads.
pub enum Heard<'a> {
    /// The server answered 101.
    Open,
    /// A text frame.
    Text(&'a [u8]),
}

/// Why a socket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// A close frame with this code, 1005 if it had none.
    Close(u16),
    /// The connection ended or could not be made.
    Lost(io::ErrorKind),
    /// The upgrade was answered with this HTTP status.
    Refused(u16),
}

#[derive(PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Open,
}

/// A socket of the swarm.
pub struct Socket {
    pub(super) tcp: TcpStream,
    stage: Stage,
    /// The head of a frame whose rest has not come yet.
    partial: Vec<u8>,
    /// What the kernel did not take yet; at first the upgrade request.
    unsent: Vec<u8>,
}

impl Socket {
    /// Begins to connect from `source` to `target` and to upgrade with `request`.
    pub fn connect(target: SocketAddr, source: Ipv4Addr, request: Vec<u8>) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(target),
            socket2::Type::STREAM.nonblocking(),
            None,
        )?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        match socket.connect(&target.into()) {
            Err(error)
                if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                return Err(error);
            }
            _ => {}
        }
        Ok(Self {
            tcp: TcpStream::from_std(socket.into()),
            stage: Stage::Connecting,
            partial: Vec::new(),
            unsent: request,
        })
    }

    /// True once the upgrade is through.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Sends a text frame, or keeps it until the kernel has room.
    pub fn send(&mut self, text: &[u8]) -> Result<(), Ended> {
        frame::write_frame(&mut self.unsent, 1, text);
        self.flush()
    }

    /// Sends frames that are complete with their headers.
    pub fn send_frames(&mut self, frames: &[u8]) -> Result<(), Ended> {
        self.unsent.extend_from_slice(frames);
        self.flush()
    }

    /// The kernel has room again.
    pub fn flush(&mut self) -> Result<(), Ended> {
        if self.stage == Stage::Open && self.unsent.is_empty() {
            return Ok(());
        }
        if self.stage == Stage::Connecting {
            if let Some(error) = self.tcp.take_error().map_err(|e| Ended::Lost(e.kind()))? {
                return Err(Ended::Lost(error.kind()));
            }
            if self.tcp.peer_addr().is_err() {
                return Ok(());
            }
            self.stage = Stage::Upgrading;
        }
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.tcp.write(&self.unsent[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Ended::Lost(error.kind())),
            }
        }
        self.unsent.drain(..sent);
        if self.unsent.is_empty() && self.unsent.capacity() > 4096 {
            self.unsent = Vec::new();
        }
        Ok(())
    }

    /// Reads what is there, through `scratch`, and tells it to `hear`.
    pub fn read(
        &mut self,
        scratch: &mut [u8],
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<(), Ended> {
        if self.stage == Stage::Connecting {
            return Ok(());
        }
        loop {
            let count = match self.tcp.read(scratch) {
                Ok(0) => return Err(Ended::Lost(io::ErrorKind::UnexpectedEof)),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Ended::Lost(error.kind())),
            };
            self.take(&scratch[..count], hear)?;
            if count < scratch.len() {
                // A short read emptied the kernel's buffer (epoll(7), edge-triggered streams).
                break;
            }
        }
        if self.unsent.is_empty() {
            Ok(())
        } else {
            self.flush()
        }
    }

    fn take(&mut self, bytes: &[u8], hear: &mut impl FnMut(Heard<'_>)) -> Result<(), Ended> {
        if self.partial.is_empty() {
            let used = self.consume(bytes, hear)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut all = std::mem::take(&mut self.partial);
            all.extend_from_slice(bytes);
            let used = self.consume(&all, hear)?;
            all.drain(..used);
            if !all.is_empty() {
                self.partial = all;
            }
        }
        Ok(())
    }

    /// Takes whole frames off the front; answers how many bytes that were.
    fn consume(&mut self, bytes: &[u8], hear: &mut impl FnMut(Heard<'_>)) -> Result<usize, Ended> {
        let mut used = 0;
        if self.stage == Stage::Upgrading {
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
                return Ok(0);
            };
            let status = std::str::from_utf8(bytes.get(9..12).unwrap_or_default())
                .ok()
                .and_then(|code| code.parse().ok())
                .unwrap_or(0);
            if status != 101 {
                return Err(Ended::Refused(status));
            }
            self.stage = Stage::Open;
            used = end + 4;
            hear(Heard::Open);
        }
        while let Some(frame) = frame::read_frame(&bytes[used..]) {
            used += frame.length;
            match frame.opcode {
                Opcode::Text => hear(Heard::Text(frame.payload)),
                // The pong is what confirms delivery to the gateway.
                Opcode::Ping => frame::write_frame(&mut self.unsent, 10, frame.payload),
                Opcode::Close => {
                    let code = frame
                        .payload
                        .first_chunk()
                        .map_or(1005, |code| u16::from_be_bytes(*code));
                    return Err(Ended::Close(code));
                }
                Opcode::Binary | Opcode::Pong | Opcode::Other => {}
            }
        }
        Ok(used)
    }
}
