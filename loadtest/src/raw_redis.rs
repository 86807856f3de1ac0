//! Redis without a client library: the baseline of everything that goes through it.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use crate::pace::Ticks;

/// Appends a command in RESP.
pub fn write_command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "*{}\r\n", parts.len());
    for part in parts {
        let _ = write!(out, "${}\r\n", part.len());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// How long the reply at the start of `bytes` is, `None` while it is incomplete. An error reply
/// is an error, and so is the text by which an append says that it failed.
fn reply_length(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") else {
        return Ok(None);
    };
    let line = std::str::from_utf8(&bytes[1..end])?;
    let mut length = end + 2;
    match bytes[0] {
        b'-' => anyhow::bail!("redis answers {line}"),
        b'$' => {
            let size: i64 = line.parse()?;
            anyhow::ensure!(!bytes[length..].starts_with(b"E "), "an append failed");
            if size >= 0 {
                length += size as usize + 2;
            }
        }
        b'*' => {
            for _ in 0..line.parse::<i64>()? {
                match reply_length(bytes.get(length..).unwrap_or_default())? {
                    Some(inner) => length += inner,
                    None => return Ok(None),
                }
            }
        }
        _ => {}
    }
    Ok((length <= bytes.len()).then_some(length))
}

/// Counts whole replies and drops them from the buffer.
fn take_replies(buffer: &mut Vec<u8>) -> anyhow::Result<usize> {
    let (mut used, mut count) = (0, 0);
    while used < buffer.len() {
        let Some(length) = reply_length(&buffer[used..])? else {
            break;
        };
        used += length;
        count += 1;
    }
    buffer.drain(..used);
    Ok(count)
}

/// How many calls a second one connection gets through with `window` calls under way,
/// `per_call` units of work in each. `command` writes the n-th call.
pub fn throughput(
    port: u16,
    window: usize,
    length: Duration,
    mut command: impl FnMut(u64, &mut Vec<u8>),
) -> anyhow::Result<f64> {
    let mut tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut out, mut replies, mut scratch) = (Vec::new(), Vec::new(), vec![0; 64 * 1024]);
    let (mut sent, mut answered) = (0_u64, 0_u64);
    let start = Instant::now();
    while start.elapsed() < length {
        out.clear();
        while sent - answered < window as u64 {
            command(sent, &mut out);
            sent += 1;
        }
        tcp.write_all(&out)?;
        let count = tcp.read(&mut scratch).context("waiting for redis")?;
        anyhow::ensure!(count > 0, "redis closed the connection");
        replies.extend_from_slice(&scratch[..count]);
        answered += take_replies(&mut replies)? as u64;
    }
    Ok(answered as f64 / start.elapsed().as_secs_f64())
}

/// Latencies, in microseconds, of a command that is sent `per_second` times a second for `length`,
/// whatever became of those before; from the moment it was due.
pub fn latency_at_rate(
    port: u16,
    per_second: f64,
    length: Duration,
    command: &[u8],
) -> anyhow::Result<Histogram<u64>> {
    const REDIS: Token = Token(0);
    const TICK: Token = Token(1);
    let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    tcp.set_nodelay(true)?;
    tcp.set_nonblocking(true)?;
    let mut tcp = mio::net::TcpStream::from_std(tcp);
    let mut poll = Poll::new()?;
    let mut ticks = Ticks::new()?;
    poll.registry()
        .register(&mut tcp, REDIS, Interest::READABLE)?;
    poll.registry()
        .register(&mut ticks, TICK, Interest::READABLE)?;
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let (mut events, mut replies, mut scratch) =
        (Events::with_capacity(8), Vec::new(), vec![0; 64 * 1024]);
    let total = (length.as_secs_f64() * per_second) as u64;
    let (mut sent, mut answered) = (0_u64, 0_u64);
    let start = Instant::now();
    ticks.every(Duration::from_secs_f64(1.0 / per_second))?;
    while answered < total {
        anyhow::ensure!(
            start.elapsed() < length + Duration::from_secs(30),
            "redis does not keep up"
        );
        poll.poll(&mut events, Some(Duration::from_secs(1)))?;
        for event in &events {
            if event.token() == TICK {
                ticks.passed();
                let due = ((start.elapsed().as_secs_f64() * per_second) as u64).min(total);
                for _ in sent..due {
                    tcp.write_all(command)?;
                }
                sent = due.max(sent);
                continue;
            }
            loop {
                match tcp.read(&mut scratch) {
                    Ok(0) => anyhow::bail!("redis closed the connection"),
                    Ok(count) => replies.extend_from_slice(&scratch[..count]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            for _ in 0..take_replies(&mut replies)? {
                let due = Duration::from_secs_f64(answered as f64 / per_second);
                let waited = start.elapsed().saturating_sub(due).as_micros() as u64;
                histogram.saturating_record(waited.max(1));
                answered += 1;
            }
        }
    }
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_when_they_are_whole() {
        let all = b"+OK\r\n$-1\r\n*2\r\n$2\r\nab\r\n:7\r\n".to_vec();
        for cut in 0..all.len() {
            let mut buffer = all[..cut].to_vec();
            let expected = [5, 10].iter().filter(|end| **end <= cut).count();
            assert_eq!(take_replies(&mut buffer).unwrap(), expected, "cut at {cut}");
        }
        assert_eq!(take_replies(&mut all.clone()).unwrap(), 3);
        assert!(take_replies(&mut b"-ERR no\r\n".to_vec()).is_err());
    }
}
