//! Who exists, and under which name. Read from Postgres and remembered, so that commands
//! between users who were seen before go on while Postgres is away.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use moka::future::Cache;
use parking_lot::RwLock;
use shared::{
    domain::{Code, Refusal, UserId},
    lifecycle::Lifecycle,
    postgres::{Postgres, User, UserStatus},
};
use tokio::time::Instant;

use crate::fanout::postgres_refusal;

/// Most users remembered; about 200 bytes each.
const CAPACITY: u64 = 200_000;
/// After this long without use a user is forgotten.
const FORGET_AFTER: Duration = Duration::from_hours(24);
/// After this long Postgres is asked again, beside the request.
const FRESH_FOR: Duration = Duration::from_mins(1);
/// How often a node learns who is banned.
const BANS_INTERVAL: Duration = Duration::from_secs(3);

/// What commands need to know of a user.
#[derive(Debug)]
pub struct Profile {
    /// The display name, or the name they log in with.
    pub name: String,
    /// Whether they may take part.
    pub status: UserStatus,
    read_at: Instant,
    refreshing: AtomicBool,
}

impl Profile {
    fn of(user: User) -> Arc<Self> {
        Arc::new(Self {
            name: user.display_name.unwrap_or(user.username),
            status: user.status,
            read_at: Instant::now(),
            refreshing: AtomicBool::new(false),
        })
    }
}

/// The directory of users.
pub struct Users {
    postgres: Postgres,
    lifecycle: Lifecycle,
    known: Cache<UserId, Arc<Profile>>,
    banned: Arc<RwLock<HashSet<UserId>>>,
}

impl Users {
    pub(super) fn new(postgres: Postgres, lifecycle: Lifecycle) -> Self {
        let known = Cache::builder()
            .max_capacity(CAPACITY)
            .time_to_idle(FORGET_AFTER)
            .build();
        let banned = Arc::default();
        let following = Self::follow_bans(postgres.clone(), Arc::clone(&banned));
        let life = lifecycle.clone();
        lifecycle.spawn("follow bans", async move {
            tokio::select! {
                () = following => {}
                () = life.stopping() => {}
            }
        });
        Self {
            postgres,
            lifecycle,
            known,
            banned,
        }
    }

    /// The user, or `not_found`; `unavailable` if that cannot be told now.
    pub async fn get(&self, id: UserId) -> Result<Arc<Profile>, Refusal> {
        if let Some(profile) = self.known.get(&id).await {
            self.refresh_if_old(id, &profile);
            return Ok(profile);
        }
        // Many requests for the same user ask once.
        let read = async {
            match self.postgres.user_by_id(id).await {
                Ok(Some(user)) => Ok(Profile::of(user)),
                Ok(None) => Err(Refusal::new(Code::NotFound, "no such user")),
                Err(error) => Err(postgres_refusal(&error)),
            }
        };
        self.known
            .try_get_with(id, read)
            .await
            .map_err(|refusal| (*refusal).clone())
    }

    /// Whether the user may take no part, as of some seconds ago at most; while Postgres is away,
    /// as it was before. Costs no round trip: every socket that opens asks.
    pub fn is_banned(&self, id: UserId) -> bool {
        self.banned.read().contains(&id)
    }

    /// The task that learns who is banned.
    async fn follow_bans(postgres: Postgres, banned: Arc<RwLock<HashSet<UserId>>>) {
        loop {
            match postgres.banned_users().await {
                Ok(now) => *banned.write() = now.into_iter().collect(),
                Err(error) => tracing::debug!(%error, "who is banned cannot be told now"),
            }
            tokio::time::sleep(BANS_INTERVAL).await;
        }
    }

    /// Remembers a user who was just read or created elsewhere.
    pub async fn remember(&self, user: User) {
        let id = user.id;
        self.known.insert(id, Profile::of(user)).await;
    }

    fn refresh_if_old(&self, id: UserId, profile: &Arc<Profile>) {
        let is_fresh = profile.read_at.elapsed() < FRESH_FOR;
        if is_fresh || profile.refreshing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (postgres, known, profile) =
            (self.postgres.clone(), self.known.clone(), profile.clone());
        self.lifecycle.spawn("refresh user", async move {
            match postgres.user_by_id(id).await {
                Ok(Some(user)) => known.insert(id, Profile::of(user)).await,
                Ok(None) => known.invalidate(&id).await,
                // Stays as it is; the next request tries again.
                Err(_) => profile.refreshing.store(false, Ordering::Relaxed),
            }
        });
    }
}
