//! Where a request really comes from, behind load balancers.

use std::net::IpAddr;

/// Addresses and networks, like `10.0.0.0/8`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<(u128, u32)>);

/// IPv4 addresses count as the IPv6 addresses they are mapped to.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn prefix(address: u128, bits: u32) -> u128 {
    address.checked_shr(128 - bits).unwrap_or(0)
}

impl Networks {
    /// Reads a list; the error is the item that is none.
    pub fn parse(items: &[String]) -> Result<Self, String> {
        let network = |item: &String| {
            let (address, bits) = item
                .split_once('/')
                .map_or((item.as_str(), None), |(a, b)| (a, Some(b)));
            let address: IpAddr = address.trim().parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits: u32 = bits
                .map_or(Some(most), |bits| bits.parse().ok())
                .filter(|bits| *bits <= most)?;
            let bits = bits + 128 - most;
            Some((prefix(number(address), bits), bits))
        };
        items
            .iter()
            .map(|item| network(item).ok_or_else(|| item.clone()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// True if the address lies in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = number(address);
        self.0
            .iter()
            .any(|(network, bits)| prefix(address, *bits) == *network)
    }

    /// The client behind these proxies: the peer, unless that is one of them; then the last
    /// address of `X-Forwarded-For` that is none. What stands before it may be invented.
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut client = peer;
        for hop in forwarded_for.flat_map(|line| line.split(',')).rev() {
            if !self.contain(client) {
                break;
            }
            match hop.trim().parse() {
                Ok(address) => client = address,
                Err(_) => break,
            }
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(items: &[&str]) -> Networks {
        Networks::parse(&items.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn networks_contain_their_addresses() {
        let inside = networks(&["10.0.0.0/8", "192.168.1.7", "fd00::/8", "::1"]);
        for address in [
            "10.255.0.1",
            "192.168.1.7",
            "fd12::1",
            "::1",
            "::ffff:10.1.1.1",
        ] {
            assert!(inside.contain(address.parse().unwrap()), "{address}");
        }
        for address in ["11.0.0.1", "192.168.1.8", "fe80::1", "::2"] {
            assert!(!inside.contain(address.parse().unwrap()), "{address}");
        }
        assert!(networks(&["0.0.0.0/0"]).contain("8.8.8.8".parse().unwrap()));
        for wrong in ["", "10.0.0.0/33", "example.com", "1.2.3.4/x", "::/129"] {
            assert_eq!(Networks::parse(&[wrong.to_owned()]), Err(wrong.to_owned()));
        }
    }

    #[test]
    fn only_proxies_may_say_who_the_client_is() {
        let proxies = networks(&["10.0.0.0/8"]);
        let client = |peer: &str, lines: &[&str]| {
            proxies
                .client(peer.parse().unwrap(), lines.iter().copied())
                .to_string()
        };
        assert_eq!(client("8.8.8.8", &["1.1.1.1"]), "8.8.8.8");
        assert_eq!(client("10.0.0.1", &["1.1.1.1"]), "1.1.1.1");
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"]),
            "1.1.1.1"
        );
        assert_eq!(client("10.0.0.1", &["6.6.6.6", "1.1.1.1"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }
}
