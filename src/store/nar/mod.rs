//! Nix archives: the canonical bytes of a file tree, which a store path's `narHash` is the hash of
//! (`src/libutil/archive.cc` of Nix).
//!
//! Names and link targets are bytes of any value that a file system takes; of the mode only the owner's x bit counts;
//! entries are sorted bytewise. Files are streamed both ways, and what memory is used follows from the depth of a tree
//! and the length of its names, never from a length that an archive claims.

pub mod reader;
mod restore;
#[cfg(test)]
mod tests;
pub mod writer;

pub use restore::{RestoreError, restore};
pub use writer::{NarError, dump, hash, hash_with};

/// What every archive starts with.
const MAGIC: &[u8] = b"nix-archive-1";

/// Longest name in bytes (`NAME_MAX`).
const MAX_NAME_LENGTH: usize = 255;

/// Longest target of a link, and longest path inside an archive, in bytes: `PATH_MAX` without the NUL at its end. Nix can
/// neither archive nor restore longer ones, since it works with whole paths, too.
const MAX_PATH_LENGTH: usize = 4095;

/// One file, folder or link of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder; its entries follow.
    Directory,
    /// A regular file; its bytes follow.
    File {
        /// Whether its owner may execute it.
        executable: bool,
        /// Its size in bytes; in what is read, what the archive claims.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to.
        target: Vec<u8>,
    },
}

/// Zeros behind a string of `length` bytes, up to a multiple of 8.
const fn padding(length: u64) -> usize {
    // Below 8.
    ((8 - length % 8) % 8) as usize
}
