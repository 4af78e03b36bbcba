//! The inventory: the file format, canonical writing, merging, the request index.

mod entry;
pub mod index;
mod locate;

pub use entry::{Body, Entry, HeaderError, Headers, Hop, Inventory, MatchRules, Source};
pub use locate::{BodyFiles, LocateError, Located, check_size};
