//! The processor time of other processes.

use std::time::Duration;

/// Processor time of the first threads of other processes, the kernel's share included; 0 for one that is gone.
pub fn process_time(processes: &[i32]) -> Duration {
    let times = processes.iter().filter_map(|process| {
        let times = std::fs::read_to_string(format!("/proc/{process}/schedstat")).ok()?;
        times.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}
