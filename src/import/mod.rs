//! Taking over what other programs recorded: HAR files, and the lists of nix-buildproxy and mitm-cache.
//!
//! All of it goes the way of a capture ([`Retelling`]): what may be recorded, how redirects become chains and where bodies
//! go is decided there. The lists know bodies only by their hashes; those are looked for in the stores, and then
//! downloaded, because an inventory has their sizes.

pub mod har;
mod input;
pub mod listed;
pub mod mitm_cache;
pub mod nix_buildproxy;

use std::{io, path::PathBuf};

use crate::capture::Retelling;
use har::Unheard;
pub use input::Input;

/// What can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// HAR 1.2, of browsers and mitmproxy.
    Har,
    /// A lock file of mitm-cache, or nixpkgs' shorter form of one for Gradle.
    MitmCache,
    /// A `proxy_content.nix` of nix-buildproxy.
    NixBuildproxy,
}

/// Why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a flow file of mitmproxy.
    #[error(
        "{path} is a flow file of mitmproxy, which only mitmproxy itself can read\n\nhint: write it as HAR: `mitmdump -n -r \
         {path} --set hardump=flows.har`, then import flows.har",
        path = .0.display()
    )]
    IsFlows(PathBuf),
    /// It is a ZIP archive.
    #[error(
        "{path} is a ZIP archive, as Playwright makes it of a HAR file and its bodies\n\nhint: unpack it: `unzip -d recorded \
         {path}`, then import recorded/har.har",
        path = .0.display()
    )]
    IsArchive(PathBuf),
    /// It is nothing that is known.
    #[error(
        "{} is neither HAR (a JSON object with `log`), nor a lock file of mitm-cache (JSON with `!version`), nor a \
         proxy_content.nix (by the end of its name)\n\nhint: say what it is with `--from`",
        .0.display()
    )]
    Unknown(PathBuf),
    /// It is damaged.
    #[error("{}:{} {reason}", path.display(), place.map_or(String::new(), |(line, column)| format!("{line}:{column}:")))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Line and column, from 1, where they are known.
        place: Option<(usize, usize)>,
        /// What is wrong.
        reason: String,
    },
}

impl ImportError {
    /// The file at `path` is damaged for `reason`, at whose end there can be a place as serde_json writes it.
    pub fn damaged(path: PathBuf, reason: &str) -> Self {
        let place = |text: &str| {
            let (line, column) = text.split_once(" column ")?;
            Some((line.parse().ok()?, column.parse::<usize>().ok()?.max(1)))
        };
        let split = reason.rsplit_once(" at line ").and_then(|(reason, text)| Some((reason, place(text)?)));
        let (reason, place) = split.map_or((reason, None), |(reason, place)| (reason, Some(place)));
        Self::Damaged { path, place, reason: reason.to_owned() }
    }
}

/// Tells the exchanges of a HAR file, and gives those that cannot be.
///
/// # Errors
/// Where it cannot be read, or is no HAR file.
pub fn tell_har(input: Input, retelling: &Retelling) -> Result<Vec<Unheard>, ImportError> {
    let path = input.path().to_owned();
    let mut unheard = Vec::new();
    let told = har::read(input.into_reader(), path.parent(), |exchange| match exchange {
        Ok(retold) => retelling.tell(retold),
        Err(reason) => unheard.push(reason),
    });
    told.map(|()| unheard).map_err(|error| match error.io_error_kind() {
        Some(_) => ImportError::Io { path, source: error.into() },
        None => ImportError::damaged(path, &error.to_string()),
    })
}
