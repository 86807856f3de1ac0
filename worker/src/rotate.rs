//! Encrypting what was said with the current key: `worker rotate-keys`.
//!
//! In steps that can be repeated: what is encrypted with the current key is passed over, so a run
//! that was stopped is begun again, and a second one finds what came meanwhile. Messages that are
//! written while it runs are none of its business: gateways use the current key already.

use std::{collections::BTreeMap, fmt, time::Duration};

use shared::{
    contents::{Contents, ContentsError},
    domain::MessageId,
    postgres::{KeptContent, Postgres},
};
use uuid::Uuid;

/// Messages looked at in one step.
const STEP: u32 = 1000;
/// Pause after a step that changed something: people go on writing.
const PACE: Duration = Duration::from_millis(20);

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rotated {
    /// The key that everything is encrypted with now; nothing where it is not.
    pub key: Option<String>,
    /// Days with messages that were looked at.
    pub days: u64,
    /// Contents that were encrypted anew.
    pub done: u64,
    /// Contents that stay as they are, by the reason.
    pub left: BTreeMap<String, u64>,
}

/// Encrypts with the current key whatever is not. Where nothing is encrypted any more, contents
/// become readable.
pub async fn run(postgres: &Postgres, contents: &Contents) -> anyhow::Result<Rotated> {
    let mut rotated = Rotated {
        key: contents.current().map(str::to_owned),
        ..Rotated::default()
    };
    for day in postgres.message_days().await? {
        let mut after = MessageId(Uuid::nil());
        let before = rotated.done;
        loop {
            let page = postgres
                .contents_not_of_key(day, contents.current(), after, STEP)
                .await?;
            let Some(last) = page.last else { break };
            after = last;
            let mut new = Vec::with_capacity(page.other.len());
            for old in page.other {
                match anew(contents, &old) {
                    Ok(content) => new.push((old, content)),
                    Err(error) => *rotated.left.entry(error.to_string()).or_default() += 1,
                }
            }
            if !new.is_empty() {
                rotated.done += postgres.replace_contents(day, &new).await?;
                tokio::time::sleep(PACE).await;
            }
        }
        rotated.days += 1;
        if rotated.done > before {
            tracing::info!(%day, done = rotated.done - before, "encrypted the contents of a day anew");
        }
    }
    Ok(rotated)
}

fn anew(contents: &Contents, old: &KeptContent) -> Result<KeptContent, ContentsError> {
    let text = contents.open(old.conversation, &old.content, old.sealed.as_deref())?;
    let (content, sealed) = contents.seal(old.conversation, &text)?;
    Ok(KeptContent {
        id: old.id,
        conversation: old.conversation,
        content,
        sealed,
    })
}

/// For a terminal.
impl fmt::Display for Rotated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            days,
            done,
            left,
        } = self;
        match key {
            Some(key) => writeln!(
                f,
                "encrypted anew with {key}: {done} contents, {days} days looked at"
            )?,
            None => writeln!(f, "decrypted: {done} contents, {days} days looked at")?,
        }
        for (reason, count) in left {
            writeln!(f, "left as they are: {count}, {reason}")?;
        }
        writeln!(
            f,
            "in redis, what is older than the change of contents.current goes with retention.hot_window: \
             keep the old keys until then, run this once more, and remove them when it finds nothing"
        )
    }
}
