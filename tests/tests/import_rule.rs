//! The import rules of ARCHITECTURE.md, checked on the source text: who may name whom.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Top to bottom: a module may name those behind it.
const GATEWAY: &[&str] = &["http", "session", "commands", "app", "fanout", "dialect"];
const WORKER: &[&str] = &["runner", "jobs", "sweep"];
/// What puts the gateway together: these name all layers, and no layer names them.
const GATEWAY_ASSEMBLY: &[&str] = &["main", "lib", "node", "metrics"];
const WORKER_ASSEMBLY: &[&str] = &["main", "lib"];

#[test]
fn imports_of_the_gateway_go_one_way() {
    layers("gateway", GATEWAY, GATEWAY_ASSEMBLY);
}

#[test]
fn imports_of_the_worker_go_one_way() {
    layers("worker", WORKER, WORKER_ASSEMBLY);
}

#[test]
fn the_domain_knows_no_input_and_no_output() {
    for (file, path) in paths_in("shared/src/domain") {
        let outside = path[0] == "crate" && path.get(1).is_some_and(|module| module != "domain");
        let io =
            ["fred", "sqlx", "tokio", "axum", "hyper", "tungstenite"].contains(&path[0].as_str());
        assert!(
            !outside && !io,
            "{} names {}",
            file.display(),
            path.join("::")
        );
    }
}

#[test]
fn redis_and_postgres_do_not_know_each_other() {
    for (one, other) in [("redis", "postgres"), ("postgres", "redis")] {
        for (file, path) in paths_in(&format!("shared/src/{one}")) {
            let crossed = path[0] == "crate" && path.get(1).is_some_and(|module| module == other);
            assert!(!crossed, "{} names {}", file.display(), path.join("::"));
        }
    }
}

#[test]
fn only_one_folder_speaks_to_each_store() {
    for (client, home) in [
        ("fred", "shared/src/redis"),
        ("sqlx", "shared/src/postgres"),
    ] {
        for folder in ["gateway/src", "worker/src", "shared/src"] {
            for (file, path) in paths_in(folder) {
                let allowed = path[0] != client || file.starts_with(root().join(home));
                assert!(allowed, "{} names {}", file.display(), path.join("::"));
            }
        }
    }
}

#[test]
fn gateway_worker_and_kit_do_not_know_each_other() {
    for (folder, strangers) in [
        ("gateway/src", &["worker", "testkit"][..]),
        ("worker/src", &["gateway", "testkit"]),
        ("shared/src", &["gateway", "worker"]),
        ("shared/testkit/src", &["shared", "gateway", "worker"]),
    ] {
        for (file, path) in paths_in(folder) {
            assert!(
                !strangers.contains(&path[0].as_str()),
                "{} names {}",
                file.display(),
                path.join("::")
            );
        }
    }
}

#[test]
fn a_dialect_is_named_only_in_its_folder() {
    for file in sources("gateway/src")
        .into_iter()
        .chain(sources("shared/src"))
    {
        if file.starts_with(root().join("gateway/src/dialect")) {
            continue;
        }
        let text = product_text(&file);
        for name in [
            "dialect::json",
            "DialectId::Json",
            "tidegate.json",
            "stomp",
            "Stomp",
            "tidegate.events",
        ] {
            assert!(!text.contains(name), "{} names {name}", file.display());
        }
    }
}

#[test]
fn commands_see_no_socket() {
    for (file, path) in paths_in("gateway/src/commands") {
        let socket =
            ["hyper", "tungstenite", "hyper_tungstenite", "axum"].contains(&path[0].as_str());
        assert!(!socket, "{} names {}", file.display(), path.join("::"));
    }
}

/// Modules that are neither layer nor assembly are common: all may name them, they name no layer.
fn layers(package: &str, order: &[&str], assembly: &[&str]) {
    let source = root().join(package).join("src");
    for (file, path) in paths_in(&format!("{package}/src")) {
        let inside = file.strip_prefix(&source).expect("a file of the package");
        let first = inside
            .components()
            .next()
            .expect("a file has a name")
            .as_os_str()
            .to_string_lossy();
        let own = first.trim_end_matches(".rs");
        if assembly.contains(&own) || path[0] != "crate" {
            continue;
        }
        let Some(named) = path.get(1).map(String::as_str) else {
            continue;
        };
        let place = |module: &str| order.iter().position(|layer| *layer == module);
        let allowed = match (place(own), place(named)) {
            (Some(own), Some(named)) => own <= named,
            (None, Some(_)) => false,
            (_, None) => !assembly.contains(&named),
        };
        assert!(allowed, "{} names {}", file.display(), path.join("::"));
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests is a folder of the workspace")
        .to_path_buf()
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// Every path a product file of the folder names, groups spelt out, `super` resolved.
fn paths_in(folder: &str) -> Vec<(PathBuf, Vec<String>)> {
    let mut found = Vec::new();
    for file in sources(folder) {
        let module = module_of(&file);
        for mut path in paths(&product_text(&file)) {
            let ups = path.iter().take_while(|part| *part == "super").count();
            if ups > 0 {
                let kept = module.len().saturating_sub(ups);
                path = [&["crate".to_owned()], &module[..kept], &path[ups..]].concat();
            }
            found.push((file.clone(), path));
        }
    }
    found
}

/// `session::handshake` for `…/src/session/handshake.rs`.
fn module_of(file: &Path) -> Vec<String> {
    let parts: Vec<String> = file
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let source = parts
        .iter()
        .rposition(|part| part == "src")
        .map_or(0, |at| at + 1);
    let mut module: Vec<String> = parts[source..]
        .iter()
        .map(|part| part.trim_end_matches(".rs").to_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// The file without comments and without its tests, which stand last. A file of tests is empty.
fn product_text(file: &Path) -> String {
    let inside = file.strip_prefix(root()).unwrap_or(file);
    let name = inside.to_string_lossy();
    let is_of_tests = name.ends_with("tests.rs") || name.ends_with("fuzz.rs");
    if is_of_tests || inside.iter().any(|part| part == "tests") {
        return String::new();
    }
    let text = fs::read_to_string(file).expect("a source file is text");
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    without_comments(text)
}

fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let comment = rest.starts_with("//");
        let length = if comment {
            rest.find('\n').unwrap_or(rest.len())
        } else {
            literal_length(rest).unwrap_or(first.len_utf8())
        };
        if !comment {
            kept.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    kept
}

/// The bytes of the string or character literal a text begins with.
fn literal_length(text: &str) -> Option<usize> {
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let inside = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        return inside.find(&end).map(|at| 1 + hashes + 1 + at + end.len());
    }
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            // A lifetime, not a character.
            _ if quote == '\'' && at > 1 && !text[1..].starts_with('\\') => return None,
            _ => {}
        }
    }
    None
}

/// All `a::b::c` of a text, where `a::{b, c::d}` counts as `a::b` and `a::c::d`.
fn paths(text: &str) -> Vec<Vec<String>> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_name(&tokens[at]) && tokens.get(at + 1).is_some_and(|next| next == "::") {
            at = path_from(&tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

fn path_from(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = prefix.to_vec();
    while tokens.get(at).is_some_and(|token| is_name(token)) {
        path.push(tokens[at].clone());
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            found.push(path);
            return at;
        }
        at += 1;
        if tokens.get(at).is_some_and(|token| token == "{") {
            at += 1;
            while tokens.get(at).is_some_and(|token| token != "}") {
                let before = at;
                if is_name(&tokens[at]) {
                    at = path_from(tokens, at, &path, found);
                }
                if at == before || tokens.get(at).is_some_and(|token| token == ",") {
                    at += 1;
                }
            }
            return at + 1;
        }
    }
    found.push(path);
    at.max(1)
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(length) = literal_length(rest) {
            rest = &rest[length..];
            continue;
        }
        let length = if is_name(rest) {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            tokens.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
    tokens
}

#[test]
fn paths_are_found_in_groups_too() {
    let text = "use crate::{app::App, session::{self, close::Reason}};\nfn f<'a>() { super::http::x(\"a::b\", '\"'); }";
    let found: Vec<String> = paths(text).iter().map(|path| path.join("::")).collect();
    assert_eq!(
        found,
        [
            "crate::app::App",
            "crate::session::self",
            "crate::session::close::Reason",
            "super::http::x"
        ]
    );
}
