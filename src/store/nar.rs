//! Nix archives: the canonical bytes of a file tree, which a store path's `narHash` is the hash of
//! (`src/libutil/archive.cc` of Nix).
//!
//! Names and link targets are bytes of any value and length; of the mode only the owner's x bit counts; entries are
//! sorted bytewise. Files are streamed.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use super::hash::{HashAlgo, Hasher, NixHash};

/// What every archive starts with.
const MAGIC: &[u8] = b"nix-archive-1";

/// Bytes read from a file at once.
const CHUNK: usize = 128 * 1024;

/// Why a tree cannot be archived.
#[derive(Debug, thiserror::Error)]
pub enum NarError {
    /// Something in the tree cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("cannot write the archive of {}: {source}", path.display())]
    Write {
        /// What was being archived.
        path: PathBuf,
        /// What the writer said.
        #[source]
        source: io::Error,
    },
    /// A file got longer or shorter while it was read.
    #[error("cannot read {}: its size changed from {expected} bytes meanwhile", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its size in bytes before.
        expected: u64,
    },
    /// A device, socket or pipe.
    #[error("cannot archive {}: it is neither a file, a folder nor a symbolic link", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
    },
}

/// Writes the archive of `path` to `output`; a link is archived as one, not followed. Many writes are short: give a
/// buffered writer where they are dear.
///
/// # Errors
/// Where the tree cannot be read or changes meanwhile, or `output` fails.
pub fn dump(path: &Path, output: &mut impl Write) -> Result<(), NarError> {
    Dump { output, buffer: vec![0; CHUNK] }.archive(path)
}

/// The SHA-256 of the archive of `path`: what `nix-hash --type sha256 PATH` and `narHash` say.
///
/// # Errors
/// As [`dump`].
pub fn hash(path: &Path) -> Result<NixHash, NarError> {
    hash_with(path, HashAlgo::Sha256, |_| {})
}

/// The hash of the archive of `path` by `algo`; `progress` is told of bytes as they are hashed.
///
/// # Errors
/// As [`dump`].
pub fn hash_with(path: &Path, algo: HashAlgo, progress: impl FnMut(u64)) -> Result<NixHash, NarError> {
    let mut sink = HashSink { hasher: Hasher::new(algo), progress };
    dump(path, &mut sink)?;
    Ok(sink.hasher.finish())
}

/// A writer that only hashes.
struct HashSink<F> {
    hasher: Hasher,
    progress: F,
}

impl<F: FnMut(u64)> Write for HashSink<F> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.hasher.update(data);
        (self.progress)(data.len() as u64);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Dump<'a, W> {
    output: &'a mut W,
    buffer: Vec<u8>,
}

impl<W: Write> Dump<'_, W> {
    fn archive(&mut self, path: &Path) -> Result<(), NarError> {
        self.strings(path, &[MAGIC])?;
        self.node(path)
    }

    fn node(&mut self, path: &Path) -> Result<(), NarError> {
        let metadata = fs::symlink_metadata(path).map_err(unreadable(path))?;
        let kind = metadata.file_type();
        self.strings(path, &[b"(", b"type"])?;
        if kind.is_file() {
            self.regular(path, &metadata)?;
        } else if kind.is_dir() {
            self.directory(path)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(path).map_err(unreadable(path))?;
            self.strings(path, &[b"symlink", b"target", target.as_os_str().as_bytes()])?;
        } else {
            return Err(NarError::Unsupported { path: path.to_owned() });
        }
        self.strings(path, &[b")"])
    }

    fn regular(&mut self, path: &Path, metadata: &Metadata) -> Result<(), NarError> {
        self.strings(path, &[b"regular"])?;
        if metadata.permissions().mode() & 0o100 != 0 {
            self.strings(path, &[b"executable", b""])?;
        }
        self.strings(path, &[b"contents"])?;
        self.contents(path, metadata.len())
    }

    /// The bytes of a file as one string; its length goes first, so it must not change.
    fn contents(&mut self, path: &Path, size: u64) -> Result<(), NarError> {
        let changed = || NarError::Changed { path: path.to_owned(), expected: size };
        let mut file = File::open(path).map_err(unreadable(path))?;
        self.bytes(path, &size.to_le_bytes())?;
        let mut left = size;
        loop {
            let count = match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(path)(error)),
            };
            left = left.checked_sub(count as u64).ok_or_else(changed)?;
            self.output.write_all(&self.buffer[..count]).map_err(unwritable(path))?;
        }
        if left > 0 {
            return Err(changed());
        }
        self.padding(path, size)
    }

    fn directory(&mut self, path: &Path) -> Result<(), NarError> {
        self.strings(path, &[b"directory"])?;
        let entries = fs::read_dir(path).map_err(unreadable(path))?;
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(unreadable(path))?;
        names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            self.strings(path, &[b"entry", b"(", b"name", name.as_bytes(), b"node"])?;
            self.node(&path.join(&name))?;
            self.strings(path, &[b")"])?;
        }
        Ok(())
    }

    /// Writes strings as the format has them: length as 64 bits little-endian, bytes, zeros up to a multiple of 8.
    fn strings(&mut self, path: &Path, strings: &[&[u8]]) -> Result<(), NarError> {
        for string in strings {
            let length = string.len() as u64;
            self.bytes(path, &length.to_le_bytes())?;
            self.bytes(path, string)?;
            self.padding(path, length)?;
        }
        Ok(())
    }

    fn padding(&mut self, path: &Path, length: u64) -> Result<(), NarError> {
        let padding = (8 - length % 8) % 8;
        self.bytes(path, &[0; 8][..padding as usize])
    }

    fn bytes(&mut self, path: &Path, bytes: &[u8]) -> Result<(), NarError> {
        self.output.write_all(bytes).map_err(unwritable(path))
    }
}

fn unreadable<'a>(path: &'a Path) -> impl FnOnce(io::Error) -> NarError + use<'a> {
    move |source| NarError::Read { path: path.to_owned(), source }
}

fn unwritable<'a>(path: &'a Path) -> impl FnOnce(io::Error) -> NarError + use<'a> {
    move |source| NarError::Write { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of strings, spelled out apart from the code above.
    fn archive(strings: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for string in strings {
            bytes.extend((string.len() as u64).to_le_bytes());
            bytes.extend(string.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes
    }

    fn dumped(path: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        dump(path, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_tree_has_the_bytes_that_the_format_says() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("b")).unwrap();
        fs::write(root.join("a"), "hello, nar").unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("B")).unwrap();
        let expected = [
            ["nix-archive-1", "(", "type", "directory"].as_slice(),
            &["entry", "(", "name", "B", "node", "(", "type", "symlink", "target", "nowhere", ")", ")"],
            &["entry", "(", "name", "a", "node", "(", "type", "regular", "contents", "hello, nar", ")", ")"],
            &["entry", "(", "name", "b", "node", "(", "type", "directory", ")", ")", ")"],
        ];
        assert_eq!(dumped(&root), archive(&expected.concat()));
        assert_eq!(hash(&root).unwrap(), NixHash::sha256(&archive(&expected.concat())));
    }

    #[test]
    fn only_the_owner_can_make_a_file_executable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let plain = dumped(&file);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o655)).unwrap();
        assert_eq!(dumped(&file), plain);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
        let expected = ["nix-archive-1", "(", "type", "regular", "executable", "", "contents", "", ")"];
        assert_eq!(dumped(&file), archive(&expected));
    }

    #[test]
    fn sockets_and_absent_files_are_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let message = |path: &Path| hash(path).unwrap_err().to_string();
        assert!(message(&path).starts_with(&format!("cannot read {}: ", path.display())));
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(message(folder.path()).contains(&format!("cannot archive {}: ", path.display())));
    }
}
