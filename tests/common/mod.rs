//! What the integration tests share: real origins on loopback, a place of their own to run in, and `buildproxy` itself.
//!
//! Every test binary uses a part of this, so the compiler calls the rest unused; and a helper may fail as a test may.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod awkward;
pub mod captured;
pub mod entries;
pub mod git;
pub mod http1;
pub mod http2;
pub mod nginx;
pub mod nix;
pub mod peer;
pub mod process;
pub mod sandbox;
pub mod sending;
pub mod serving;
pub mod shown;
pub mod tls;
pub mod tmux;
pub mod workdir;

pub use awkward::Awkward;
pub use entries::{Entries, Entry};
pub use nginx::Nginx;
pub use nix::Nix;
pub use process::{Outcome, run};
pub use sending::Sending;
pub use serving::Serving;
pub use tls::TestCa;
pub use tmux::Tmux;
pub use workdir::{Workdir, in_empty_network};

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// `length` bytes that are the same in every run and differ from place to place.
pub fn pattern(length: usize) -> Vec<u8> {
    (0u32..).flat_map(|line| format!("line {line} of the pattern\n").into_bytes()).take(length).collect()
}

/// The SRI form of the SHA-256 of `bytes`.
pub fn sri(bytes: &[u8]) -> String {
    format!("sha256-{}", data_encoding::BASE64.encode(&Sha256::digest(bytes)))
}

/// Every file below `folder` with its bytes; a digest of those that are long or no text.
pub fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    fn add(files: &mut BTreeMap<PathBuf, String>, top: &Path, folder: &Path) {
        for item in fs::read_dir(folder).unwrap().map(|item| item.unwrap().path()) {
            if item.is_dir() {
                add(files, top, &item);
                continue;
            }
            let bytes = fs::read(&item).unwrap();
            let content = match str::from_utf8(&bytes) {
                Ok(text) if text.len() < 500 => text.to_owned(),
                _ => sri(&bytes),
            };
            files.insert(item.strip_prefix(top).unwrap().to_owned(), content);
        }
    }
    let mut files = BTreeMap::new();
    add(&mut files, folder, folder);
    files
}

/// Every regular file below `folder`; links are not followed.
pub fn tree_of_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for item in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match item.file_type().unwrap() {
            kind if kind.is_dir() => files.extend(tree_of_files(&item.path())),
            kind if kind.is_file() => files.push(item.path()),
            _ => {}
        }
    }
    files
}

/// A program of those that `./test` installs for Python.
pub fn python_tool(name: &str) -> String {
    tool("python/bin/", name)
}

/// A program of those that `./test` installs with npm.
pub fn npm_tool(name: &str) -> String {
    tool("npm/node_modules/.bin/", name)
}

fn tool(folder: &str, name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/").to_owned() + folder + name;
    assert!(Path::new(&path).exists(), "{path} is missing: run ./test, which installs it");
    path
}
