//! The inventory: the file format, canonical writing, merging, the request index.

mod entry;
mod merge;
mod read;
mod strict;
mod write;

pub use entry::{Body, Entry, HeaderError, Headers, Hop, Inventory, MatchRules, Source};
pub use merge::{Change, ChangeKind, Key, merge_capture};
pub use read::{ReadError, SyntaxError, is_json, parse, read};
pub use write::{to_toml, write, write_atomically};
