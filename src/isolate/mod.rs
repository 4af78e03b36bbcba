//! Running a command where it reaches the proxy and nothing else, without the user's files that decide what it
//! downloads: `--isolate`. Linux only.
//!
//! The command gets a network namespace of its own (and a user namespace, where whoever runs it may not make one
//! otherwise). [`Isolated`] starts this program once more, which goes inside, listens there at the proxy's
//! address, and hands the listening socket out: connections are made inside and accepted outside, with nothing between
//! that copies. Then it becomes the command, so that signals, exit codes and the terminal are those of any child.
//!
//! Everything that is not for loopback is routed into a pair of interfaces whose far end is read outside, too:
//! `watch` refuses what arrives there at once, so that nobody waits for an answer, and notes who tried to go where.
//! It holds each attempt until the process is found that made it, which is why the kernel's own refusals will not do.
//!
//! When the command has ended, so has what it left running; also where this program was killed, for which a `keeper` waits.
//!
//! This keeps a build from downloading past a capture by mistake. It is no wall against a program that wants out.

#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
mod bypass;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod frame;
#[cfg(target_os = "linux")]
mod handover;
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
mod home;
#[cfg(target_os = "linux")]
mod inside;
#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod leftovers;
#[cfg(target_os = "linux")]
mod names;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
mod outside;
#[cfg(target_os = "linux")]
mod setup_error;
#[cfg(target_os = "linux")]
mod watch;

use tokio::process::Child;

use crate::process::ProcessName;

pub use bypass::{Bypass, BypassReport, sentences};
#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Isolated, go_inside, keep};
#[cfg(target_os = "linux")]
pub use inside::go_inside;
#[cfg(target_os = "linux")]
pub use keeper::keep;
#[cfg(target_os = "linux")]
pub use outside::Isolated;

/// A command that runs, isolated or not.
pub struct Running {
    /// Its process.
    pub child: Child,
    /// Ends what was made for it and what it left running. To be called when it has ended.
    pub end: Box<dyn FnOnce() -> Remains + Send>,
}

/// What there is to be said of a command when it has ended.
#[derive(Debug, Default)]
pub struct Remains {
    /// What it tried to reach past the proxy.
    pub bypasses: Vec<Bypass>,
    /// What it left running, which has been ended.
    pub left_running: Vec<ProcessName>,
}

impl Running {
    /// A command that is not isolated.
    pub fn open(child: Child) -> Self {
        Self { child, end: Box::new(Remains::default) }
    }
}
