//! How to reach Redis and how to treat it.

use std::time::Duration;

use super::{StoreError, client::Connector};
use crate::{clock::Clock, domain::PartitionCount};

const SCHEMES: [&str; 6] = [
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
];

/// Where Redis is and how to treat it. (The settings section lives in `shared::config`.)
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// `redis://`, `rediss://`, `redis-cluster://`, `redis-sentinel://`, with user, password and
    /// further nodes as fred reads them.
    pub url: String,
    /// Fixed when the deployment is born; another number refuses to connect.
    pub partitions: PartitionCount,
    /// Longest wait for one call. Default 1 s.
    pub command_timeout: Duration,
    /// Most calls in flight per Redis node. Default 512.
    pub max_in_flight: usize,
    /// How long an idempotency key is remembered. Default 1 h.
    pub idempotency_ttl: Duration,
    /// Share of `maxmemory` above which appends are refused. Default 0.85.
    pub memory_limit: f64,
    /// Kept by Redis' while the store is open: ids and stored deadlines come from it, so pods whose
    /// clocks differ, or jump, do not disagree.
    pub clock: Clock,
}

impl StoreSettings {
    /// The defaults, for a Redis at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            partitions: PartitionCount(256),
            command_timeout: Duration::from_secs(1),
            max_in_flight: 512,
            idempotency_ttl: Duration::from_hours(1),
            memory_limit: 0.85,
            clock: Clock::told(),
        }
    }

    /// Reads the URL, connects to nothing. The error does not quote it.
    pub fn check_url(&self) -> Result<(), String> {
        // fred would take any scheme.
        let scheme = self.url.split_once("://").map_or("", |(scheme, _)| scheme);
        if !SCHEMES.contains(&scheme) {
            return Err(format!("expected one of {}://", SCHEMES.join("://, ")));
        }
        match Connector::new(&self.url, self.command_timeout) {
            Ok(_) => Ok(()),
            Err(StoreError::Misconfigured(why)) => Err(why.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The URL without what follows the scheme's user name: fit for a log.
    pub(super) fn masked_url(&self) -> String {
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return "(not a url)".into();
        };
        let (rest, query) = rest
            .split_once('?')
            .map_or((rest, None), |(r, q)| (r, Some(q)));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        let secret = if rest.contains('@') { "***@" } else { "" };
        let nodes: Vec<&str> = query
            .map(|query| {
                query
                    .split('&')
                    .filter(|part| !part.contains("assword"))
                    .collect()
            })
            .unwrap_or_default();
        let query = if nodes.is_empty() {
            String::new()
        } else {
            format!("?{}", nodes.join("&"))
        };
        format!("{scheme}://{secret}{host}{query}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let shown = |url: &str| StoreSettings::new(url).masked_url();
        assert_eq!(shown("redis://a:secret@h:1/0"), "redis://***@h:1/0");
        assert_eq!(shown("redis://h:1"), "redis://h:1");
        assert_eq!(
            shown("redis-sentinel://:s@h:1?sentinelServiceName=m&sentinelPassword=x&node=b:2"),
            "redis-sentinel://***@h:1?sentinelServiceName=m&node=b:2"
        );
    }
}
