//! The rooms of buildproxy that are fuzzed, from the program's own files. The others need TLS and clients, whose build takes
//! five times as long as that of these.

#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../src/inventory/mod.rs"]
pub mod inventory;
pub mod proxy;
pub mod replay;
#[path = "../../src/store/mod.rs"]
pub mod store;
#[path = "../../src/url.rs"]
pub mod url;
