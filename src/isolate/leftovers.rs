//! What an isolated command leaves running when it ends: ended with it. It has no network and no home any more.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::process::ProcessName;

/// How long they have to end on their own, and then how long the kernel may take to end them.
const PATIENCE: [(Signal, Duration); 2] =
    [(Signal::TERM, Duration::from_secs(1)), (Signal::KILL, Duration::from_secs(5))];
const POLL: Duration = Duration::from_millis(5);

/// Ends every process that is in `network`, and gives them. Blocks until they have ended, for some seconds at most.
pub fn end(network: &File) -> Vec<ProcessName> {
    let mut ended = BTreeMap::new();
    for (signal, patience) in PATIENCE {
        let until = Instant::now() + patience;
        let mut told = Vec::new();
        loop {
            let numbers = members(network);
            if numbers.is_empty() {
                return ended.into_values().collect();
            }
            for number in numbers.into_iter().filter(|number| signal == Signal::KILL || !told.contains(number)) {
                if let Some(process) = tell(number, signal, network) {
                    ended.insert(number, process);
                }
            }
            told.extend(ended.keys());
            if Instant::now() > until {
                break;
            }
            sleep(POLL);
        }
    }
    ended.into_values().collect()
}

/// The processes that are in `network`, of those that may be looked at. None has ended.
fn members(network: &File) -> Vec<i32> {
    let items = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = items.filter_map(|item| item.file_name().to_str()?.parse().ok());
    numbers.filter(|number| is_in(*number, network).unwrap_or(false)).collect()
}

fn is_in(number: i32, network: &File) -> io::Result<bool> {
    let (its, wanted) = (fs::metadata(format!("/proc/{number}/ns/net"))?, network.metadata()?);
    Ok((its.dev(), its.ino()) == (wanted.dev(), wanted.ino()))
}

/// Sends `signal` to process `number`, if it is still the one in `network`.
fn tell(number: i32, signal: Signal, network: &File) -> Option<ProcessName> {
    // From here on the number can be that of no other process unnoticed.
    let process = pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
    let name = ProcessName::of(number)?;
    let is_it = is_in(number, network).unwrap_or(false);
    (is_it && pidfd_send_signal(&process, signal).is_ok()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_network_has_this_process_in_it_and_another_has_not() {
        let own = File::open("/proc/self/ns/net").unwrap();
        let number = i32::try_from(std::process::id()).unwrap();
        assert!(members(&own).contains(&number));
        let other = File::open("/proc/self/ns/mnt").unwrap();
        assert_eq!(members(&other), Vec::<i32>::new());
        assert_eq!(end(&other), Vec::new());
        assert_eq!(tell(number, Signal::KILL, &other), None);
    }
}
