//! The inventory: the file format, canonical writing, merging, the request index.

mod entry;
pub mod index;
mod key;
mod locate;
mod merge;
mod read;
mod redirect;
mod request_digest;
mod strict;
mod system;
mod write;

pub use entry::{Body, Entry, HeaderError, Headers, Hop, Inventory, MatchRules, Source};
pub use key::{BadGlob, Key, Keys};
pub use locate::{BodyFiles, LocateError, Located, check_size};
pub use merge::{Change, ChangeKind, merge_capture};
pub use read::{ReadError, SyntaxError, is_json, parse, read};
pub use redirect::becomes_get;
pub use request_digest::RequestDigest;
pub use system::current_system;
pub use write::{to_toml, write, write_atomically};
