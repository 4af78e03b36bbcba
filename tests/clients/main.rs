//! Real clients, captured, then replayed where there is no network.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
mod downloads;
mod nix_fetchers;
mod package_managers;
mod registries;
