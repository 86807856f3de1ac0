//! The reference pages are what the declarations say. `make docs` brings them up to date.

use std::path::Path;

use shared::{config, metrics};

fn page(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

#[test]
fn docs_of_the_settings_are_fresh() {
    config::check_region(
        &page("CONFIGURATION.md"),
        "worker",
        &config::markdown::<worker::config::Settings>(),
    );
}

#[test]
fn docs_of_the_metrics_are_fresh() {
    config::check_region(
        &page("METRICS.md"),
        "worker",
        &metrics::markdown(worker::metrics::TABLES),
    );
}

#[test]
fn metrics_are_named_by_the_rules() {
    assert_eq!(metrics::naming_problems(worker::metrics::TABLES), [""; 0]);
}
