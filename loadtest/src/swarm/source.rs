//! Where the sockets of a swarm come from. An address has some 28 000 ports, and the kernel keeps
//! each for a minute after its socket ended (`TIME_WAIT`); so the sockets are spread over the
//! loopback network, and every process of the kit begins somewhere else in it.

use std::{
    net::Ipv4Addr,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Sockets that come from one address.
const PER_ADDRESS: u32 = 10_000;
/// The first address. Those before are left to servers.
const FIRST: u32 = u32::from_be_bytes([127, 1, 0, 0]);
/// How many there are: up to 127.254.255.255.
const ADDRESSES: u32 = 254 << 16;

/// The address of the next socket of this process.
pub(super) fn next() -> Ipv4Addr {
    static BEGIN: LazyLock<u32> = LazyLock::new(|| rand::random_range(0..ADDRESSES));
    static OPENED: AtomicU32 = AtomicU32::new(0);
    let opened = OPENED.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::from(FIRST + (*BEGIN + opened / PER_ADDRESS) % ADDRESSES)
}
