//! The inventory: the file format, canonical writing, merging, the request index.

mod entry;
pub mod index;

pub use entry::{Body, Entry, HeaderError, Headers, Hop, Inventory, MatchRules, Source};
