//! The ops listener: metrics, probes and the log level; not for the public.
//!
//! It runs on a thread and a runtime of its own, so that it answers also when the process's
//! runtime is stuck or busy: that is when its answers matter most. It serves until the very end.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    health::{self, Health},
    logging::LogControl,
    metrics::Metrics,
};

/// What the listener shows and changes.
#[derive(Clone)]
pub struct Ops {
    /// For `/live`, `/ready`, `/health`.
    pub health: Health,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/log-level`.
    pub log: LogControl,
}

/// The running listener; it ends when this is dropped.
pub struct OpsServer {
    /// Where it really listens.
    pub address: SocketAddr,
    _stop: DropGuard,
}

/// Binds the address and serves it from a thread of its own.
pub fn serve(listen: SocketAddr, ops: Ops) -> io::Result<OpsServer> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    thread::Builder::new()
        .name("ops".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let listener = match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => return tracing::error!(%error, "the ops listener cannot serve"),
                };
                tokio::select! {
                    _ = axum::serve(listener, router(ops)) => {}
                    () = stopped.cancelled() => {}
                }
            });
        })?;
    Ok(OpsServer {
        address,
        _stop: stop.drop_guard(),
    })
}

fn router(ops: Ops) -> Router {
    let health = health::router(ops.health.clone());
    Router::new()
        .route("/metrics", get(metrics))
        .route("/log-level", get(log_level).put(set_log_level))
        .with_state(ops)
        .merge(health)
}

async fn metrics(State(ops): State<Ops>) -> Response {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        ops.metrics.render(),
    )
        .into_response()
}

async fn log_level(State(ops): State<Ops>) -> String {
    ops.log.level() + "\n"
}

/// The body is the level: `info`, or per module `info,gateway::session=debug`.
async fn set_log_level(State(ops): State<Ops>, level: String) -> Response {
    match ops.log.set_level(level.trim()) {
        Ok(()) => {
            tracing::info!(level = ops.log.level(), "the log level was changed");
            (ops.log.level() + "\n").into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Ipv4Addr, TcpStream},
        time::Duration,
    };

    use super::*;
    use crate::clock::Clock;

    fn ask(address: SocketAddr, request: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let length = body.len();
        write!(stream, "{request} HTTP/1.1\r\nhost: ops\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_listener_tells_metrics_and_health_and_changes_the_log_level() {
        let health = Health::new(Clock::system(), None);
        let ops = Ops {
            health: health.clone(),
            metrics: crate::metrics::install(&[crate::metrics::TABLE]),
            log: LogControl::none(),
        };
        let server = serve((Ipv4Addr::LOCALHOST, 0).into(), ops).unwrap();
        let get = |path: &str| ask(server.address, &format!("GET {path}"), "");

        assert!(get("/metrics").contains("tidegate_build_info"));
        assert!(get("/live").starts_with("HTTP/1.1 200"));
        assert!(get("/ready").starts_with("HTTP/1.1 200"));

        let check = health.check("redis", Duration::from_secs(30));
        check.starting("redis does not answer");
        let answer = get("/ready");
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.contains(
                r#"{"check":"redis","reason":"redis does not answer","status":"starting"}"#
            ),
            "{answer}"
        );
        assert!(get("/health").starts_with("HTTP/1.1 200"));
        check.ok(Duration::from_millis(3));
        assert!(get("/api/v1/health").contains(r#""latencyMs":3.0"#));
        check.degraded("slow");
        let answer = get("/ready");
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("degraded"),
            "{answer}"
        );

        assert!(ask(server.address, "PUT /log-level", "debug\n").starts_with("HTTP/1.1 200"));
        assert!(
            ask(server.address, "PUT /log-level", "loud=loud=loud").starts_with("HTTP/1.1 400")
        );
        assert!(get("/nothing").starts_with("HTTP/1.1 404"));

        let address = server.address;
        drop(server);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_ok() {
            assert!(
                std::time::Instant::now() < deadline,
                "the listener outlived its handle"
            );
        }
    }
}
