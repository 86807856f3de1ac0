//! Connections of the public port.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::{domain::SessionId, lifecycle::Lifecycle};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::{
    Peer, refused,
    upgrade::{self, Door},
};
use crate::session::Host;

/// Connections that may wait to be accepted. The usual 128 turn a storm of reconnects into
/// one-second retransmits; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Rest after an accept that failed for want of something, mostly file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens a listening socket that does not accept yet.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What answers the public port.
pub struct Server<H> {
    /// Where sockets come in, once Redis has answered.
    pub door: Arc<OnceLock<Door<H>>>,
    /// Everything else.
    pub router: Router,
    /// Counts the connections.
    pub lifecycle: Lifecycle,
    /// Fires when nothing more is accepted; open connections finish their request. Sockets are
    /// not touched.
    pub closing: CancellationToken,
}

impl<H: Host> Server<H> {
    /// Accepts connections until `closing`.
    pub async fn run(self, listener: TcpListener) {
        let server = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = server.closing.cancelled() => return,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    let connection = server.clone().connection(tcp, peer);
                    server.lifecycle.spawn("http connection", connection);
                }
                // The client gave up before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, peer: SocketAddr) {
        if tcp.set_nodelay(true).is_err() {
            // The client is gone already.
            return;
        }
        let service = service_fn(|request| self.answer(request, peer));
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(tcp), service)
                .with_upgrades()
        );
        let served = tokio::select! {
            served = &mut connection => served,
            () = self.closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "http connection failed");
        }
    }

    fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<H> {
        let response = if upgrade::is_socket(request.uri().path()) {
            Ok(match self.door.get() {
                Some(door) => door.upgrade(request),
                None => refused::starting(&SessionId(Uuid::now_v7()).to_string()),
            })
        } else {
            request.extensions_mut().insert(Peer(peer));
            Err((self.router.clone(), request))
        };
        async move {
            match response {
                Ok(response) => Ok(response),
                Err((router, request)) => router.oneshot(request.map(Body::new)).await,
            }
        }
    }
}
