//! The file that is imported, or the standard input: read once, from its start to its end.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read},
    path::{Path, PathBuf},
};

use super::{Format, ImportError};

/// How many bytes are looked at to tell what a file is.
const START: u64 = 4096;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file of which no more than its start has been read.
pub struct Input {
    path: PathBuf,
    start: Vec<u8>,
    rest: Box<dyn Read>,
}

impl Input {
    /// Opens `path`; `-` is the standard input.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let failed = |source| ImportError::Io { path: path.to_owned(), source };
        let mut rest: Box<dyn Read> = match path.as_os_str() == "-" {
            true => Box::new(io::stdin()),
            false => Box::new(File::open(path).map_err(failed)?),
        };
        let mut start = Vec::new();
        rest.by_ref().take(START).read_to_end(&mut start).map_err(failed)?;
        if start.starts_with(BYTE_ORDER_MARK) {
            start.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(Self { path: path.to_owned(), start, rest })
    }

    /// Its path, or `-`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells by its first bytes, or by the end of its name, what it is.
    ///
    /// # Errors
    /// Where it is nothing that can be imported.
    pub fn recognise(&self) -> Result<Format, ImportError> {
        if self.path.extension().is_some_and(|extension| extension == "nix") {
            return Ok(Format::NixBuildproxy);
        }
        if self.start.starts_with(b"PK\x03\x04") {
            return Err(ImportError::IsArchive(self.path.clone()));
        }
        let text = String::from_utf8_lossy(&self.start);
        let text = text.trim_start();
        if let Some(object) = text.strip_prefix('{') {
            let first = serde_json::Deserializer::from_str(object).into_iter::<String>().next();
            return match first {
                Some(Ok(name)) if name == "log" => Ok(Format::Har),
                Some(Ok(name)) if name.starts_with('!') || name.contains("://") => Ok(Format::MitmCache),
                _ => Err(ImportError::Unknown(self.path.clone())),
            };
        }
        // A tnetstring: the number of bytes, a colon.
        let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(0);
        match digits > 0 && text[digits..].starts_with(':') {
            true => Err(ImportError::IsFlows(self.path.clone())),
            false => Err(ImportError::Unknown(self.path.clone())),
        }
    }

    /// All of it, without a byte order mark.
    pub fn into_reader(self) -> impl Read {
        Cursor::new(self.start).chain(BufReader::new(self.rest))
    }

    /// All of it.
    ///
    /// # Errors
    /// Where it cannot be read, or is no UTF-8.
    pub fn into_text(self) -> Result<String, ImportError> {
        let (path, mut text) = (self.path.clone(), String::new());
        match self.into_reader().read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(source) => Err(ImportError::Io { path, source }),
        }
    }
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
            Input::open(&path).unwrap().recognise()
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

    #[test]
    fn all_of_a_file_is_read_but_for_its_byte_order_mark() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "äöü".repeat(5000);
        std::fs::write(file.path(), format!("\u{feff}{text}")).unwrap();
        assert_eq!(Input::open(file.path()).unwrap().into_text().unwrap(), text);
        std::fs::write(file.path(), b"a\xff").unwrap();
        assert!(Input::open(file.path()).unwrap().into_text().is_err());
    }
}
