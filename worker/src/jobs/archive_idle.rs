//! Archives conversations in which nothing was said for `conversations.archive_after`, as somebody who
//! manages them could.

use std::sync::Arc;

use shared::{
    domain::{ConversationChange, Members, MessageBody, Timestamp},
    postgres::{ConversationChanged, IdleConversation},
};

use super::tell_changes;
use crate::{context::Context, metrics::ARCHIVED};

const PAGE: u32 = 200;

/// One run; none where nothing is archived by itself.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let Some(idle) = context.settings.conversations.archive_after else {
        return Ok(());
    };
    let now = context.store.time().await?;
    let before = Timestamp(now.0 - idle.as_millis() as i64);
    let most = context.settings.conversations.inbox_max_members;
    // Nobody's doing.
    let body = |change: &ConversationChange, members: &Members| {
        let body = MessageBody::of_change(change, members, None, most);
        serde_json::to_string(&body).expect("plain data")
    };
    let mut after: Option<IdleConversation> = None;
    loop {
        let page = context
            .postgres
            .idle_conversations(before, after.as_ref(), PAGE)
            .await?;
        for IdleConversation {
            id: conversation,
            written,
            ..
        } in &page
        {
            // Where Postgres is behind, something may have been said.
            let (_, end) = context.store.standing(*conversation).await?;
            if end > *written {
                continue;
            }
            let change = [ConversationChange::Archived];
            let changed = context
                .postgres
                .change_conversation(*conversation, &change, |_| true, body, now)
                .await?;
            if let ConversationChanged::Done { untold, .. } = changed {
                ARCHIVED.increment(1);
                for change in &untold {
                    // What fails here is told later.
                    if let Err(error) = tell_changes::tell(&context, change).await {
                        tracing::debug!(%conversation, error = format!("{error:#}"), "not told for now");
                    }
                }
            }
        }
        if page.len() < PAGE as usize {
            return Ok(());
        }
        after = page.last().cloned();
    }
}
