//! Taking over what other programs recorded: HAR files, and the lists of nix-buildproxy and mitm-cache.
//!
//! All of it goes the way of a capture ([`Retelling`]): what may be recorded, how redirects become chains and where bodies
//! go is decided there. The lists know bodies only by their hashes; those are looked for in the stores, and then
//! downloaded, because an inventory has their sizes.

pub mod har;
pub mod listed;
pub mod mitm_cache;
pub mod nix_buildproxy;

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use crate::capture::Retelling;
use har::Unheard;

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
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
}

impl ImportError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// Tells by its first bytes, or by the end of its name, what the file at `path` is.
///
/// # Errors
/// Where it cannot be read, or is nothing that can be imported.
pub fn recognise(path: &Path) -> Result<Format, ImportError> {
    if path.extension().is_some_and(|extension| extension == "nix") {
        return Ok(Format::NixBuildproxy);
    }
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start)).map_err(ImportError::io(path))?;
    if start.starts_with(b"PK\x03\x04") {
        return Err(ImportError::IsArchive(path.to_owned()));
    }
    let text = String::from_utf8_lossy(&start);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if let Some(object) = text.strip_prefix('{') {
        let first = serde_json::Deserializer::from_str(object).into_iter::<String>().next();
        return match first {
            Some(Ok(name)) if name == "log" => Ok(Format::Har),
            Some(Ok(name)) if name.starts_with('!') || name.contains("://") => Ok(Format::MitmCache),
            _ => Err(ImportError::Unknown(path.to_owned())),
        };
    }
    // A tnetstring: the number of bytes, a colon.
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(0);
    match digits > 0 && text[digits..].starts_with(':') {
        true => Err(ImportError::IsFlows(path.to_owned())),
        false => Err(ImportError::Unknown(path.to_owned())),
    }
}

/// Tells the exchanges of the HAR file at `path`, and gives those that cannot be.
///
/// # Errors
/// Where it cannot be read, or is no HAR file.
pub fn tell_har(path: &Path, retelling: &Retelling) -> Result<Vec<Unheard>, ImportError> {
    let file = File::open(path).map_err(ImportError::io(path))?;
    let mut unheard = Vec::new();
    let told = har::read(BufReader::new(file), path.parent(), |exchange| match exchange {
        Ok(retold) => retelling.tell(retold),
        Err(reason) => unheard.push(reason),
    });
    told.map_err(|error| ImportError::damaged(path, error)).map(|()| unheard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let recognised = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            recognise(&path)
        };
        assert_eq!(recognised("a", "\u{feff} { \"log\": {").unwrap(), Format::Har);
        assert_eq!(recognised("a", "{\"!version\": 1}").unwrap(), Format::MitmCache);
        assert_eq!(recognised("a", "{\"https://h/a\": {}}").unwrap(), Format::MitmCache);
        assert_eq!(recognised("a.nix", "").unwrap(), Format::NixBuildproxy);
        assert!(matches!(recognised("a", "9:4:flow,}"), Err(ImportError::IsFlows(_))));
        assert!(matches!(recognised("a.zip", "PK\u{3}\u{4}\u{14}"), Err(ImportError::IsArchive(_))));
        for text in ["", "{", "[]", "version = 1", "12", ":"] {
            assert!(matches!(recognised("a", text), Err(ImportError::Unknown(_))), "{text}");
        }
    }
}
