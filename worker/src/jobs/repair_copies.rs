//! Makes copies of messages where whoever made them has stopped.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use shared::{
    copies::Copies,
    domain::{ConversationId, Partition},
};

use crate::{context::Context, metrics::COPIES_REPAIRED};

/// Whoever appends makes the copies at once, or goes on where somebody has stopped.
const AGE: Duration = Duration::from_secs(10);
/// Conversations of a partition that are looked at in one run.
const PAGE: u32 = 200;
/// Conversations, or partitions, at the same time.
const AT_ONCE: usize = 8;

/// One run over all partitions. What cannot be repaired does not keep the rest from it.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let partitions = (0..context.store.partitions().0).map(Partition);
    let looked: Vec<_> = stream::iter(partitions)
        .map(|partition| context.store.uncopied(partition, AGE, PAGE))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let (mut left, mut last) = (Vec::new(), None);
    for found in looked {
        match found {
            Ok(conversations) => left.extend(conversations),
            Err(error) => last = Some(anyhow::Error::new(error)),
        }
    }
    let repaired: Vec<_> = stream::iter(left)
        .map(|conversation| repair(&context, conversation))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    for result in repaired {
        if let Err(error) = result {
            last = Some(error);
        }
    }
    last.map_or(Ok(()), Err)
}

async fn repair(context: &Context, conversation: ConversationId) -> anyhow::Result<()> {
    let copier = context.copier();
    let copies = Copies {
        store: &context.store,
        copier: &copier,
        conversation,
    };
    let made = copies
        .take_over(context.members_of())
        .await
        .map_err(|error| {
            anyhow::Error::new(error).context(format!("conversation {conversation}"))
        })?;
    if made > 0 {
        tracing::info!(%conversation, copies = made, "made copies that were missing");
    }
    COPIES_REPAIRED.increment(made);
    Ok(())
}
