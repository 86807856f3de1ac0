//! Free ports for servers that cannot take port 0.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

use rand::RngExt;

static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port nobody listens on, below the range from which clients get theirs, never handed out twice
/// by this process. Another process may still take it first: whoever starts a server tries again.
pub fn free_port() -> u16 {
    let mut guard = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = guard.get_or_insert_with(HashSet::new);
    loop {
        let port = rand::rng().random_range(10_000..22_000);
        // Redis Cluster adds a bus port next to it; both are checked, and kept.
        if taken.contains(&port) || !is_free(port) || !is_free(port + 10_000) {
            continue;
        }
        taken.insert(port);
        return port;
    }
}

/// True if a server could listen there now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
