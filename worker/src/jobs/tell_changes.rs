//! Tells Redis of changes of conversations that whoever made them did not tell: rights that were lost
//! count, and system messages are seen, also if a gateway died in between.

use std::{collections::HashSet, sync::Arc, time::Duration};

use shared::{changes, copies::Copies, postgres::UntoldChange};

use crate::{context::Context, metrics::CHANGES_TOLD};

/// Whoever made a change tells it at once.
const AGE: Duration = Duration::from_secs(5);
const PAGE: u32 = 200;

/// One run. What cannot be told does not keep other conversations from being told.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    loop {
        let page = context.postgres.untold_changes(AGE, PAGE).await?;
        let full = page.len() == PAGE as usize;
        // Of a conversation a later change waits for an earlier one.
        let mut stuck = HashSet::new();
        let mut last = None;
        for change in page {
            if stuck.contains(&change.conversation) {
                continue;
            }
            if let Err(error) = tell(&context, &change).await {
                stuck.insert(change.conversation);
                last = Some(error.context(format!("conversation {}", change.conversation)));
            }
        }
        if let Some(error) = last {
            return Err(error.context(format!("{} conversations are stuck", stuck.len())));
        }
        if !full {
            return Ok(());
        }
    }
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
