//! Where bodies live: store paths, hashes, NAR; the Nix store and the embedded store.
//!
//! The vocabulary is nix-compat's, so that it can take this module's place once it is published.

pub mod hash;
pub mod nixbase32;
pub mod path;
