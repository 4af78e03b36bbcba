//! Replay against the origins that it stands in for: nginx and Python are asked the same as we are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod ranges;
mod requests;
mod rfc;
mod spellings;
