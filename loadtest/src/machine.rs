//! On what the figures were measured.

use std::process::Command;

use serde::Serialize;

/// The machine and the programs.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Logical cores.
    pub cores: usize,
    /// The processor's name.
    pub processor: String,
    /// Kernel release.
    pub kernel: String,
    /// `redis-server --version`.
    pub redis: String,
    /// `postgres --version`.
    pub postgres: String,
    /// Short hash, `+` if files differ from it.
    pub commit: String,
    /// 1-minute load average when the bench started: other work on the cores shows here.
    pub load: f64,
    /// Seconds since the Unix epoch.
    pub at: u64,
}

impl Machine {
    /// Looks around; what cannot be found out is `?`.
    pub fn look() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("?", |name| name.trim_start_matches([' ', '\t', ':']));
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let dirty = if output("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty()
        {
            ""
        } else {
            "+"
        };
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: processor.to_owned(),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            redis: version("redis-server"),
            postgres: version("postgres"),
            commit: format!(
                "{}{dirty}",
                output("git", &["rev-parse", "--short", "HEAD"])
            ),
            load: load
                .split(' ')
                .next()
                .and_then(|first| first.parse().ok())
                .unwrap_or(f64::NAN),
            at: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let Self {
            cores,
            processor,
            kernel,
            redis,
            postgres,
            commit,
            load,
            ..
        } = self;
        format!(
            "{cores} cores ({processor}), Linux {kernel}, Redis {redis}, Postgres {postgres}, commit {commit}, load {load} at start"
        )
    }
}

fn version(program: &str) -> String {
    let Some(path) = testkit::binaries::find(program) else {
        return "?".to_owned();
    };
    let text = output(&path.to_string_lossy(), &["--version"]);
    text.split_whitespace()
        .map(|word| word.trim_start_matches("v="))
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .unwrap_or("?")
        .to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
