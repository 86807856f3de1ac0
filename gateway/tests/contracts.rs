//! What is generated from the declared messages is what they say. `make docs` brings it up to date.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gateway::dialect::contracts::{self, DIALECTS, Direction};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares a file with what it should be; with `UPDATE_DOCS` in the environment, writes it
/// instead.
fn check(path: &str, expected: &str) {
    let file = root().join(path);
    if fs::read_to_string(&file).is_ok_and(|text| text == expected) {
        return;
    }
    let is_update = std::env::var_os("UPDATE_DOCS").is_some();
    assert!(is_update, "{path} is stale: run `make docs`");
    fs::create_dir_all(file.parent().expect("a file has a folder")).expect("a folder can be made");
    fs::write(file, expected).expect("the file can be written");
}

#[test]
fn schemas_are_fresh() {
    for dialect in DIALECTS {
        for direction in Direction::ALL {
            let schema = contracts::schema(dialect, direction);
            let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
            let path = format!("client/schemas/{}.{}.json", dialect.name, direction.name());
            check(&path, &text);
        }
    }
}

#[test]
fn types_of_the_client_are_fresh() {
    check("client/src/contracts.ts", &contracts::typescript());
}

#[test]
fn tables_of_the_protocol_are_fresh() {
    for dialect in DIALECTS {
        for direction in Direction::ALL {
            let region = format!("{} {}", dialect.name, direction.name());
            let page = match dialect.name {
                "stomp" => "docs/STOMP.md",
                _ => "docs/PROTOCOL.md",
            };
            let page = root().join(page);
            let table = contracts::markdown(dialect, direction);
            shared::config::check_region(&page, &region, &table);
        }
    }
}
