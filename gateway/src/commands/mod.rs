//! What a client may ask: one file per request, one table, one way through.
//!
//! Knows neither sockets nor dialects: a request comes as a name and the text of a JSON
//! object, the answer goes back as a name and an object, or as a [`Refusal`].
//!
//! **Idempotency.** A request that creates carries the sender and the client's id as its key,
//! checked by the same atomic step that appends. The key lives with the recipient's log; see
//! [`create`] for what that means.

mod broadcast;
mod call;
mod cancel;
pub mod chat;
mod complete;
mod create;
mod end;
mod find;
mod heartbeat;
mod look;
mod metrics;
mod ping;
mod preferences;
mod presence;
mod queue;
mod record;

#[cfg(test)]
mod tests;

use std::{pin::Pin, sync::Arc, time::Duration};

use shared::{
    domain::{Code, Device, Refusal, SessionId, UserId},
    logging::{Ids, Name},
    postgres::Role,
};
use tokio::time::{Instant, timeout};

pub use look::{Seen, look};
pub use metrics::TABLE as METRICS;

use crate::{
    app::{App, Bucket},
    dialect::{Json, Request},
};
use metrics::{DURATION, Name as Label, Outcome, REQUESTS};

/// Longest a request may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Who asks over a socket. Never changes during a session.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user, as the token says.
    pub user: UserId,
    /// The socket.
    pub session: SessionId,
    /// The user's device.
    pub device: Device,
}

impl Caller {
    /// What lines about it are marked with.
    pub fn ids(&self) -> Ids {
        Ids {
            session: Some(self.session),
            user: Some(self.user),
            ..Ids::default()
        }
    }
}

/// Who asks, over a socket or over REST.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// The user, as the token says.
    pub user: UserId,
    /// The socket, if it is one.
    pub session: Option<SessionId>,
    /// What they act as over REST, if as staff. Whoever looked at that has counted the request.
    pub staff: Option<Role>,
}

impl Asker {
    /// A user without a socket.
    pub fn over_rest(user: UserId) -> Self {
        Self {
            user,
            session: None,
            staff: None,
        }
    }

    /// May send to everybody whatever the user's groups are.
    fn may_allcast(&self) -> bool {
        self.staff == Some(Role::Admin)
    }

    fn ids(&self) -> Ids {
        Ids {
            session: self.session,
            user: Some(self.user),
            ..Ids::default()
        }
    }
}

impl From<&Caller> for Asker {
    fn from(caller: &Caller) -> Self {
        Self {
            session: Some(caller.session),
            ..Self::over_rest(caller.user)
        }
    }
}

/// A positive answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// For example `command.accepted`.
    pub name: &'static str,
    /// A JSON object.
    pub payload: Json,
    /// Sent also to a request without an id, for an answer was all it wanted; see the protocol.
    pub always: bool,
}

impl Reply {
    /// The acknowledgement of a request that changed something.
    fn acknowledge(name: &'static str, payload: Json) -> Self {
        Self {
            name,
            payload,
            always: false,
        }
    }

    /// The answer to a question.
    fn answer(name: &'static str, payload: Json) -> Self {
        Self {
            name,
            payload,
            always: true,
        }
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send + 'a>>;

/// Whether a request counts against the user's allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cost {
    /// It only asks.
    Free,
    /// It creates or changes something.
    Message,
}

/// One thing a client may ask.
pub struct Command {
    /// The name of the request.
    pub name: &'static str,
    label: Label,
    cost: Cost,
    run: for<'a> fn(&'a Arc<App>, &'a Asker, &'a Request) -> Running<'a>,
}

/// Everything a client may ask. `authenticate` and `ack` are matters of the session.
pub static TABLE: &[Command] = &[
    Command {
        name: "ping",
        label: Label::Ping,
        cost: Cost::Free,
        run: |_, _, _| Box::pin(async { Ok(ping::run()) }),
    },
    Command {
        name: "heartbeat",
        label: Label::Heartbeat,
        cost: Cost::Free,
        run: |app, _, request| Box::pin(async { heartbeat::run(app, request) }),
    },
    Command {
        name: "command.create",
        label: Label::CommandCreate,
        cost: Cost::Message,
        run: |app, caller, request| Box::pin(create::run(app, caller, request)),
    },
    Command {
        name: "command.queue",
        label: Label::CommandQueue,
        cost: Cost::Free,
        run: |app, caller, request| Box::pin(queue::run(app, caller, request)),
    },
    Command {
        name: "command.complete",
        label: Label::CommandComplete,
        cost: Cost::Message,
        run: |app, caller, request| Box::pin(complete::run(app, caller, request)),
    },
    Command {
        name: "command.cancel",
        label: Label::CommandCancel,
        cost: Cost::Message,
        run: |app, caller, request| Box::pin(cancel::run(app, caller, request)),
    },
    Command {
        name: "preferences.get",
        label: Label::PreferencesGet,
        cost: Cost::Free,
        run: |app, caller, _| Box::pin(preferences::get(app, caller)),
    },
    Command {
        name: "preferences.update",
        label: Label::PreferencesUpdate,
        cost: Cost::Message,
        run: |app, caller, request| Box::pin(preferences::update(app, caller, request)),
    },
    Command {
        name: "chat.message",
        label: Label::ChatMessage,
        cost: Cost::Message,
        run: |app, caller, request| Box::pin(chat::send(app, caller, request)),
    },
    Command {
        name: "message.edit",
        label: Label::MessageEdit,
        cost: Cost::Message,
        run: |app, caller, request| Box::pin(chat::edit(app, caller, request)),
    },
    Command {
        name: "message.delete",
        label: Label::MessageDelete,
        cost: Cost::Message,
        run: |app, caller, request| Box::pin(chat::delete(app, caller, request)),
    },
    Command {
        name: "mark.delivered",
        label: Label::MarkDelivered,
        cost: Cost::Message,
        run: |app, caller, request| Box::pin(chat::delivered(app, caller, request)),
    },
    Command {
        name: "mark.read",
        label: Label::MarkRead,
        cost: Cost::Message,
        run: |app, caller, request| Box::pin(chat::read(app, caller, request)),
    },
    Command {
        name: "user.status",
        label: Label::UserStatus,
        cost: Cost::Message,
        run: |app, caller, request| Box::pin(presence::update(app, caller, request)),
    },
    Command {
        name: "presence.update",
        label: Label::PresenceUpdate,
        cost: Cost::Message,
        run: |app, caller, request| Box::pin(presence::update(app, caller, request)),
    },
    Command {
        name: "presence.query",
        label: Label::PresenceQuery,
        cost: Cost::Free,
        run: |app, caller, request| Box::pin(presence::query(app, caller, request)),
    },
    Command {
        name: "typing.start",
        label: Label::TypingStart,
        cost: Cost::Free,
        run: |app, caller, request| Box::pin(chat::typing_start(app, caller, request)),
    },
    Command {
        name: "typing.stop",
        label: Label::TypingStop,
        cost: Cost::Free,
        run: |app, caller, request| Box::pin(chat::typing_stop(app, caller, request)),
    },
    Command {
        name: "call.offer",
        label: Label::CallOffer,
        cost: Cost::Message,
        run: |app, caller, request| Box::pin(call::offer(app, caller, request)),
    },
    Command {
        name: "call.answer",
        label: Label::CallAnswer,
        cost: Cost::Message,
        run: |app, caller, request| Box::pin(call::answer(app, caller, request)),
    },
    Command {
        name: "call.ice",
        label: Label::CallIce,
        cost: Cost::Free,
        run: |app, caller, request| Box::pin(call::ice(app, caller, request)),
    },
    Command {
        name: "call.hangup",
        label: Label::CallHangup,
        cost: Cost::Free,
        run: |app, caller, request| Box::pin(call::hangup(app, caller, request)),
    },
];

/// Runs a request: finds it, counts it, holds it to its limits and its deadline.
pub async fn run(
    app: &Arc<App>,
    asker: impl Into<Asker>,
    request: &Request,
) -> Result<Reply, Refusal> {
    let asker = asker.into();
    let begun = Instant::now();
    let command = TABLE.iter().find(|command| command.name == &*request.name);
    let label = command.map_or(Label::Unknown, |command| command.label);
    let result = match command {
        Some(command) => {
            let ids = Ids {
                request: request.id.as_ref().and_then(|id| Name::new(id.as_str())),
                asked: Some(command.name),
                ..asker.ids()
            };
            let in_time = async {
                if command.cost == Cost::Message && asker.staff.is_none() {
                    app.limiter.take(asker.user, Bucket::Requests).await?;
                }
                timeout(DEADLINE, (command.run)(app, &asker, request))
                    .await
                    .unwrap_or_else(|_| Err(too_late()))
            };
            ids.during(in_time).await
        }
        None => Err(Refusal::new(Code::UnknownType, "no request has this name")),
    };
    if let Err(refusal) = &result
        && matches!(refusal.code, Code::Forbidden | Code::Unauthorized)
    {
        let (user, asked, code) = (asker.user, &*request.name, refusal.code);
        let session = asker.session.map(tracing::field::display);
        tracing::info!(event = "denied", session, %user, asked, %code, "request refused");
    }
    let outcome = result
        .as_ref()
        .map_or_else(|refusal| refusal.code.into(), |_| Outcome::Ok);
    REQUESTS.of((label, outcome)).increment(1);
    DURATION.of(label).record(begun.elapsed().as_secs_f64());
    result
}

fn too_late() -> Refusal {
    Refusal::new(
        Code::Unavailable,
        "not done in time; try again with the same id",
    )
    .retry_after(Duration::from_secs(1))
}
