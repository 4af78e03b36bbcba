//! The inventory: the file format, canonical writing, merging, the request index.

mod compiled;
mod diff;
mod entry;
pub mod index;
mod key;
mod locate;
mod merge;
mod naming;
pub mod read;
mod redirect;
pub mod request_body;
mod rules;
mod strict;
mod system;
mod unite;
mod whole_file;
mod why;
mod write;

pub use compiled::CompiledError;
pub use diff::{Amount, Diff, FieldChange, Step, Totals, diff};
pub use entry::{Body, Entry, HeaderError, Headers, Hop, Inventory, Source, UrlMatch, is_about_the_bytes};
pub use key::{Key, Keys};
pub use locate::{BodyFiles, LocateError, Located, replace_in_nix_store};
pub use merge::{Change, ChangeKind, merge_capture};
pub use read::{FileForm, LONGEST, ReadError, SyntaxError, entry_lines, is_json, parse, read, read_with_form};
pub use redirect::becomes_get;
pub use rules::{MatchRules, Rewrite, UsedRule, literal as literal_glob};
pub use system::current_system;
pub use unite::{Conflict, Input, United, unite};
pub use whole_file::{write_atomically, write_output};
pub use why::{Reason, Seen, Why, pinned_by_redirect};
pub use write::{to_toml, toml_of_entry, toml_of_rules, write};
