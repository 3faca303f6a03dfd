//! CPU time of several processes.

use std::collections::BTreeMap;

use anyhow::Result;
use reprise_tests::kernel::cpu_seconds;

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
