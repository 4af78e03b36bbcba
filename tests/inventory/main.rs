//! The inventory as a file: read, refused, compiled, checked, united.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
mod index;
mod merge;
mod refused;
mod verify;
