//! The command line as people and programs meet it: at a terminal, in a shell, in a log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod doctor;
mod logs;
mod shells;
mod terminal;
