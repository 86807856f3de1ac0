//! Logs: one line an event, to standard output.
//!
//! Ids that bind lines together are fields of spans (`connection`, `request`), so every line
//! below them has them. Never logged: tokens, passwords, contents of messages.

use std::{io::IsTerminal as _, sync::Arc};

use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

use crate::config::{LogFormat, LogSettings};

/// Changes the level while the process runs. Cheap to clone.
#[derive(Clone)]
pub struct LogControl {
    filter: Option<Arc<reload::Handle<EnvFilter, Registry>>>,
}

/// A text that is no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a level like info, or levels per module like info,gateway::session=debug")]
pub struct InvalidLevel;

fn filter(level: &str) -> Result<EnvFilter, InvalidLevel> {
    if level.trim().is_empty() {
        return Err(InvalidLevel);
    }
    EnvFilter::try_new(level).map_err(|_| InvalidLevel)
}

/// True for what [`start`] takes as a level.
pub fn is_level(level: &str) -> bool {
    filter(level).is_ok()
}

/// Starts logging; once per process. Panics are logged, too.
pub fn start(settings: &LogSettings) -> Result<LogControl, InvalidLevel> {
    let (filter, handle) = reload::Layer::new(filter(&settings.level)?);
    let pretty = match settings.format {
        LogFormat::Auto => std::io::stdout().is_terminal(),
        LogFormat::Json => false,
        LogFormat::Pretty => true,
    };
    let lines = if pretty {
        fmt::layer()
            .with_ansi(std::io::stdout().is_terminal())
            .boxed()
    } else {
        fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed()
    };
    // A second start in one process (tests) keeps the first one's subscriber.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, message, "a task panicked");
    }));
    Ok(LogControl {
        filter: Some(Arc::new(handle)),
    })
}

impl LogControl {
    /// For tests: checks levels, changes nothing.
    pub fn none() -> Self {
        Self { filter: None }
    }

    /// From now on logs this level.
    pub fn set_level(&self, level: &str) -> Result<(), InvalidLevel> {
        let filter = filter(level)?;
        if let Some(handle) = &self.filter {
            // Fails only if the subscriber is gone, and then nobody logs.
            let _ = handle.reload(filter);
        }
        Ok(())
    }

    /// The level now.
    pub fn level(&self) -> String {
        let level = self
            .filter
            .as_ref()
            .and_then(|handle| handle.with_current(ToString::to_string).ok());
        level.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_levels_are_levels() {
        for level in ["info", "debug", "info,gateway::session=trace", "off"] {
            assert!(is_level(level), "{level}");
        }
        for level in ["", " ", "gateway=loud", "a=b=c"] {
            assert!(!is_level(level), "{level}");
        }
    }
}
