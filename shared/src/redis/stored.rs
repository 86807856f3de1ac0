//! Waiting until workers have committed: the bell of the partition, and the key in case it is
//! missed.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    error::StoreError,
    keys::{self, Channel},
    reply,
    store::{Store, texts},
};
use crate::domain::{Partition, Topic};

/// How often the key is looked at while no bell rings.
const POLL: Duration = Duration::from_millis(100);

/// A stream id as numbers.
type Mark = (u64, u64);

/// What is known to be committed.
#[derive(Default)]
pub(super) struct StoredMarks {
    marks: Mutex<HashMap<Partition, watch::Sender<Mark>>>,
}

impl StoredMarks {
    /// Learns of a commit.
    pub(super) fn note(&self, partition: Partition, id: &str) {
        let Some(mark) = mark(id) else { return };
        if let Some(known) = self.marks.lock().get(&partition) {
            known.send_if_modified(|at| {
                let later = mark > *at;
                *at = mark.max(*at);
                later
            });
        }
    }

    fn follow(&self, partition: Partition) -> watch::Receiver<Mark> {
        self.marks
            .lock()
            .entry(partition)
            .or_insert_with(|| watch::Sender::new((0, 0)))
            .subscribe()
    }
}

fn mark(id: &str) -> Option<Mark> {
    let (ms, seq) = id.split_once('-')?;
    Some((ms.parse().ok()?, seq.parse().ok()?))
}

impl Store {
    /// Waits until Postgres has what its record of this topic's partition was told so far. `Unknown` if
    /// that takes longer than `patience`.
    pub async fn all_stored(&self, topic: Topic, patience: Duration) -> Result<(), StoreError> {
        let deadline = Instant::now() + patience;
        let partition = self.partition_of(topic);
        let args = texts(["+", "-", "COUNT", "1"]);
        let newest = self
            .command("XREVRANGE", &keys::persist(partition), args)
            .await?;
        match reply::list(newest)?.into_iter().next() {
            Some(record) => {
                let id = reply::list(record)?.into_iter().next();
                let id = id.ok_or_else(|| StoreError::unexpected("a record without an id"))?;
                self.wait_stored(partition, reply::text(&id)?, deadline)
                    .await
            }
            // What Postgres has is taken out of the stream.
            None => Ok(()),
        }
    }

    pub(super) async fn wait_stored(
        &self,
        partition: Partition,
        persist_id: &str,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let wanted =
            mark(persist_id).ok_or_else(|| StoreError::unexpected("a persist id without '-'"))?;
        let mut known = self.inner.stored.follow(partition);
        let ears = self.inner.ears.lock().upgrade();
        if let Some(ears) = ears {
            // Only saves time; the key is looked at anyway.
            let _ = timeout(POLL, ears.subscribe(Channel::Stored(partition))).await;
        }
        loop {
            if let Ok(answer) = self
                .command("GET", &keys::stored(partition), Vec::new())
                .await
                && !answer.is_null()
            {
                self.inner.stored.note(partition, reply::text(&answer)?);
            }
            let reached = known.wait_for(|at| *at >= wanted);
            if let Ok(reached) = timeout(POLL.min(deadline - Instant::now()), reached).await {
                return reached
                    .map(|_| ())
                    .map_err(|_| StoreError::Unknown("closed".into()));
            }
            if Instant::now() >= deadline {
                return Err(StoreError::Unknown(
                    "appended, but not committed in time".into(),
                ));
            }
        }
    }
}
