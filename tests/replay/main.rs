//! What a replay answers, down to the bytes on the wire.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
#[path = "../common/mod.rs"]
mod common;
mod encrypted;
mod matching;
mod redbot;
mod wire;
mod zero_copy;
