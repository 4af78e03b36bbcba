//! Faults, injected for real: origins that break off, lie and stall, full disks, failing and last system calls, clocks
//! that jump. Each time: what the user sees, what is on disk afterwards, and that nothing finished is lost.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod calls;
mod clock;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod disk;
mod http2;
mod meanwhile;
mod order;
mod origins;
mod server;
mod state;
mod strace;
mod tls;
mod wire;
