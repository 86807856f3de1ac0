//! Drops the daily partitions that are older than `retention.record`.

use std::sync::Arc;

use crate::{
    context::Context,
    sweep::{Found, Sweep},
};

/// One run.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    Sweep::of(&context).drop_days(&mut Found::default()).await
}
