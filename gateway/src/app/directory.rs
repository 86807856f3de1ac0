//! This node's copy of what administrators manage. Read from Postgres at the start, when a change is
//! heard, and every so often in case one was not. A node that cannot read keeps what it knows.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use shared::{
    domain::{Category, Code, DirectoryChange, Refusal, UserId},
    lifecycle::Lifecycle,
    postgres::{CategoryRecord, PgError, Postgres},
};
use tokio::sync::Notify;

use super::Users;

/// How often everything is read without having heard anything.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Pause before a read that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// More users than these are not noted one by one.
const MAX_NOTED: usize = 10_000;

/// See the module.
pub struct Directory {
    postgres: Postgres,
    users: Arc<Users>,
    categories: RwLock<Option<Arc<[CategoryRecord]>>>,
    noted: Mutex<Noted>,
    news: Notify,
}

/// What has to be read anew.
#[derive(Debug, Default)]
struct Noted {
    categories: bool,
    bans: bool,
    users: HashSet<UserId>,
}

impl Noted {
    fn everything() -> Self {
        Self {
            categories: true,
            bans: true,
            users: HashSet::new(),
        }
    }

    fn add(&mut self, more: Self) {
        self.categories |= more.categories;
        self.bans |= more.bans;
        self.users.extend(more.users);
    }

    fn is_empty(&self) -> bool {
        !self.categories && !self.bans && self.users.is_empty()
    }
}

impl Directory {
    /// Knows nothing yet; its task reads at once.
    pub(super) fn start(postgres: Postgres, users: Arc<Users>, lifecycle: &Lifecycle) -> Arc<Self> {
        let directory = Arc::new(Self {
            postgres,
            users,
            categories: RwLock::default(),
            noted: Mutex::new(Noted::everything()),
            news: Notify::new(),
        });
        let (keeper, life) = (directory.clone(), lifecycle.clone());
        lifecycle.spawn("keep the directory", async move {
            tokio::select! {
                () = keeper.keep() => {}
                () = life.stopping() => {}
            }
        });
        directory
    }

    /// Whether the categories are known. Until then commands with tags are refused.
    pub fn is_loaded(&self) -> bool {
        self.categories.read().is_some()
    }

    /// The server's categories, by name.
    pub fn categories(&self) -> Result<Arc<[CategoryRecord]>, Refusal> {
        let loading = || {
            Refusal::new(Code::Unavailable, "the categories are not known yet")
                .retry_after(Duration::from_secs(1))
        };
        self.categories.read().clone().ok_or_else(loading)
    }

    /// Whether a new command may carry these tags: `bad_request` names one that is unknown or retired.
    pub fn check_tags(&self, tags: &[Category]) -> Result<(), Refusal> {
        self.check(tags.iter(), |category| category.retired_at.is_none())
    }

    /// Whether these are categories, in use or retired.
    pub fn check_known<'a>(&self, tags: impl Iterator<Item = &'a Category>) -> Result<(), Refusal> {
        self.check(tags, |_| true)
    }

    fn check<'a>(
        &self,
        tags: impl Iterator<Item = &'a Category>,
        passes: impl Fn(&CategoryRecord) -> bool,
    ) -> Result<(), Refusal> {
        let mut tags = tags.peekable();
        if tags.peek().is_none() {
            return Ok(());
        }
        let categories = self.categories()?;
        for tag in tags {
            let found = categories.binary_search_by(|category| category.name.cmp(tag));
            let problem = match found {
                Ok(index) if passes(&categories[index]) => continue,
                Ok(_) => "retired",
                Err(_) => "unknown",
            };
            let message = format!("categories: {tag} is {problem}");
            return Err(Refusal::new(Code::BadRequest, message));
        }
        Ok(())
    }

    /// Notes that something changed and wakes the task that looks. Never waits.
    pub fn hear(&self, change: &DirectoryChange) {
        let mut noted = self.noted.lock();
        match change {
            DirectoryChange::Categories => noted.categories = true,
            DirectoryChange::Groups => self.users.distrust_all(),
            DirectoryChange::User { user_id } if noted.users.len() < MAX_NOTED => {
                noted.users.insert(*user_id);
            }
            DirectoryChange::User { .. } | DirectoryChange::Everything => {
                self.users.distrust_all();
                noted.categories = true;
                noted.bans = true;
            }
            // The fan-out closes it.
            DirectoryChange::Disconnect { .. } => return,
        }
        drop(noted);
        self.news.notify_one();
    }

    async fn keep(&self) {
        loop {
            let noted = std::mem::take(&mut *self.noted.lock());
            let failed = self.read(noted).await;
            if !failed.is_empty() {
                self.noted.lock().add(failed);
                tokio::time::sleep(RETRY).await;
                continue;
            }
            tokio::select! {
                () = self.news.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => *self.noted.lock() = Noted::everything(),
            }
        }
    }

    /// Answers what could not be read.
    async fn read(&self, noted: Noted) -> Noted {
        let mut failed = Noted::default();
        // Users first: a ban is what hurries.
        for user in noted.users {
            if let Err(error) = self.users.read_again(user).await {
                later("a user", &error);
                failed.users.insert(user);
            }
        }
        if noted.bans
            && let Err(error) = self.users.read_bans().await
        {
            later("who is banned", &error);
            failed.bans = true;
        }
        if noted.categories {
            match self.postgres.categories().await {
                Ok(categories) => *self.categories.write() = Some(categories.into()),
                Err(error) => {
                    later("the categories", &error);
                    failed.categories = true;
                }
            }
        }
        failed
    }
}

fn later(what: &str, error: &PgError) {
    tracing::debug!(%error, what, "cannot be read now");
}
