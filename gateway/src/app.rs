//! What a command may reach. Small on purpose: a field here is a field every command sees.

mod bans;
pub mod calls;
pub mod conversations;
mod directory;
pub mod disconnects;
pub mod limiter;
mod reused_ids;
mod sight;
pub mod texts;
mod users;

use std::{sync::Arc, time::Duration};

use shared::{domain::Durability, lifecycle::Lifecycle, postgres::Postgres, redis::Store};

pub use calls::{CallSettings, Calls};
pub use conversations::{ConversationSettings, Conversations};
pub use directory::Directory;
pub use disconnects::{Disconnect, DisconnectReason, DisconnectSink, Disconnects};
pub use limiter::{Bucket, Limiter, Limits, Rate};
pub use reused_ids::ReusedIds;
pub use sight::{Sights, Visibility};
pub use texts::Texts;
pub use users::{Profile, Users};

use crate::fanout::{CloseReason, Fanout};

/// What commands obey.
pub struct AppSettings {
    /// What "accepted" means where a request does not say.
    pub durability: Durability,
    /// How much a user may do.
    pub limits: Limits,
    /// How conversations are treated.
    pub conversations: ConversationSettings,
    /// How long the sender of a message may change it.
    pub edit_window: Duration,
    /// What becomes of texts at rest and when they are shown.
    pub texts: Arc<Texts>,
    /// Who may see how others appear.
    pub visibility: Visibility,
    /// How calls are treated.
    pub calls: CallSettings,
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
    /// Who takes part in conversations, and what is said there.
    pub conversations: Arc<Conversations>,
    /// Texts at rest and as they are shown.
    pub texts: Arc<Texts>,
    /// Who is in a call.
    pub calls: Arc<Calls>,
    /// How long the sender of a message may change it.
    pub edit_window: Duration,
    /// How much users may do, over all nodes.
    pub limiter: Limiter,
    /// For whom senders' request ids were used, on this node.
    pub reused_ids: ReusedIds,
    /// What "accepted" means where a request does not say.
    pub durability: Durability,
    /// Told of each socket that ends.
    pub disconnects: Disconnects,
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
        let on_ban = Box::new(move |user| closing.close_user(user, CloseReason::Banned));
        let users = Users::start(postgres.clone(), on_ban, lifecycle);
        let directory = Directory::start(postgres.clone(), users.clone(), lifecycle);
        let hearing = directory.clone();
        fanout.on_directory_change(Box::new(move |change| hearing.hear(&change)));
        let conversations = Conversations::new(
            store.clone(),
            postgres.clone(),
            settings.conversations,
            lifecycle.clone(),
        );
        fanout.ask_for_rights(conversations.clone());
        fanout.ask_for_sight(Arc::new(Sights::new(postgres.clone(), settings.visibility)));
        let calls = Calls::start(
            store.clone(),
            &fanout,
            settings.calls,
            settings.durability,
            lifecycle,
        );
        let revealing = settings.texts.clone();
        fanout.reveal_by(Arc::new(move |entry| revealing.reveal(entry)));
        Arc::new(Self {
            users,
            directory,
            conversations,
            calls,
            texts: settings.texts,
            edit_window: settings.edit_window,
            limiter: Limiter::start(store.clone(), settings.limits, lifecycle),
            reused_ids: ReusedIds::new(store.idempotency_ttl()),
            store,
            postgres,
            fanout,
            durability: settings.durability,
            disconnects: Disconnects::default(),
        })
    }
}
