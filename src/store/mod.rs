//! Where bodies live: store paths, hashes, NAR; the Nix store and the embedded store; mapped files.
//!
//! The vocabulary is nix-compat's, so that it can take this module's place once it is published.

pub mod ahead;
pub mod claim;
pub mod deposit;
pub mod embedded;
pub mod hash;
pub mod mapped;
pub mod nar;
pub mod nix;
pub mod nixbase32;
pub mod path;
pub mod regular;
pub mod spool;
pub mod state;
pub mod stream;

mod stores;

pub use stores::{FindError, Stores};
pub(crate) use stores::{is_absent, list};
