//! Tokens that no longer count. A log like any other, which every node follows from its
//! beginning; what left Redis is in Postgres. A node is ready only once it has read it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use shared::domain::{Entry, Position, Refusal, Revocation, Timestamp, Topic, UserId};

use super::{Fanout, TokenRef, outbox::CloseReason, reader::Walk, topic::Effects};

const CHUNK: u32 = 512;
const RETRY: Duration = Duration::from_millis(500);
/// How often what has run out is forgotten.
const FORGET: Duration = Duration::from_mins(1);

/// What was withdrawn and has not run out.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    state: RwLock<State>,
    loaded: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// By user and `jti`: until when to remember it. Issuers name their tokens as they like, so
    /// two users may have tokens of the same name.
    tokens: HashMap<UserId, HashMap<Box<str>, Timestamp>>,
    /// All tokens issued up to a second, and until when to remember it.
    users: HashMap<UserId, (i64, Timestamp)>,
}

impl Revocations {
    fn apply(&self, revocation: &Revocation) {
        let mut state = self.state.write();
        if let Some(token) = &revocation.token_id {
            let tokens = state.tokens.entry(revocation.user_id).or_default();
            let until = tokens.entry(token.as_str().into()).or_insert(Timestamp(0));
            *until = revocation.expires_at.max(*until);
        } else {
            let news = (revocation.issued_until, revocation.expires_at);
            let known = state.users.entry(revocation.user_id).or_insert(news);
            *known = (known.0.max(news.0), known.1.max(news.1));
        }
    }

    fn is_revoked(&self, user: UserId, token: &TokenRef) -> bool {
        let state = self.state.read();
        let by_user = state
            .users
            .get(&user)
            .is_some_and(|(until, _)| token.issued_at <= *until);
        // Tokens without a name are not told apart by it.
        let by_name = !token.id.is_empty()
            && state
                .tokens
                .get(&user)
                .is_some_and(|tokens| tokens.contains_key(&*token.id));
        by_user || by_name
    }

    fn forget(&self, now: Timestamp) {
        let mut state = self.state.write();
        state.tokens.retain(|_, tokens| {
            tokens.retain(|_, until| *until > now);
            !tokens.is_empty()
        });
        state.users.retain(|_, (_, until)| *until > now);
    }
}

impl Fanout {
    /// Whether a token was withdrawn, as far as this node has heard.
    pub fn is_revoked(&self, user: UserId, token: &TokenRef) -> bool {
        self.revocations.is_revoked(user, token)
    }

    /// Whether this node knows all revocations. Until then it must not accept tokens.
    pub fn knows_revocations(&self) -> bool {
        self.revocations.loaded.load(Ordering::Acquire)
    }

    /// Lets a revocation come into force on this node: remembers it, closes sockets.
    pub(super) fn revoke(&self, entry: &Entry) {
        let revocation: Revocation = match serde_json::from_slice(&entry.body) {
            Ok(revocation) => revocation,
            Err(error) => {
                tracing::error!(%error, position = %entry.position, "unreadable revocation");
                return;
            }
        };
        self.revocations.apply(&revocation);
        for outbox in self.hub.members(Topic::User(revocation.user_id)) {
            let Some(member) = outbox.member() else {
                continue;
            };
            if self.is_revoked(member.user, &member.token.lock()) {
                outbox.request_close(CloseReason::Unauthorized);
            }
        }
    }

    /// The task that loads the revocations, and later forgets those that have run out.
    pub(super) async fn keep_revocations(self: Arc<Self>) {
        self.hub.pin(Topic::Revocations);
        let mut walk = Walk::from(Position::START);
        while let Err(refusal) = self.load_revocations(&mut walk).await {
            tracing::warn!(%refusal, "revocations cannot be loaded yet");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.lifecycle.stopping() => return,
            }
        }
        self.revocations.loaded.store(true, Ordering::Release);
        loop {
            tokio::select! {
                () = tokio::time::sleep(FORGET) => self.revocations.forget(self.clock.now()),
                () = self.lifecycle.stopping() => return,
            }
        }
    }

    async fn load_revocations(self: &Arc<Self>, walk: &mut Walk) -> Result<(), Refusal> {
        self.follow(Topic::Revocations).await?;
        loop {
            let chunk = self.reader.next(Topic::Revocations, walk, CHUNK).await?;
            for entry in &chunk.entries {
                self.revoke(entry);
            }
            if let Some(end) = chunk.end {
                let mut effects = Effects::default();
                self.hub
                    .learn_head(Topic::Revocations, end, None, &mut effects);
                self.apply(effects);
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_token_counts_no_longer_by_its_id_or_by_when_it_was_issued() {
        let known = Revocations::default();
        let (anna, bert) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let token = |id: &str, issued_at| TokenRef {
            id: id.into(),
            issued_at,
        };
        known.apply(&Revocation {
            user_id: anna,
            token_id: Some("a1".into()),
            issued_until: 100,
            expires_at: Timestamp(1_000_000),
        });
        assert!(known.is_revoked(anna, &token("a1", 50)));
        assert!(!known.is_revoked(anna, &token("a2", 50)));
        assert!(!known.is_revoked(bert, &token("a1", 50)), "another's");
        known.apply(&Revocation {
            user_id: bert,
            token_id: None,
            issued_until: 100,
            expires_at: Timestamp(1_000_000),
        });
        assert!(known.is_revoked(bert, &token("b1", 100)));
        assert!(!known.is_revoked(bert, &token("b2", 101)));
        assert!(!known.is_revoked(anna, &token("a2", 100)));
        known.forget(Timestamp(999_999));
        assert!(known.is_revoked(anna, &token("a1", 50)));
        known.forget(Timestamp(1_000_000));
        assert!(!known.is_revoked(anna, &token("a1", 50)));
        assert!(!known.is_revoked(bert, &token("b1", 100)));
    }

    #[test]
    fn tokens_without_a_name_are_not_withdrawn_by_name() {
        let known = Revocations::default();
        let anna = UserId(Uuid::from_u128(1));
        known.apply(&Revocation {
            user_id: anna,
            token_id: Some(String::new()),
            issued_until: 100,
            expires_at: Timestamp(1_000_000),
        });
        let nameless = TokenRef {
            id: "".into(),
            issued_at: 50,
        };
        assert!(!known.is_revoked(anna, &nameless));
    }
}
