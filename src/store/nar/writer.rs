//! Writing archives: node by node, and of what a file system holds.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    vec,
};

use super::{MAGIC, Node, padding};
use crate::store::hash::{HashAlgo, Hasher, NixHash};

/// Bytes read from a file at once.
const CHUNK: usize = 128 * 1024;

/// Writes an archive node by node, in the order in which [`super::reader::Reader`] gives them. Many writes are short.
pub struct Writer<W> {
    output: W,
    /// How many nodes are begun and not ended.
    depth: usize,
    /// Zeros that belong behind the file that is begun.
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    ///
    /// # Errors
    /// Where `output` fails, as in all that follow.
    pub fn new(output: W) -> io::Result<Self> {
        let mut writer = Self { output, depth: 0, padding: 0 };
        writer.strings(&[MAGIC])?;
        Ok(writer)
    }

    /// Begins `node`, called `name` in the folder that is begun; the outermost has no name. Entries of a folder have to
    /// come in bytewise order of their names.
    ///
    /// # Errors
    /// Where the output fails.
    pub fn enter(&mut self, name: &[u8], node: &Node) -> io::Result<()> {
        if self.depth > 0 {
            self.strings(&[b"entry", b"(", b"name", name, b"node"])?;
        }
        self.depth += 1;
        self.strings(&[b"(", b"type"])?;
        match node {
            Node::Directory => self.strings(&[b"directory"]),
            Node::Symlink { target } => self.strings(&[b"symlink", b"target", target]),
            Node::File { executable, size } => {
                self.strings(&[b"regular"])?;
                if *executable {
                    self.strings(&[b"executable", b""])?;
                }
                self.strings(&[b"contents"])?;
                self.padding = padding(*size);
                self.output.write_all(&size.to_le_bytes())
            }
        }
    }

    /// Bytes of the file that is begun: as many, in all, as it was said to have.
    ///
    /// # Errors
    /// Where the output fails.
    pub fn contents(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)
    }

    /// Ends the node that was begun last.
    ///
    /// # Errors
    /// Where the output fails.
    pub fn leave(&mut self) -> io::Result<()> {
        self.output.write_all(&[0; 8][..std::mem::take(&mut self.padding)])?;
        self.depth -= 1;
        self.strings(&[b")"])?;
        if self.depth > 0 { self.strings(&[b")"]) } else { Ok(()) }
    }

    /// Writes strings as the format has them: length as 64 bits little-endian, bytes, zeros up to a multiple of 8.
    fn strings(&mut self, strings: &[&[u8]]) -> io::Result<()> {
        for string in strings {
            let length = string.len() as u64;
            self.output.write_all(&length.to_le_bytes())?;
            self.output.write_all(string)?;
            self.output.write_all(&[0; 8][..padding(length)])?;
        }
        Ok(())
    }
}

/// Why a tree cannot be archived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    let writer = Writer::new(output).map_err(unwritable(path))?;
    Dump { writer, buffer: vec![0; CHUNK] }.archive(path)
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
        let count = self.hasher.write(data)?;
        (self.progress)(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Dump<'a, W> {
    writer: Writer<&'a mut W>,
    buffer: Vec<u8>,
}

impl<W: Write> Dump<'_, W> {
    /// Without recursion, since the tree decides how deep it is.
    fn archive(&mut self, root: &Path) -> Result<(), NarError> {
        let mut path = root.to_owned();
        // The names that are left in each folder on the way to `path`.
        let mut folders = vec![self.node(&path, b"")?];
        while let Some(names) = folders.last_mut() {
            if let Some(name) = names.next() {
                path.push(&name);
                let names = self.node(&path, name.as_bytes())?;
                folders.push(names);
            } else {
                self.writer.leave().map_err(unwritable(&path))?;
                folders.pop();
                path.pop();
            }
        }
        Ok(())
    }

    /// Begins the node of `path`, and gives the names in it: none where it is no folder.
    fn node(&mut self, path: &Path, name: &[u8]) -> Result<vec::IntoIter<OsString>, NarError> {
        let metadata = fs::symlink_metadata(path).map_err(unreadable(path))?;
        let kind = metadata.file_type();
        let mut names = Vec::new();
        if kind.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            self.file(path, name, executable, metadata.len())?;
        } else if kind.is_dir() {
            names = sorted_names(path)?;
            self.enter(path, name, &Node::Directory)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(path).map_err(unreadable(path))?;
            self.enter(path, name, &Node::Symlink { target: target.into_os_string().into_vec() })?;
        } else {
            return Err(NarError::Unsupported { path: path.to_owned() });
        }
        Ok(names.into_iter())
    }

    /// A file; its size goes first, so it must not change.
    fn file(&mut self, path: &Path, name: &[u8], executable: bool, size: u64) -> Result<(), NarError> {
        let changed = || NarError::Changed { path: path.to_owned(), expected: size };
        let mut file = File::open(path).map_err(unreadable(path))?;
        self.enter(path, name, &Node::File { executable, size })?;
        let mut left = size;
        loop {
            let count = match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(path)(error)),
            };
            left = left.checked_sub(count as u64).ok_or_else(changed)?;
            self.writer.contents(&self.buffer[..count]).map_err(unwritable(path))?;
        }
        if left > 0 { Err(changed()) } else { Ok(()) }
    }

    fn enter(&mut self, path: &Path, name: &[u8], node: &Node) -> Result<(), NarError> {
        self.writer.enter(name, node).map_err(unwritable(path))
    }
}

/// The names in a folder, in the order of an archive.
fn sorted_names(path: &Path) -> Result<Vec<OsString>, NarError> {
    let entries = fs::read_dir(path).map_err(unreadable(path))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>();
    let mut names = names.map_err(unreadable(path))?;
    names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
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
    fn the_hash_of_a_file_s_archive_can_be_had_while_its_bytes_pass() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "hello, nar").unwrap();
        let mut hasher = Hasher::new(HashAlgo::Sha256);
        let mut writer = Writer::new(&mut hasher).unwrap();
        writer.enter(b"", &Node::File { executable: false, size: 10 }).unwrap();
        ["hello", ", nar"].iter().for_each(|part| writer.contents(part.as_bytes()).unwrap());
        writer.leave().unwrap();
        assert_eq!(hasher.finish(), hash(&path).unwrap());
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
