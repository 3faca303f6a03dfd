//! What the kernel says of processes: CPU time and peak memory.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

/// The kernel counts CPU time in hundredths of a second for user space, on every architecture that we run on.
const TICKS_A_SECOND: f64 = 100.0;

/// Returns the CPU seconds, user and system, of a process so far.
pub fn cpu_seconds(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read a process's CPU time")?;
    // The name in parentheses may hold anything; after it come state, ten fields, utime and stime.
    let rest = stat.rsplit_once(')').context("read a process's state")?.1;
    let ticks: f64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Ok(ticks / TICKS_A_SECOND)
}

/// Returns a value in KiB of `/proc/PID/status` as MiB: `VmHWM` is the peak of resident memory, `VmRSS` what it is.
pub fn memory_mib(pid: i32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read a process's memory")?;
    let line = status.lines().find(|line| line.starts_with(name));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("find {name}"))?;
    Ok(kib / 1_024.0)
}

/// CPU seconds by process name, for differences.
#[derive(Clone, Debug, Default)]
pub struct CpuTimes(BTreeMap<String, f64>);

impl CpuTimes {
    /// Reads the CPU time of some processes.
    pub fn of(processes: &[(String, i32)]) -> Result<Self> {
        let times = processes
            .iter()
            .map(|(name, pid)| Ok((name.clone(), cpu_seconds(*pid)?)));
        times.collect::<Result<_>>().map(Self)
    }

    /// Returns what each process used since, per million of `records`.
    pub fn since(&self, earlier: &Self, records: u64) -> BTreeMap<String, f64> {
        let used = |(name, now): (&String, &f64)| {
            let before = earlier.0.get(name)?;
            Some((name.clone(), (now - before) * 1e6 / records as f64))
        };
        self.0.iter().filter_map(used).collect()
    }
}
