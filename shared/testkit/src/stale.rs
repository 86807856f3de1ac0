//! Notices that a program of ours is older than its sources: cargo builds the tests of one package
//! without the programs of the others, and they would then try yesterday's.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

/// A program, the root of its source, and the libraries of the workspace in it.
const PROGRAMS: [(&str, &str, &[&str]); 3] = [
    ("gateway", "gateway/src/main.rs", &["gateway", "shared"]),
    ("worker", "worker/src/main.rs", &["worker", "shared"]),
    (
        "tidegate-dev",
        "shared/testkit/src/bin/dev.rs",
        &["testkit"],
    ),
];

static CHECKED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Once per process and program.
///
/// # Panics
/// When a source is newer than the program.
pub(crate) fn check(name: &str, program: &Path) {
    if CHECKED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .contains(name)
    {
        return;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if let Some(source) = newer_source(name, program, &workspace) {
        panic!(
            "{} is older than {}: build it again, as by `cargo test --workspace --no-run`",
            program.display(),
            source.display()
        );
    }
    CHECKED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(name.to_owned());
}

fn newer_source(name: &str, program: &Path, workspace: &Path) -> Option<PathBuf> {
    let (_, root, libraries) = PROGRAMS.iter().find(|(known, ..)| *known == name)?;
    let built = changed(program)?;
    let deps = program.parent()?.join("deps");
    libraries
        .iter()
        .flat_map(|library| sources(&deps, library))
        .chain([PathBuf::from(root)])
        .find(|source| changed(&workspace.join(source)).is_some_and(|changed| changed > built))
}

/// What went into a library when it was last built, assets included and its tests not: rustc writes
/// it beside the library, in the format of make.
fn sources(deps: &Path, library: &str) -> Vec<PathBuf> {
    let prefix = format!("{library}-");
    let mut rules: Vec<(SystemTime, String)> = fs::read_dir(deps)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(&prefix) && name.ends_with(".d")
        })
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let rule = text
                .lines()
                .find_map(|line| line.split_once(".rlib: "))?
                .1
                .replace("\\ ", "\0");
            Some((changed(&entry.path())?, rule))
        })
        .collect();
    rules.sort();
    let (_, newest) = rules
        .pop()
        .unwrap_or((SystemTime::UNIX_EPOCH, String::new()));
    newest
        .split_whitespace()
        .map(|source| source.replace('\0', " ").into())
        .collect()
}

fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guardian::guardian;

    /// Writes a file that was changed at this second.
    fn write(file: &Path, second: u64, text: &str) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_modified(changed).unwrap();
    }

    #[test]
    fn sources_newer_than_the_program_are_found_and_those_of_its_tests_are_not() {
        let workspace = guardian().folder("workspace");
        let deps = workspace.join("target/debug/deps");
        let program = workspace.join("target/debug/gateway");
        let newer = || newer_source("gateway", &program, &workspace);
        for source in [
            "gateway/src/main.rs",
            "gateway/src/lib.rs",
            "shared/a b.lua",
        ] {
            write(&workspace.join(source), 10, "");
        }
        let rule = |name: &str, source: &str| {
            format!("/t/{name}.d: {source}\n\n/t/lib{name}.rlib: {source}\n\n{source}:\n")
        };
        let test = "/t/gateway-3: gateway/src/lib.rs gateway/src/tests.rs\n";
        let old = rule("gateway-1", "gateway/src/moved.rs");
        write(&deps.join("gateway-1.d"), 11, &old);
        let last = rule("gateway-2", "gateway/src/lib.rs");
        write(&deps.join("gateway-2.d"), 12, &last);
        write(&deps.join("gateway-3.d"), 13, test);
        let shared = rule("shared-1", "shared/a\\ b.lua");
        write(&deps.join("shared-1.d"), 12, &shared);
        write(&program, 20, "");
        for fine in ["gateway/src/tests.rs", "gateway/src/moved.rs"] {
            write(&workspace.join(fine), 30, "");
        }
        assert_eq!(newer(), None);

        for source in [
            "gateway/src/lib.rs",
            "gateway/src/main.rs",
            "shared/a b.lua",
        ] {
            write(&workspace.join(source), 30, "");
            assert_eq!(newer(), Some(source.into()));
            write(&workspace.join(source), 10, "");
        }
    }
}
