//! Ends commands nobody completed in time, archives what has expired, and forgets what is old.

use std::sync::Arc;

use crate::{
    context::Context,
    sweep::{Found, Sweep},
};

/// One run. What cannot be ended does not keep the rest from its way.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let sweep = Sweep::of(&context);
    let mut done = Found::default();
    let ended = sweep.expire(&mut done).await;
    sweep.archive(&mut done).await?;
    sweep.forget(&mut done).await?;
    ended
}
