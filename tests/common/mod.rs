//! What the integration tests share: real origins on loopback, a place of their own to run in, and `buildproxy` itself.
//!
//! Every test binary uses a part of this, so the compiler calls the rest unused; and a helper may fail as a test may.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod awkward;
pub mod entries;
pub mod git;
pub mod http1;
pub mod http2;
pub mod nginx;
pub mod process;
pub mod serving;
pub mod tls;
pub mod workdir;

pub use awkward::Awkward;
pub use entries::{Entries, Entry};
pub use nginx::Nginx;
pub use process::{Outcome, run};
pub use serving::Serving;
pub use tls::TestCa;
pub use workdir::{Workdir, in_empty_network};

use sha2::{Digest, Sha256};

/// `length` bytes that are the same in every run and differ from place to place.
pub fn pattern(length: usize) -> Vec<u8> {
    (0u32..).flat_map(|line| format!("line {line} of the pattern\n").into_bytes()).take(length).collect()
}

/// The SRI form of the SHA-256 of `bytes`.
pub fn sri(bytes: &[u8]) -> String {
    format!("sha256-{}", data_encoding::BASE64.encode(&Sha256::digest(bytes)))
}
