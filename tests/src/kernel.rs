//! What the kernel says of processes and of the machine: CPU time, memory, time that the hypervisor took.

use std::time::Duration;

use anyhow::{Context as _, Result};
use procfs::process::{Process, Status};
use procfs::{CurrentSI as _, KernelStats, ProcResult};
use tokio::time::Instant;

/// Returns the CPU seconds, user and system, of a process so far; a hundredth of one is the least that shows.
pub fn cpu_seconds(pid: i32) -> Result<f64> {
    cpu_of(Process::new(pid))
}

/// Returns the CPU seconds of this process so far.
pub fn own_cpu_seconds() -> Result<f64> {
    cpu_of(Process::myself())
}

fn cpu_of(process: ProcResult<Process>) -> Result<f64> {
    let stat = process
        .and_then(|process| process.stat())
        .context("read a process's CPU time")?;
    Ok(seconds(stat.utime + stat.stime))
}

/// Returns the CPU seconds that the hypervisor gave to others while this machine had work for them, so far.
pub fn stolen_seconds() -> Result<f64> {
    Ok(seconds(times()?.total.steal.unwrap_or(0)))
}

fn stolen_of_each() -> Result<Vec<f64>> {
    let of_each = times()?.cpu_time.into_iter();
    Ok(of_each.map(|times| seconds(times.steal.unwrap_or(0))).collect())
}

fn times() -> Result<KernelStats> {
    KernelStats::current().context("read the machine's CPU times")
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / procfs::ticks_per_second() as f64
}

/// The memory of a process, in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// What is resident.
    pub resident: f64,
    /// The most that was ever resident.
    pub peak: f64,
    /// What of it is no file's.
    pub anonymous: f64,
}

/// Returns how much memory a process has.
pub fn memory(pid: i32) -> Result<Memory> {
    let status = Process::new(pid)
        .and_then(|process| process.status())
        .context("read a process's memory")?;
    let mib = |what: fn(&Status) -> Option<u64>| what(&status).map(|kib| kib as f64 / 1_024.0);
    let all = || {
        Some(Memory {
            resident: mib(|status| status.vmrss)?,
            peak: mib(|status| status.vmhwm)?,
            anonymous: mib(|status| status.rssanon)?,
        })
    };
    all().context("a process that has ended has no memory")
}

/// A stopwatch for bounds that tests must hold: it stands still while the hypervisor keeps a processor from the machine,
/// since what runs there cannot make up for that.
#[derive(Clone, Debug)]
pub struct Stopwatch {
    begun: Instant,
    /// Of each processor.
    stolen: Vec<f64>,
}

impl Stopwatch {
    /// Starts one.
    pub fn start() -> Result<Self> {
        Ok(Self {
            begun: Instant::now(),
            stolen: stolen_of_each()?,
        })
    }

    /// Returns the time since the start less what was stolen since of the processor that lost most.
    pub fn elapsed(&self) -> Result<Duration> {
        let since = stolen_of_each()?;
        let since = since.iter().zip(&self.stolen).map(|(now, before)| now - before);
        let stolen = Duration::from_secs_f64(since.fold(0.0, f64::max));
        Ok(self.begun.elapsed().saturating_sub(stolen))
    }
}
