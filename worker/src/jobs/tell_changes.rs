//! Tells Redis of changes of conversations that whoever made them did not tell: rights that were lost
//! count, and system messages are seen, also if a gateway died in between.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use shared::{changes, copies::Copies, domain::ConversationId, postgres::UntoldChange};

use crate::{context::Context, metrics::CHANGES_TOLD};

/// Whoever made a change tells it at once.
const AGE: Duration = Duration::from_secs(5);
/// Conversations that are read at a time.
const PAGE: u32 = 200;
/// Conversations that are told of at the same time.
const AT_ONCE: usize = 8;

/// One run. What cannot be told does not keep other conversations from being told.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let (mut after, mut stuck, mut last) = (None, 0, None);
    loop {
        let page = context
            .postgres
            .conversations_to_tell(AGE, after, PAGE)
            .await?;
        let is_last = page.len() < PAGE as usize;
        after = page.last().copied();
        let told: Vec<_> = stream::iter(page)
            .map(|conversation| tell_all(&context, conversation))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for error in told.into_iter().filter_map(Result::err) {
            stuck += 1;
            last = Some(error);
        }
        if is_last {
            break;
        }
    }
    match last {
        None => Ok(()),
        Some(error) => Err(error.context(format!("{stuck} conversations are stuck"))),
    }
}

/// Tells what changed in a conversation: a later change waits for an earlier one.
async fn tell_all(context: &Context, conversation: ConversationId) -> anyhow::Result<()> {
    let changes = context.postgres.untold_changes_of(conversation).await?;
    for change in &changes {
        let told = tell(context, change).await;
        told.with_context(|| format!("conversation {conversation}"))?;
    }
    Ok(())
}

/// Tells a change and makes the copies of its system message.
pub async fn tell(context: &Context, change: &UntoldChange) -> anyhow::Result<()> {
    let copier = context.copier();
    let told = changes::tell(&context.store, &context.postgres, change, &copier).await?;
    let Some((entry, copying)) = told else {
        return Ok(());
    };
    CHANGES_TOLD.increment(1);
    let copies = Copies {
        store: &context.store,
        copier: &copier,
        conversation: change.conversation,
    };
    // What fails here is made up for by the repair of copies.
    copies
        .of_appended(entry, change.version, copying, context.members_of())
        .await?;
    Ok(())
}
