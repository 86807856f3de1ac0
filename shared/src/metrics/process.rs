//! What every process tells about itself, under the names Prometheus' own clients use.

use super::{Gauge, Label, Labels, Metrics};
use crate::metrics::Counter;

/// The version as a label: it has one value.
#[derive(Debug, Clone, Copy)]
pub struct Version;

impl Label for Version {
    const NAME: &'static str = "version";
    const VALUES: &'static [&'static str] = &[env!("CARGO_PKG_VERSION")];

    fn index(self) -> usize {
        0
    }
}

impl Labels for Version {
    fn names() -> Vec<&'static str> {
        vec![Self::NAME]
    }

    fn combinations() -> Vec<Vec<&'static str>> {
        vec![Self::VALUES.to_vec()]
    }

    fn index(self) -> usize {
        0
    }
}

crate::metrics! {
    pub static TABLE;
    /// Always 1; the label tells what runs.
    static BUILD_INFO: Gauge<Version> = "tidegate_build_info";
    /// Processor time used, user and system, in whole seconds.
    static CPU_SECONDS: Counter = "process_cpu_seconds_total";
    /// Memory in use, in bytes (Linux).
    static RESIDENT_MEMORY: Gauge = "process_resident_memory_bytes";
    /// Open file descriptors (Linux).
    static OPEN_FDS: Gauge = "process_open_fds";
    /// Most file descriptors that may be open (Linux).
    static MAX_FDS: Gauge = "process_max_fds";
    /// Threads (Linux).
    static THREADS: Gauge = "process_threads";
    /// When the process began, as Unix time in seconds (Linux).
    static START_TIME: Gauge = "process_start_time_seconds";
}

/// Reads them at every scrape.
pub(super) fn start(metrics: &Metrics) {
    metrics.on_scrape(|| {
        BUILD_INFO.of(Version).set(1.0);
        #[cfg(target_os = "linux")]
        linux::read();
    });
}

#[cfg(target_os = "linux")]
mod linux {
    use procfs::{WithCurrentSystemInfo as _, process::Process};

    use super::{CPU_SECONDS, MAX_FDS, OPEN_FDS, RESIDENT_MEMORY, START_TIME, THREADS};

    pub(super) fn read() {
        let Ok(process) = Process::myself() else {
            return;
        };
        if let Ok(stat) = process.stat() {
            RESIDENT_MEMORY.set(stat.rss_bytes().get() as f64);
            CPU_SECONDS.absolute((stat.utime + stat.stime) / procfs::ticks_per_second());
            THREADS.set(stat.num_threads as f64);
            if let Ok(boot) = procfs::boot_time_secs() {
                START_TIME
                    .set(boot as f64 + stat.starttime as f64 / procfs::ticks_per_second() as f64);
            }
        }
        if let Ok(count) = process.fd_count() {
            OPEN_FDS.set(count as f64);
        }
        if let Ok(limits) = process.limits()
            && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            MAX_FDS.set(most as f64);
        }
    }
}
