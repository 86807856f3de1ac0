//! Finds a command by its id, in the record.

use std::{sync::Arc, time::Duration};

use shared::{
    domain::{Code, MessageId, Refusal, Timestamp},
    postgres::StoredCommand,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{app::App, fanout::postgres_refusal};

/// Longest wait for a command that was only just accepted to reach Postgres.
const WRITE_BEHIND: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// The command, or `not_found` if it does not turn up in time.
pub(super) async fn stored(app: &Arc<App>, id: MessageId) -> Result<StoredCommand, Refusal> {
    let deadline = Instant::now() + wait_for(id, app.store.clock().now().0);
    loop {
        let found = app
            .postgres
            .command(id)
            .await
            .map_err(|error| postgres_refusal(&error))?;
        if let Some(command) = found {
            return Ok(command);
        }
        if Instant::now() >= deadline {
            return Err(not_found());
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Only what is young, by the time in its id, can still be on its way.
pub(super) fn wait_for(id: MessageId, now_ms: i64) -> Duration {
    const YOUNG_MS: i64 = 60_000;
    match minted_at(id.0) {
        Some(at) if (now_ms - at.0).abs() < YOUNG_MS => WRITE_BEHIND,
        _ => Duration::ZERO,
    }
}

/// The time in an id of version 7.
pub(super) fn minted_at(id: Uuid) -> Option<Timestamp> {
    (id.get_version_num() == 7).then(|| Timestamp((id.as_u128() >> 80) as i64))
}

pub(super) fn not_found() -> Refusal {
    Refusal::new(Code::NotFound, "no such command")
}

#[cfg(test)]
mod tests {
    use uuid::uuid;

    use super::*;

    #[test]
    fn only_young_commands_are_waited_for() {
        let now = 1_700_000_000_000_u128;
        let v7 = |ms: u128| MessageId(Uuid::from_u128(ms << 80 | 7 << 76 | 2 << 62));
        assert_eq!(wait_for(v7(now - 100), now as i64), WRITE_BEHIND);
        assert_eq!(wait_for(v7(now - 100_000), now as i64), Duration::ZERO);
        let v4 = MessageId(uuid!("9b2d4c3e-7f01-4e57-9c1e-0d8f6d5b4a39"));
        assert_eq!(wait_for(v4, now as i64), Duration::ZERO);
    }
}
