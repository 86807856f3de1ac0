//! Who exists, under which name, and what they may do. Read from Postgres and remembered, so that
//! commands between users who were seen before go on while Postgres is away.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::future::Cache;
use shared::{
    domain::{Code, Refusal, UserId},
    lifecycle::Lifecycle,
    postgres::{PgError, Postgres, Role, User, UserStatus},
};
use tokio::time::Instant;

use super::bans::Bans;
use crate::fanout::postgres_refusal;

/// Most users remembered; about 200 bytes each.
const CAPACITY: u64 = 200_000;
/// After this long without use a user is forgotten.
const FORGET_AFTER: Duration = Duration::from_hours(24);
/// After this long Postgres is asked again, beside the request.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// Pause after a read beside requests failed.
const RETRY: Duration = Duration::from_secs(1);
/// How often a node learns who is banned, should it not have heard.
const BANS_INTERVAL: Duration = Duration::from_secs(3);

/// What commands need to know of a user.
#[derive(Debug)]
pub struct Profile {
    /// The display name, or the name they log in with.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Whether they may take part.
    pub status: UserStatus,
    /// Whether one of their groups may send to everybody.
    pub may_allcast: bool,
    /// Whether they are a program.
    pub is_bot: bool,
    read_at: Instant,
    /// How much was to be distrusted when it was read.
    distrusted: u64,
    refreshing: AtomicBool,
}

/// What happens to the sockets of somebody who is banned.
pub(super) type OnBan = Box<dyn Fn(UserId) + Send + Sync>;

/// The directory of users.
pub struct Users {
    postgres: Postgres,
    lifecycle: Lifecycle,
    known: Cache<UserId, Arc<Profile>>,
    banned: Bans,
    /// Counts what may have changed anybody: whoever was read before is read again before they count.
    distrusted: AtomicU64,
    on_ban: OnBan,
}

impl Users {
    pub(super) fn start(postgres: Postgres, on_ban: OnBan, lifecycle: &Lifecycle) -> Arc<Self> {
        let known = Cache::builder()
            .max_capacity(CAPACITY)
            .time_to_idle(FORGET_AFTER)
            .build();
        let users = Arc::new(Self {
            postgres,
            lifecycle: lifecycle.clone(),
            known,
            banned: Bans::default(),
            distrusted: AtomicU64::new(0),
            on_ban,
        });
        let (following, life) = (users.clone(), lifecycle.clone());
        lifecycle.spawn("follow bans", async move {
            tokio::select! {
                () = following.follow_bans() => {}
                () = life.stopping() => {}
            }
        });
        users
    }

    /// The user, or `not_found`; `unavailable` if that cannot be told now. What is old, or may have
    /// changed, is answered all the same and read again beside the request.
    pub async fn get(self: &Arc<Self>, id: UserId) -> Result<Arc<Profile>, Refusal> {
        match self.known.get(&id).await {
            Some(profile) => {
                if !self.is_trusted(&profile) || profile.read_at.elapsed() >= FRESH_FOR {
                    self.refresh(id, &profile);
                }
                Ok(profile)
            }
            // Rare, and large: every request would carry room for it.
            None => Box::pin(self.read_first(id)).await,
        }
    }

    /// The same, but what may have changed is read before it is answered, for a right that counts no
    /// longer as soon as it was taken. While Postgres is away, what was known before.
    pub async fn get_fresh(&self, id: UserId) -> Result<Arc<Profile>, Refusal> {
        let Some(profile) = self.known.get(&id).await else {
            return Box::pin(self.read_first(id)).await;
        };
        if self.is_trusted(&profile) {
            return Ok(profile);
        }
        match Box::pin(self.read_again(id)).await {
            Ok(Some(profile)) => Ok(profile),
            Ok(None) => Err(no_such_user()),
            Err(PgError::Unavailable(_)) => Ok(profile),
            Err(error) => Err(postgres_refusal(&error)),
        }
    }

    fn is_trusted(&self, profile: &Profile) -> bool {
        profile.distrusted == self.distrusted.load(Ordering::Acquire)
    }

    async fn read_first(&self, id: UserId) -> Result<Arc<Profile>, Refusal> {
        // Many requests for the same user ask once.
        let read = async {
            let distrusted = self.distrusted.load(Ordering::Acquire);
            match self.postgres.user_by_id(id).await {
                Ok(Some(user)) => Ok(profile(user, distrusted)),
                Ok(None) => Err(no_such_user()),
                Err(error) => Err(postgres_refusal(&error)),
            }
        };
        self.known
            .try_get_with(id, read)
            .await
            .map_err(|refusal| (*refusal).clone())
    }

    /// Whether the user may take no part, as far as this node has heard; while Postgres is away,
    /// as it was before. Costs no round trip: every socket that opens asks.
    pub fn is_banned(&self, id: UserId) -> bool {
        self.banned.has(id)
    }

    /// Remembers a user who was just read or created elsewhere.
    pub async fn remember(&self, user: User) {
        let id = user.id;
        let distrusted = self.distrusted.load(Ordering::Acquire);
        self.known.insert(id, profile(user, distrusted)).await;
    }

    /// Something changed that may concern anybody.
    pub(super) fn distrust_all(&self) {
        self.distrusted.fetch_add(1, Ordering::AcqRel);
    }

    /// Learns what a user is now; one who is banned has to go.
    pub(super) async fn read_again(&self, id: UserId) -> Result<Option<Arc<Profile>>, PgError> {
        loop {
            let begun = self.banned.begin();
            let distrusted = self.distrusted.load(Ordering::Acquire);
            let Some(user) = self.postgres.user_by_id(id).await? else {
                self.known.invalidate(&id).await;
                return Ok(None);
            };
            match user.status {
                UserStatus::Banned => self.ban(id),
                // Banned since this was read, perhaps.
                UserStatus::Active if !self.banned.lift(id, begun) => continue,
                UserStatus::Active => {}
            }
            let profile = profile(user, distrusted);
            self.known.insert(id, profile.clone()).await;
            return Ok(Some(profile));
        }
    }

    /// Learns who is banned, and sends away whoever of them is still here.
    pub(super) async fn read_bans(&self) -> Result<(), PgError> {
        loop {
            let begun = self.banned.begin();
            let now: HashSet<_> = self.postgres.banned_users().await?.into_iter().collect();
            if !self.banned.replace(now.clone(), begun) {
                continue;
            }
            for user in now {
                (self.on_ban)(user);
            }
            return Ok(());
        }
    }

    fn ban(&self, id: UserId) {
        // First the list, so that a socket which opens meanwhile is refused.
        self.banned.ban(id);
        (self.on_ban)(id);
    }

    /// The task that learns who is banned.
    async fn follow_bans(&self) {
        loop {
            if let Err(error) = self.read_bans().await {
                tracing::debug!(%error, "who is banned cannot be told now");
            }
            tokio::time::sleep(BANS_INTERVAL).await;
        }
    }

    /// Reads a user again, once at a time and paced.
    fn refresh(self: &Arc<Self>, id: UserId, profile: &Arc<Profile>) {
        if profile.refreshing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (users, profile) = (self.clone(), profile.clone());
        self.lifecycle.spawn("refresh user", async move {
            if users.read_again(id).await.is_err() {
                // Stays as it is; a request after the pause tries again.
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = users.lifecycle.stopping() => {}
                }
                profile.refreshing.store(false, Ordering::Relaxed);
            }
        });
    }
}

fn profile(user: User, distrusted: u64) -> Arc<Profile> {
    Arc::new(Profile {
        name: user.display_name.unwrap_or(user.username),
        role: user.role,
        status: user.status,
        may_allcast: user.may_allcast,
        is_bot: user.is_bot,
        read_at: Instant::now(),
        distrusted,
        refreshing: AtomicBool::new(false),
    })
}

fn no_such_user() -> Refusal {
    Refusal::new(Code::NotFound, "no such user")
}
