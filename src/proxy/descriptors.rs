//! File descriptors: as many as the system lets us have, and some of them kept for what is no connection.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What some systems allow at the most though they say that there is no limit.
const ALWAYS_ALLOWED: u64 = 10_240;

/// Lets this process have as many descriptors as it may. Shells begin with 1024, for the sake of programs that use
/// `select(2)`: so this is for after the start of a command, which inherits what was before.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    for wanted in [limit.maximum, Some(ALWAYS_ALLOWED)] {
        let is_enough = limit.current.is_none_or(|current| wanted.is_some_and(|wanted| wanted <= current));
        if is_enough || setrlimit(Resource::Nofile, Rlimit { current: wanted, ..limit }).is_ok() {
            return;
        }
    }
    tracing::debug!(?limit, "the limit of descriptors stays as it is");
}

/// How many connections can be open at once, each of which holds `others` more descriptors for as long as it is served.
/// A quarter is for what is open for a moment, such as the file of a body.
pub fn most_connections(others: u32) -> usize {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return usize::MAX };
    usize::try_from(connections_of(limit, others)).unwrap_or(usize::MAX)
}

fn connections_of(limit: u64, others: u32) -> u64 {
    // What every process has: standard streams, the runtime's, the listener's.
    const OWN: u64 = 20;
    (limit.saturating_sub(OWN) / 4 * 3 / (1 + u64::from(others))).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_kept_for_files_whatever_the_limit() {
        for (limit, others, connections) in [
            (0, 0, 1),
            (24, 0, 3),
            (64, 0, 33),
            (1024, 0, 753),
            (20_000, 0, 14_985),
            (20_000, 2, 4995),
            (1 << 20, 0, 786_417),
        ] {
            assert_eq!(connections_of(limit, others), connections, "{limit}");
        }
    }
}
