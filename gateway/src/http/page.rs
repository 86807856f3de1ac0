//! The console: a small page with which people try things out, part of the binary, and the client
//! for TypeScript and JavaScript by which it, or any page, speaks to a gateway. The page is told
//! which other nodes there are, so that it can go on at one of them when its own is lost.

use axum::{
    Json, Router,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
    routing::get,
};
use serde_json::json;

macro_rules! asset {
    ($path:expr, $type:literal, $file:expr) => {
        (
            $path,
            $type,
            include_bytes!(concat!("../../assets/console/", $file)).as_slice(),
        )
    };
}

macro_rules! script {
    ($file:literal) => {
        asset!(concat!("/", $file), "text/javascript; charset=utf-8", $file)
    };
}

/// A file of the TypeScript client, as it was built.
macro_rules! client {
    ($file:literal) => {
        asset!(
            concat!("/client/", $file),
            "text/javascript; charset=utf-8",
            concat!("../client/", $file)
        )
    };
}

/// Path, content type and bytes.
const ASSETS: [(&str, &str, &[u8]); 22] = [
    asset!("/", "text/html; charset=utf-8", "index.html"),
    client!("connection.js"),
    client!("contracts.js"),
    client!("emitter.js"),
    client!("events.js"),
    client!("index.js"),
    client!("json.js"),
    client!("log.js"),
    client!("pulse.js"),
    client!("signals.js"),
    script!("app.js"),
    script!("categories.js"),
    script!("conversation.js"),
    script!("conversations.js"),
    script!("dom.js"),
    script!("participants.js"),
    script!("people.js"),
    script!("storage.js"),
    script!("talk.js"),
    script!("thread.js"),
    asset!("/style.css", "text/css; charset=utf-8", "style.css"),
    asset!("/talk.css", "text/css; charset=utf-8", "talk.css"),
];

/// The page may connect to its own node and, to survive that node's end, to the others and to the
/// origins that are allowed here.
fn policy(allowed_origins: &[String], nodes: &[String]) -> String {
    let mut connect = String::from("'self'");
    let others = nodes.iter().filter(|node| !allowed_origins.contains(node));
    for origin in allowed_origins.iter().chain(others) {
        connect.push(' ');
        connect.push_str(origin);
        // `https://x` becomes `wss://x`.
        if let Some(rest) = origin.strip_prefix("http") {
            connect.push_str(" ws");
            connect.push_str(rest);
        }
    }
    format!(
        "default-src 'self'; connect-src {connect}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
}

pub(super) fn routes(allowed_origins: &[String], nodes: &[String]) -> Router {
    let policy = policy(allowed_origins, nodes);
    let known = Json(json!({ "nodes": nodes }));
    let known = ([(header::CACHE_CONTROL, "no-cache")], known);
    let router = Router::new().route("/nodes.json", get(move || async move { known.clone() }));
    // Settings allow no control characters into an origin; should one get in, the page stays shut.
    let policy =
        HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    ASSETS
        .into_iter()
        .fold(router, |router, (path, kind, bytes)| {
            let headers: [(HeaderName, HeaderValue); 5] = [
                (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
                (header::CONTENT_SECURITY_POLICY, policy.clone()),
                (
                    header::X_CONTENT_TYPE_OPTIONS,
                    HeaderValue::from_static("nosniff"),
                ),
                (
                    header::REFERRER_POLICY,
                    HeaderValue::from_static("no-referrer"),
                ),
            ];
            router.route(
                path,
                get(move || async move { (headers, bytes).into_response() }),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_script_imports_is_served() {
        let mut imported = 0;
        for (path, _, bytes) in ASSETS {
            let (folder, _) = path.rsplit_once('/').unwrap();
            let text = String::from_utf8_lossy(bytes);
            let from = text.lines().filter_map(|line| line.split_once(" from '"));
            for (_, rest) in from {
                let name = rest.split('\'').next().unwrap_or_default();
                let wanted = match name.strip_prefix("./") {
                    Some(beside) => format!("{folder}/{beside}"),
                    None => name.to_owned(),
                };
                let is_it = |(path, ..): &(&str, &str, &[u8])| *path == wanted;
                assert!(ASSETS.iter().any(is_it), "{path} imports {name}");
                imported += 1;
            }
        }
        assert!(imported > 10, "{imported}");
    }
}
