//! Metrics of the gateway.

use shared::metrics::Table;

/// All tables a gateway installs.
pub const TABLES: &[Table] = &[
    shared::metrics::TABLE,
    crate::app::disconnects::TABLE,
    crate::app::calls::metrics::TABLE,
    crate::app::limiter::metrics::TABLE,
    crate::commands::METRICS,
    crate::fanout::metrics::TABLE,
    crate::http::metrics::TABLE,
    crate::session::METRICS,
];
