//! What captures and replays have in common: connections, and the command that runs behind them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod authority;
#[path = "../common/mod.rs"]
mod common;
mod http2;
mod isolate;
mod running;
mod server;
