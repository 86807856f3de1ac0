//! The reference pages are what the declarations say. `make docs` brings them up to date.

use std::{
    fs,
    path::{Path, PathBuf},
};

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
        "gateway",
        &config::markdown::<gateway::config::Settings>(),
    );
}

#[test]
fn docs_of_the_metrics_are_fresh() {
    config::check_region(
        &page("METRICS.md"),
        "gateway",
        &metrics::markdown(gateway::metrics::TABLES),
    );
}

#[test]
fn metrics_are_named_by_the_rules() {
    assert_eq!(metrics::naming_problems(gateway::metrics::TABLES), [""; 0]);
}

/// The table of `docs/STOMP.md` says by which test each rule is shown.
#[test]
fn tests_that_the_page_about_stomp_names_exist() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let tests: String = sources(&source)
        .into_iter()
        .map(|file| fs::read_to_string(file).expect("sources are text"))
        .collect();
    let page = fs::read_to_string(page("STOMP.md")).expect("the page is there");
    let (_, table) = page
        .split_once("| rule | test |")
        .expect("there is a table");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut named = 0;
    for row in rows {
        let cell = row.trim_end_matches('|').rsplit('|').next();
        let names = cell.expect("a row has cells").split('`').skip(1).step_by(2);
        for name in names {
            assert!(
                tests.contains(&format!("fn {name}(")),
                "no test {name}: {row}"
            );
            named += 1;
        }
    }
    assert!(named > 40, "{named} tests are named");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of sources").flatten();
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => sources(&path),
            path => vec![path],
        })
        .collect()
}
