//! Logs: one line an event, to standard output.
//!
//! Lines that belong to a socket or a request have its ids, see [`Ids`]. Never logged: tokens,
//! passwords, contents of messages.

mod ids;

use std::{io::IsTerminal as _, sync::Arc};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

pub use ids::{Ids, Name};

use ids::WithIds;

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
    let lines = lines(pretty, std::io::stdout().is_terminal(), std::io::stdout);
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

/// Writes events as lines, each with the ids it belongs to.
fn lines<S, W>(pretty: bool, ansi: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    if pretty {
        layer
            .with_ansi(ansi)
            .map_event_format(|format| WithIds {
                format,
                json: false,
            })
            .boxed()
    } else {
        layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .map_event_format(|format| WithIds { format, json: true })
            .boxed()
    }
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
