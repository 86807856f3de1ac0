//! Archives conversations in which nothing was said for `conversations.archive_after`, as somebody who
//! manages them could.

use std::sync::Arc;

use anyhow::Context as _;
use shared::{
    domain::{ConversationChange, Members, MessageBody, Timestamp},
    postgres::{ConversationChanged, IdleConversation},
};

use super::tell_changes;
use crate::{context::Context, metrics::ARCHIVED};

const PAGE: u32 = 200;

/// One run; none where nothing is archived by itself. A conversation that cannot be archived keeps no other
/// from it.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let Some(idle) = context.settings.conversations.archive_after else {
        return Ok(());
    };
    let now = context.store.clock().now();
    let before = Timestamp(now.0 - idle.as_millis() as i64);
    let (mut after, mut last) = (None, None);
    loop {
        let page = context
            .postgres
            .idle_conversations(before, after.as_ref(), PAGE)
            .await?;
        for idle in &page {
            let archived = archive(&context, idle, now).await;
            let archived = archived.with_context(|| format!("conversation {}", idle.id));
            last = archived.err().or(last);
        }
        if page.len() < PAGE as usize {
            return last.map_or(Ok(()), Err);
        }
        after = page.last().cloned();
    }
}

/// Archives a conversation, unless something was said that Postgres does not know of.
async fn archive(context: &Context, idle: &IdleConversation, now: Timestamp) -> anyhow::Result<()> {
    let (_, end) = context.store.standing(idle.id).await?;
    if end > idle.written {
        return Ok(());
    }
    let most = context.settings.conversations.inbox_max_members;
    // Nobody's doing.
    let body = |change: &ConversationChange, members: &Members| {
        let body = MessageBody::of_change(change, members, None, most);
        serde_json::to_string(&body).expect("plain data")
    };
    let changed = context
        .postgres
        .change_conversation(
            idle.id,
            &[ConversationChange::Archived],
            |_| true,
            body,
            now,
        )
        .await?;
    if let ConversationChanged::Done { untold, .. } = changed {
        ARCHIVED.increment(1);
        for change in &untold {
            // What fails here is told later.
            if let Err(error) = tell_changes::tell(context, change).await {
                let error = format!("{error:#}");
                tracing::debug!(conversation = %idle.id, error, "not told for now");
            }
        }
    }
    Ok(())
}
