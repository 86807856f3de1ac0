//! Which web pages may open sockets.
//!
//! Browsers let any page open a socket to any host and send that host's cookies along; the
//! `Origin` header, which pages cannot forge, is the only protection. Other clients send
//! none and are free to.

use http::{
    HeaderMap,
    header::{HOST, ORIGIN},
};

/// The allow list.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    any: bool,
    allowed: Vec<String>,
}

/// What the request's `Origin` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// No page, or one that is only let in because all are.
    Neutral,
    /// Of the request's own host, or on the allow list by name: its cookies count.
    Trusted,
    /// Any other page.
    Foreign,
}

impl Origins {
    /// Origins like `https://app.example.com`; `*` for any, which makes no cookie count.
    pub fn new(allowed: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut origins = Self::default();
        for origin in allowed {
            match origin.as_ref() {
                "*" => origins.any = true,
                origin => origins.allowed.push(normal(origin)),
            }
        }
        origins
    }

    pub(super) fn standing(&self, headers: &HeaderMap) -> Standing {
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (None, _) => return Standing::Neutral,
            (Some(origin), None) => origin.to_str().ok().map(normal),
            (Some(_), Some(_)) => None,
        };
        let Some(origin) = origin else {
            return Standing::Foreign;
        };
        if self.allowed.contains(&origin) || is_own_host(&origin, headers) {
            Standing::Trusted
        } else if self.any {
            Standing::Neutral
        } else {
            Standing::Foreign
        }
    }
}

/// Scheme and host in lower case, without the scheme's own port.
fn normal(origin: &str) -> String {
    let origin = origin.trim().trim_end_matches('/').to_ascii_lowercase();
    for (scheme, port) in [("http://", ":80"), ("https://", ":443")] {
        if let Some(host) = origin.strip_prefix(scheme) {
            return format!("{scheme}{}", host.strip_suffix(port).unwrap_or(host));
        }
    }
    origin
}

/// Compares with `Host`. The scheme is not known here, TLS may end before this process.
fn is_own_host(origin: &str, headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    !host.is_empty()
        && ["http://", "https://"]
            .iter()
            .any(|scheme| normal(&format!("{scheme}{host}")) == origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(allowed: &[&str], host: &str, origins: &[&str]) -> Standing {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        for origin in origins {
            headers.append(ORIGIN, origin.parse().unwrap());
        }
        Origins::new(allowed).standing(&headers)
    }

    #[test]
    fn the_own_host_is_trusted_and_no_origin_is_neutral() {
        assert_eq!(standing(&[], "a.example", &[]), Standing::Neutral);
        assert_eq!(
            standing(&[], "a.example", &["https://A.example"]),
            Standing::Trusted
        );
        assert_eq!(
            standing(&[], "a.example:8080", &["http://a.example:8080"]),
            Standing::Trusted
        );
        assert_eq!(
            standing(&[], "a.example", &["https://a.example:443"]),
            Standing::Trusted
        );
    }

    #[test]
    fn other_pages_are_foreign() {
        for origin in [
            "https://b.example",
            "null",
            "",
            "https://a.example.b.example",
            "https://a.example:8443",
        ] {
            assert_eq!(
                standing(&[], "a.example", &[origin]),
                Standing::Foreign,
                "{origin}"
            );
        }
        let two = ["https://a.example", "https://b.example"];
        assert_eq!(standing(&two, "a.example", &two), Standing::Foreign);
    }

    #[test]
    fn the_allow_list_trusts_and_a_star_does_not() {
        let allowed = ["https://App.example/", "*"];
        assert_eq!(
            standing(&allowed, "a.example", &["https://app.example"]),
            Standing::Trusted
        );
        assert_eq!(
            standing(&allowed, "a.example", &["https://b.example"]),
            Standing::Neutral
        );
        assert_eq!(standing(&[], "", &["http://"]), Standing::Foreign);
    }
}
