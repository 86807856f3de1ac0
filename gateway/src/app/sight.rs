//! Who may see how whom appears: a rule of the deployment, looked up in the record.

use std::collections::HashSet;

use futures_util::future::BoxFuture;
use shared::{
    domain::{Refusal, UserId},
    postgres::Postgres,
};

use crate::fanout::{Sight, postgres_refusal};

/// Most users that somebody watches because they share conversations.
const MOST_CONTACTS: u32 = 1_000;

/// Who may see how others appear. Everybody sees themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Every user.
    Anyone,
    /// Who takes part in a conversation with them that is not archived.
    Contacts,
    /// No other user.
    Nobody,
}

/// See the module.
pub struct Sights {
    postgres: Postgres,
    visibility: Visibility,
}

impl Sights {
    pub(super) fn new(postgres: Postgres, visibility: Visibility) -> Self {
        Self {
            postgres,
            visibility,
        }
    }
}

impl Sight for Sights {
    fn permitted<'a>(
        &'a self,
        pairs: &'a [(UserId, UserId)],
    ) -> BoxFuture<'a, Result<HashSet<(UserId, UserId)>, Refusal>> {
        Box::pin(async move {
            let (own, others): (Vec<_>, Vec<_>) =
                pairs.iter().copied().partition(|(one, other)| one == other);
            let mut may: HashSet<_> = own.into_iter().collect();
            if others.is_empty() {
                return Ok(may);
            }
            match self.visibility {
                Visibility::Nobody => {}
                Visibility::Contacts => {
                    let sharing = self.postgres.who_share_a_conversation(&others).await;
                    may.extend(sharing.map_err(|error| postgres_refusal(&error))?);
                }
                Visibility::Anyone => {
                    let asked: HashSet<UserId> = others.iter().map(|(_, other)| *other).collect();
                    let asked: Vec<UserId> = asked.into_iter().collect();
                    let found = self.postgres.existing_users(&asked).await;
                    let found = found.map_err(|error| postgres_refusal(&error))?;
                    may.extend(
                        others
                            .into_iter()
                            .filter(|(_, other)| found.contains(other)),
                    );
                }
            }
            Ok(may)
        })
    }

    fn contacts(&self, user: UserId) -> BoxFuture<'_, Result<Vec<UserId>, Refusal>> {
        Box::pin(async move {
            if self.visibility == Visibility::Nobody {
                return Ok(Vec::new());
            }
            let contacts = self.postgres.contacts_of(user, MOST_CONTACTS).await;
            contacts.map_err(|error| postgres_refusal(&error))
        })
    }
}
