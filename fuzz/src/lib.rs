//! The rooms of buildproxy that are fuzzed, from the program's own files: the build of the others, with TLS and a client,
//! takes longer than that of all of these. What is called `skip` has tests in a file that rustfmt would look for here.

#![allow(dead_code, missing_docs, unused_imports)]

pub mod capture;
#[path = "../../src/credentials/mod.rs"]
pub mod credentials;
#[path = "../../src/export/mod.rs"]
#[rustfmt::skip]
pub mod export;
#[path = "../../src/import/har/mod.rs"]
pub mod har;
#[path = "../../src/inventory/mod.rs"]
pub mod inventory;
pub mod proxy;
#[path = "../../src/representation/range.rs"]
pub mod range;
pub mod replay;
#[path = "../../src/representation/mod.rs"]
mod representation;
#[path = "../../src/request_id.rs"]
pub mod request_id;
#[path = "../../src/store/mod.rs"]
pub mod store;
#[path = "../../src/text.rs"]
pub mod text;
#[path = "../../src/url.rs"]
#[rustfmt::skip]
pub mod url;
