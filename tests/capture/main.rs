//! What a capture records, and from whom; where bodies come from, and what stays out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod durability;
mod only;
mod origins;
mod ranges;
mod recording;
mod resume;
mod secrets;
mod sources;
