//! Faults, load and hostile clients: what befalls a server while it serves, and what the others see of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;

mod capturing;
mod client;
mod cost;
mod crowd;
mod faults;
mod floods;
mod hostile;
mod leaks;
mod limits;
mod patience;
