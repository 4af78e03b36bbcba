//! What comes from others, meant to do harm: inventories, origins, clients, pages in a browser.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod bodies;
mod keys;
mod limits;
mod network;
mod raw;
mod splitting;
mod terminal;
