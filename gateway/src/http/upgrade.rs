//! From an HTTP request to a socket: origin, dialect, query, admission, token. What is
//! refused is refused here, as HTTP, before anything is kept for it.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE},
};
use hyper_tungstenite::HyperWebsocket;
use hyper_util::rt::TokioIo;
use shared::domain::{Code, Device, Position, Refusal, SessionId};
use tokio::net::TcpStream;
use tungstenite::protocol::WebSocketConfig;
use uuid::Uuid;

use super::{
    admission::Admission,
    credentials::{self, Parameters},
    metrics::{Outcome, REQUESTS, Route},
    origin::{Origins, Standing},
    refused::Refused,
};
use crate::{
    dialect,
    session::{self, AckMode, Arrival, Host},
};

/// True for the paths that are sockets.
pub(super) fn is_socket(path: &str) -> bool {
    matches!(path, "/api/ws" | "/ws")
}

/// Where sockets come in.
pub struct Door<H> {
    host: Arc<H>,
    origins: Origins,
    admission: Admission,
}

impl<H: Host> Door<H> {
    /// A door to `host`.
    pub fn new(host: Arc<H>, origins: Origins, admission: Admission) -> Self {
        Self {
            host,
            origins,
            admission,
        }
    }

    /// How many sockets there are, and may be.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Answers an upgrade request; if it is accepted, the socket is opened by a task of its
    /// own once the answer is written.
    pub(super) fn upgrade<B>(&self, mut request: Request<B>) -> Response<Body> {
        let id = SessionId(Uuid::now_v7());
        let accepted = self.accept(&mut request, id);
        let status = accepted
            .as_ref()
            .map_or_else(|refused| refused.status.as_u16(), |_| 101);
        REQUESTS
            .of((Route::Upgrade, Outcome::of(status)))
            .increment(1);
        match accepted {
            Ok((response, websocket, arrival)) => {
                let host = self.host.clone();
                self.host.spawn(Box::pin(async move {
                    if let Some((tcp, early)) = stream(websocket).await {
                        session::open(host, arrival, tcp, early).await;
                    } else {
                        tracing::debug!(session = %id, "client left during the upgrade");
                    }
                }));
                response
            }
            Err(refused) => {
                log_refused(id, &refused);
                refused.into_response(&id.to_string())
            }
        }
    }

    fn accept<B>(
        &self,
        request: &mut Request<B>,
        session: SessionId,
    ) -> Result<(Response<Body>, HyperWebsocket, Arrival), Refused> {
        check_upgrade(request)?;
        if self.host.closing().is_cancelled() {
            let refusal = Refusal::new(Code::Unavailable, "this node is going away");
            let refusal = refusal.retry_after(std::time::Duration::from_secs(1));
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, refusal));
        }
        let standing = self.origins.standing(request.headers());
        if standing == Standing::Foreign {
            let refusal = Refusal::new(Code::Forbidden, "this origin may not open sockets");
            return Err(Refused::new(StatusCode::FORBIDDEN, refusal));
        }
        let mut parameters = Parameters::read(request.uri()).map_err(bad_request)?;
        let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let offered = offered.map(|value| value.to_str().unwrap_or("?"));
        let agreed = dialect::negotiate(offered, parameters.protocol.as_deref())
            .map_err(|unserved| bad_request(unserved_message(unserved)))?;
        let (device, after, acks) = read(&parameters)?;
        // Before the token is looked at, which is what costs.
        let permit = self
            .admission
            .admit()
            .map_err(|refusal| Refused::new(StatusCode::SERVICE_UNAVAILABLE, refusal))?;
        let cookies = standing == Standing::Trusted;
        let token = credentials::token(request.headers(), parameters.token.take(), cookies);
        let identified = match token {
            Some(token) => self.host.identify(&token).map(Some),
            None if agreed.dialect.authenticates_in_band() => Ok(None),
            None => Err(Refusal::new(Code::Unauthorized, "no token")),
        };
        let identity = match identified {
            Err(refusal)
                if refusal.code == Code::Unauthorized && agreed.dialect.refuses_by_closing() =>
            {
                let (reason, code) = (&*refusal.message, refusal.code.as_str());
                tracing::info!(event = "denied", %session, code, reason, "socket refused by closing it");
                None
            }
            identified => identified.map_err(unauthorized)?,
        };
        // The socket's own buffers come later; these are dropped at once.
        let config = WebSocketConfig::default()
            .read_buffer_size(64)
            .write_buffer_size(0);
        let (response, websocket) = hyper_tungstenite::upgrade(request, Some(config))
            .map_err(|error| bad_request(error.to_string()))?;
        let mut response = response.map(Body::new);
        if let Some(name) = agreed.subprotocol {
            let name = HeaderValue::from_static(name);
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
        }
        let arrival = Arrival {
            session,
            dialect: agreed.dialect,
            device,
            after,
            acks,
            identity,
            permit,
        };
        Ok((response, websocket, arrival))
    }
}

/// A node that is full or starting refuses by the thousand, and counts that.
fn log_refused(session: SessionId, refused: &Refused) {
    let (status, code) = (refused.status.as_u16(), refused.refusal.code.as_str());
    let reason = &*refused.refusal.message;
    if refused.status.is_server_error() {
        tracing::debug!(%session, status, code, reason, "upgrade refused");
    } else {
        let event = match refused.refusal.code {
            Code::Unauthorized | Code::Forbidden => Some("denied"),
            _ => None,
        };
        tracing::info!(event, %session, status, code, reason, "upgrade refused");
    }
}

/// The TCP connection below, and what the client sent right behind its request.
async fn stream(websocket: HyperWebsocket) -> Option<(TcpStream, Bytes)> {
    let upgraded = websocket.await.ok()?.into_inner().into_inner();
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

fn check_upgrade<B>(request: &Request<B>) -> Result<(), Refused> {
    if request.method() != Method::GET {
        let refusal = Refusal::new(Code::BadRequest, "sockets are opened by GET");
        let allow = (http::header::ALLOW, "GET");
        return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, refusal).with(allow.0, allow.1));
    }
    if !hyper_tungstenite::is_upgrade_request(request) || request.version() != Version::HTTP_11 {
        let refusal = Refusal::new(Code::BadRequest, "this is a WebSocket endpoint");
        return Err(Refused::new(StatusCode::UPGRADE_REQUIRED, refusal)
            .with(UPGRADE, "websocket")
            .with(http::header::CONNECTION, "upgrade"));
    }
    if request
        .headers()
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        let refusal = Refusal::new(Code::BadRequest, "only version 13 is served");
        return Err(Refused::new(StatusCode::UPGRADE_REQUIRED, refusal)
            .with(SEC_WEBSOCKET_VERSION, "13")
            .with(UPGRADE, "websocket"));
    }
    Ok(())
}

fn read(parameters: &Parameters) -> Result<(Device, Option<Position>, AckMode), Refused> {
    let device = parameters
        .device
        .as_deref()
        .map(str::parse::<Device>)
        .transpose();
    let device = device
        .map_err(|_| bad_request("device: at most 64 of A-Z, a-z, 0-9, dot, underscore, dash"))?;
    let after = parameters
        .after
        .as_deref()
        .map(str::parse::<Position>)
        .transpose();
    let after = after.map_err(|error| bad_request(format!("after: {error}")))?;
    let acks = match parameters.ack.as_deref() {
        None | Some("auto") => AckMode::Auto,
        Some("client") => AckMode::Client,
        Some(_) => return Err(bad_request("ack: expected auto or client")),
    };
    Ok((device.unwrap_or_default(), after, acks))
}

fn unserved_message(unserved: dialect::Unserved) -> String {
    let served: Vec<_> = dialect::served().collect();
    format!("{unserved}; served are: {}", served.join(", "))
}

fn bad_request(message: impl Into<std::borrow::Cow<'static, str>>) -> Refused {
    Refused::new(
        StatusCode::BAD_REQUEST,
        Refusal::new(Code::BadRequest, message),
    )
}

fn unauthorized(refusal: Refusal) -> Refused {
    if refusal.code == Code::Unavailable {
        return Refused::new(StatusCode::SERVICE_UNAVAILABLE, refusal);
    }
    Refused::new(StatusCode::UNAUTHORIZED, refusal).with(
        WWW_AUTHENTICATE,
        "Bearer realm=\"tidegate\", error=\"invalid_token\"",
    )
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "upgrade_fuzz.rs"]
mod fuzz;
