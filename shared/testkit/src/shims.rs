//! Libraries of ours that are preloaded into programs, so that a test can cut their power or set
//! their clock. Compiled at the first use by `cc`, which Rust's linker needs anyhow. Linux only.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::guardian::guardian;

/// A library, and the variable that tells it its file.
#[derive(Debug, Clone)]
pub struct Preload {
    library: &'static Path,
    variable: &'static str,
    file: PathBuf,
}

/// Gives a program these libraries.
pub fn preload(command: &mut Command, preloads: &[&Preload]) {
    let libraries: Vec<_> = preloads
        .iter()
        .map(|preload| preload.library.display().to_string())
        .collect();
    if !libraries.is_empty() {
        command.env("LD_PRELOAD", libraries.join(":"));
    }
    command.envs(
        preloads
            .iter()
            .map(|preload| (preload.variable, &preload.file)),
    );
}

/// A disk that knows what of a server's files would survive a power cut. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Disk(Preload);

impl Default for Disk {
    fn default() -> Self {
        static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
        Self(Preload {
            library: LIBRARY
                .get_or_init(|| compile("power_loss", include_str!("../shims/power_loss.c"))),
            variable: "POWER_LOSS_RECORD",
            file: guardian().folder("disk").join("record"),
        })
    }
}

impl Disk {
    /// For the one program that writes to it.
    pub fn preload(&self) -> &Preload {
        &self.0
    }

    /// Cuts every file in a folder to what was surely on the disk; how many bytes that cost. The
    /// program must have been killed.
    ///
    /// # Panics
    /// When a file cannot be cut.
    pub fn cut(&self, folder: &Path) -> u64 {
        let record = fs::read_to_string(&self.0.file).unwrap_or_default();
        let lengths: HashMap<u64, u64> = record
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(inode, length)| Some((inode.parse().ok()?, length.parse().ok()?)))
            .collect();
        files_in(folder)
            .into_iter()
            .map(|path| {
                let file = fs::File::options()
                    .write(true)
                    .open(&path)
                    .expect("our file");
                let seen = file.metadata().expect("an open file");
                let kept = lengths.get(&seen.ino()).copied().unwrap_or(0);
                let gone = seen.len().saturating_sub(kept);
                if gone > 0 {
                    file.set_len(kept).expect("a file can be cut");
                }
                gone
            })
            .sum()
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the server has a folder");
    entries
        .flatten()
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                files_in(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// The time of day of a host, which can be set while its programs run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HostClock(Preload);

impl Default for HostClock {
    fn default() -> Self {
        static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
        let clock = Self(Preload {
            library: LIBRARY.get_or_init(|| compile("clock", include_str!("../shims/clock.c"))),
            variable: "CLOCK_OFFSET",
            file: guardian().folder("clock").join("offset"),
        });
        clock.set(0);
        clock
    }
}

impl HostClock {
    /// A clock that is off by this from the start.
    pub fn off_by(milliseconds: i64) -> Self {
        let clock = Self::default();
        clock.set(milliseconds);
        clock
    }

    /// For every program of the host.
    pub fn preload(&self) -> &Preload {
        &self.0
    }

    /// Sets how far it is ahead of the true time; behind it, if negative.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn set(&self, milliseconds: i64) {
        use std::os::unix::fs::FileExt as _;
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.0.file)
            .expect("the temporary folder is writable");
        // Eight aligned bytes in one call: a reader sees the old number or the new one.
        file.write_all_at(&milliseconds.to_ne_bytes(), 0)
            .expect("the temporary folder is writable");
    }
}

fn compile(name: &str, source: &str) -> PathBuf {
    let folder = guardian().folder("shim");
    let (from, to) = (
        folder.join(format!("{name}.c")),
        folder.join(format!("{name}.so")),
    );
    fs::write(&from, source).expect("the temporary folder is writable");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&to)
        .arg(&from)
        .arg("-ldl")
        .output()
        .expect("cc is installed, as for every build of Rust");
    assert!(
        output.status.success(),
        "cc {name}.c: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    to
}
