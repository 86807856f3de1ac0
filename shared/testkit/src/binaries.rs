//! Where the programs are.

use std::path::{Path, PathBuf};

use crate::stale;

/// A program from PATH or one of the places packages put it in.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(package_folders())
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The same, or a panic that says how to get it.
pub fn need(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| {
        panic!("{name} is not installed: run scripts/install-servers, or put it into PATH")
    })
}

/// Debian keeps Postgres out of PATH, and brew its versioned formulas.
fn package_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = [
        "/usr/bin",
        "/usr/sbin",
        "/usr/local/bin",
        "/opt/homebrew/bin",
    ]
    .map(PathBuf::from)
    .into();
    for (parent, inner) in [
        ("/usr/lib/postgresql", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
        ("/usr/local/lib/postgresql", "bin"),
    ] {
        let mut found: Vec<PathBuf> = std::fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                parent.ends_with("postgresql") || path.to_string_lossy().contains("postgresql")
            })
            .map(|path| path.join(inner))
            .collect();
        // The newest version first.
        found.sort_by_key(|path| std::cmp::Reverse(version_of(path)));
        folders.extend(found);
    }
    folders
}

fn version_of(path: &Path) -> u32 {
    let digits: String = path
        .to_string_lossy()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap_or(0)
}

/// A program of this workspace, from the folder this process was built into, or from
/// `TIDEGATE_BIN_DIR`.
///
/// # Panics
/// When it is missing, or built here and older than its sources.
pub fn product(name: &str) -> PathBuf {
    let given = std::env::var_os("TIDEGATE_BIN_DIR").map(PathBuf::from);
    let ours = given.is_none();
    let file = given.unwrap_or_else(built_into).join(name);
    assert!(
        file.is_file(),
        "{} is missing: run `cargo build --workspace --bins` first",
        file.display()
    );
    if ours {
        stale::check(name, &file);
    }
    file
}

/// `target/debug` for a test in `target/debug/deps` and a program in `target/debug` alike.
fn built_into() -> PathBuf {
    let exe = std::env::current_exe().expect("a process knows its program");
    let folder = exe.parent().expect("a program is in a folder");
    if folder.ends_with("deps") {
        folder
            .parent()
            .expect("deps is inside of target")
            .to_path_buf()
    } else {
        folder.to_path_buf()
    }
}

/// Where logs of failed tests are kept: `target/test-logs`.
pub fn log_folder() -> PathBuf {
    let built = built_into();
    built.parent().unwrap_or(&built).join("test-logs")
}
