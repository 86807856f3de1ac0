//! What a process has used so far, and medians.

use anyhow::Context as _;
use procfs::process::Process;

/// CPU time and memory of a process, from `/proc`.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// User and system time of all its threads, in microseconds. The kernel counts in ticks of
    /// 10 ms, so windows have to be long.
    pub cpu_us: f64,
    /// Resident memory that no file backs, in KiB.
    pub anonymous_kib: f64,
}

/// Usage of process `pid` since it started.
pub fn usage(pid: u32) -> anyhow::Result<Usage> {
    let process = Process::new(pid as i32).context("the measured process is gone")?;
    let stat = process.stat()?;
    let ticks = (stat.utime + stat.stime) as f64;
    let anonymous_kib = process.status()?.rssanon.context("no RssAnon in /proc")? as f64;
    Ok(Usage {
        cpu_us: ticks * 1e6 / procfs::ticks_per_second() as f64,
        anonymous_kib,
    })
}

/// CPU time of several processes together, in microseconds.
pub fn cpu_us(pids: &[u32]) -> anyhow::Result<f64> {
    pids.iter()
        .map(|pid| usage(*pid).map(|usage| usage.cpu_us))
        .sum()
}

/// The middle one, or the mean of the middle two; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(usage(std::process::id()).unwrap().anonymous_kib > 0.0);
    }
}
