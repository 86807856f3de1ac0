//! The deliberate bugs in `tests/bugs` fit the sources. Whether they are caught takes `make bugs`
//! many minutes to say; that one no longer applies, or that its tests have gone, is seen here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn every_deliberate_bug_applies_and_its_tests_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tests = tests_in(root);
    let mut patches = 0;
    for patch in files_in(&root.join("tests/bugs"), "patch") {
        patches += 1;
        let output = Command::new("git")
            .args(["apply", "--check"])
            .arg(&patch)
            .current_dir(root)
            // Inside of another repository git would look for the files there.
            .env("GIT_CEILING_DIRECTORIES", root.parent().unwrap())
            .output()
            .expect("git is installed");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complaint}", patch.display());
        let text = fs::read_to_string(&patch).unwrap();
        let caught_by = text
            .lines()
            .find_map(|line| line.strip_prefix("Caught-by: "))
            .and_then(|arguments| arguments.split_whitespace().next_back())
            // A filter may name the modules, too.
            .and_then(|filter| filter.rsplit("::").next())
            .unwrap_or_else(|| panic!("{} names no tests", patch.display()));
        assert!(
            tests.contains(caught_by),
            "{}: no test is named {caught_by}",
            patch.display()
        );
    }
    assert!(patches > 0, "no bugs were found");
}

/// The lines of all sources that name a function.
fn tests_in(root: &Path) -> String {
    let mut lines = String::new();
    for folder in ["gateway", "worker", "shared", "tests/tests"] {
        for file in files_in(&root.join(folder), "rs") {
            let text = fs::read_to_string(file).unwrap();
            lines.extend(text.lines().filter(|line| line.contains("fn ")));
        }
    }
    lines
}

fn files_in(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_in(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files
}
