//! What a command may reach. Small on purpose: a field here is a field every command sees.

mod directory;
mod limiter;
mod reused_ids;
mod seams;
mod users;

use std::sync::Arc;

use shared::{domain::Durability, lifecycle::Lifecycle, postgres::Postgres, redis::Store};

pub use directory::Directory;
pub use limiter::{Limiter, Rate};
pub use reused_ids::ReusedIds;
pub use users::{Profile, Users};

use crate::fanout::Fanout;

/// What commands obey.
#[derive(Debug, Clone, Copy)]
pub struct AppSettings {
    /// What "accepted" means where a request does not say.
    pub durability: Durability,
    /// Requests of one user that create or change something.
    pub requests: Rate,
}

/// The context of commands and of REST.
pub struct App {
    /// Logs, cursors, sessions.
    pub store: Store,
    /// The record.
    pub postgres: Postgres,
    /// The sockets of this node.
    pub fanout: Arc<Fanout>,
    /// Who exists.
    pub users: Arc<Users>,
    /// The categories; hears what administrators change.
    pub directory: Arc<Directory>,
    /// Requests per user, on this node.
    pub limiter: Limiter,
    /// For whom senders' request ids were used, on this node.
    pub reused_ids: ReusedIds,
    /// What "accepted" means where a request does not say.
    pub durability: Durability,
}

impl App {
    /// Puts the parts together.
    pub fn start(
        store: Store,
        postgres: Postgres,
        fanout: Arc<Fanout>,
        settings: AppSettings,
        lifecycle: &Lifecycle,
    ) -> Arc<Self> {
        let closing = fanout.clone();
        let on_ban = Box::new(move |user| seams::close_banned(&closing, user));
        let users = Users::start(postgres.clone(), on_ban, lifecycle);
        let directory = Directory::start(postgres.clone(), users.clone(), lifecycle);
        let hearing = directory.clone();
        seams::on_directory_change(&fanout, move |change| hearing.hear(&change));
        Arc::new(Self {
            users,
            directory,
            limiter: Limiter::new(settings.requests),
            reused_ids: ReusedIds::new(store.idempotency_ttl()),
            store,
            postgres,
            fanout,
            durability: settings.durability,
        })
    }
}
