//! Nix itself: its store, its sandbox, its language.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod code;
#[path = "../common/mod.rs"]
mod common;
mod flakes;
mod mk_buildproxy;
mod push;
mod registration;
mod sandbox;
mod sandboxed_builds;
mod store;
