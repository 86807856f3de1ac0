//! Which dialect a socket gets.

use super::{DialectId, TABLE};

/// What was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The dialect.
    pub dialect: DialectId,
    /// What `Sec-WebSocket-Protocol` answers; none if none was offered.
    pub subprotocol: Option<&'static str>,
}

/// Only dialects were asked for that are not served here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("none of the protocols asked for is served")]
pub struct Unserved;

/// Chooses: the client's first offered subprotocol that is served, else `?protocol=`, else
/// the default. `offered` are the values of `Sec-WebSocket-Protocol`, each a
/// comma-separated list.
pub fn negotiate<'a>(
    offered: impl IntoIterator<Item = &'a str>,
    parameter: Option<&str>,
) -> Result<Negotiated, Unserved> {
    let mut any = false;
    for token in offered
        .into_iter()
        .flat_map(|list| list.split(','))
        .map(str::trim)
    {
        if token.is_empty() {
            continue;
        }
        any = true;
        for dialect in DialectId::ALL {
            let known = TABLE[dialect.index()]
                .subprotocols
                .iter()
                .find(|name| **name == token);
            if let Some(subprotocol) = known {
                return Ok(Negotiated {
                    dialect,
                    subprotocol: Some(subprotocol),
                });
            }
        }
    }
    if any {
        return Err(Unserved);
    }
    let dialect = match parameter {
        None => DialectId::Json,
        Some(name) => DialectId::ALL
            .into_iter()
            .find(|dialect| dialect.name() == name)
            .ok_or(Unserved)?,
    };
    Ok(Negotiated {
        dialect,
        subprotocol: None,
    })
}

/// The subprotocols served, for the body of a refusal.
pub fn served() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|codec| codec.subprotocols).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_means_json_without_an_echo() {
        let expected = Negotiated {
            dialect: DialectId::Json,
            subprotocol: None,
        };
        assert_eq!(negotiate([], None), Ok(expected));
        assert_eq!(negotiate([" , "], None), Ok(expected));
        assert_eq!(negotiate([], Some("json")), Ok(expected));
    }

    #[test]
    fn first_offered_that_is_served_is_echoed() {
        let agreed = negotiate(["x.v1, tidegate.json.v1", "v12.stomp"], Some("stomp"));
        let expected = Negotiated {
            dialect: DialectId::Json,
            subprotocol: Some("tidegate.json.v1"),
        };
        assert_eq!(agreed, Ok(expected));
    }

    #[test]
    fn stomp_is_asked_for_by_version_or_by_name() {
        let agreed = |subprotocol| {
            let dialect = DialectId::Stomp;
            Ok(Negotiated {
                dialect,
                subprotocol,
            })
        };
        let all = ["v12.stomp, v11.stomp, v10.stomp"];
        assert_eq!(negotiate(all, None), agreed(Some("v12.stomp")));
        assert_eq!(negotiate(["v10.stomp"], None), agreed(Some("v10.stomp")));
        assert_eq!(negotiate([], Some("stomp")), agreed(None));
    }

    #[test]
    fn events_are_asked_for_by_subprotocol_or_by_name() {
        let agreed = |subprotocol| {
            let dialect = DialectId::Events;
            Ok(Negotiated {
                dialect,
                subprotocol,
            })
        };
        let name = "tidegate.events.v1";
        assert_eq!(negotiate([name], Some("json")), agreed(Some(name)));
        assert_eq!(negotiate([], Some("events")), agreed(None));
    }

    #[test]
    fn what_is_not_served_is_refused() {
        assert_eq!(negotiate(["graphql-ws"], None), Err(Unserved));
        assert_eq!(negotiate([], Some("event")), Err(Unserved));
        assert_eq!(negotiate([], Some("")), Err(Unserved));
        let all = [
            "tidegate.json.v1",
            "v12.stomp",
            "v11.stomp",
            "v10.stomp",
            "tidegate.events.v1",
        ];
        assert_eq!(served().collect::<Vec<_>>(), all);
    }
}
