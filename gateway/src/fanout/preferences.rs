//! What users want to see: as Redis knows it, else as their topic on this node has heard it, else
//! as the record has it.

use std::sync::{Arc, LazyLock};

use shared::{
    domain::{Preferences, Refusal, UserId},
    redis::Known,
};

use super::{Fanout, postgres_refusal, store_refusal};

/// Of everybody who has chosen nothing.
static OPEN: LazyLock<Arc<Preferences>> = LazyLock::new(Arc::default);

impl Fanout {
    /// What a user has chosen, as of now: the node may not have heard yet of what was chosen a
    /// moment ago, here or elsewhere, so Redis is asked first. `unavailable` if nobody can be
    /// asked: nobody gets what they may not want.
    pub async fn preferences(&self, user: UserId) -> Result<Arc<Preferences>, Refusal> {
        let known = self.store.preferences(user).await;
        let known = known.map_err(|error| store_refusal(&error))?;
        if !matches!(known, Known::Chosen(_))
            && let Some(preferences) = self.hub.preferences(user)
        {
            return Ok(preferences);
        }
        self.recall(user, known).await
    }

    /// Asks the record where Redis knows nothing, and tells Redis.
    pub(super) async fn recall(
        &self,
        user: UserId,
        known: Known,
    ) -> Result<Arc<Preferences>, Refusal> {
        match known {
            Known::Chosen(preferences) => return Ok(Arc::new(preferences)),
            Known::Unchosen => return Ok(OPEN.clone()),
            Known::Nothing => {}
        }
        let recorded = self.postgres.preferences(user).await;
        let recorded = recorded.map_err(|error| postgres_refusal(&error))?;
        let kept = self.store.keep_preferences(user, recorded.as_ref()).await;
        if let Err(error) = kept {
            tracing::debug!(%error, "the next session asks the record again");
        }
        Ok(recorded.map_or_else(|| OPEN.clone(), |(_, preferences)| Arc::new(preferences)))
    }
}
