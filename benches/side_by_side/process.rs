//! What a server costs: its processor time and its memory, as the kernel counts them.

use std::{fs, time::Duration};

/// The processes of a server.
#[derive(Debug, Clone)]
pub struct Processes(pub Vec<u32>);

impl Processes {
    /// A process and those that it started.
    pub fn of(parent: u32) -> Self {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        Self(std::iter::once(parent).chain(children).collect())
    }

    /// The processor time of all of their threads so far, user and system.
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.0.iter().map(|&pid| cpu_nanos(pid)).sum())
    }

    /// Forgets the peaks of memory so far.
    pub fn reset_peaks(&self) {
        for pid in &self.0 {
            fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the kernel takes a reset of the peak");
        }
    }

    /// The peak of the resident memory of all of them, mapped files included, in MiB.
    pub fn peak_mib(&self) -> f64 {
        self.0.iter().map(|&pid| status_kib(pid, "VmHWM:")).sum::<f64>() / 1024.
    }

    /// Their resident memory now, mapped files included, in MiB.
    pub fn resident_mib(&self) -> f64 {
        self.0.iter().map(|&pid| status_kib(pid, "VmRSS:")).sum::<f64>() / 1024.
    }
}

/// `utime` and `stime` count in hundredths of a second; the scheduler's own count is in nanoseconds.
fn cpu_nanos(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos = |stat: String| stat.split_whitespace().next()?.parse::<u64>().ok();
    threads.filter_map(|thread| nanos(fs::read_to_string(thread.path().join("schedstat")).ok()?)).sum()
}

fn status_kib(pid: u32, key: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0.)
}
