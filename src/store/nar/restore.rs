//! Unpacking archives as `nix-store --restore` does.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use super::{
    Node,
    reader::{ReadError, Reader, Step},
};

/// Bytes of a file that are written at once.
const CHUNK: usize = 128 * 1024;

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// It cannot be read.
    #[error(transparent)]
    Archive(#[from] ReadError),
    /// Something is where it should go.
    #[error("cannot unpack to {}: something is there already; hint: move it away", path.display())]
    Exists {
        /// Where it should go.
        path: PathBuf,
    },
    /// Something in it cannot be made.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// What should be made.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// One of the others, and what was unpacked before stays.
    #[error("{error}; the part that was unpacked is still in {}, and cannot be removed: {source}", path.display())]
    LeftOver {
        /// Why it is not unpacked.
        error: Box<RestoreError>,
        /// What should be removed.
        path: PathBuf,
        /// Why that was not possible.
        #[source]
        source: io::Error,
    },
}

/// Unpacks an archive, which is all that may be in `input`, to the new file, folder or link `path`. Nothing outside of it
/// is touched, no link is followed and nothing replaced: each node is made anew, or it is an error.
///
/// # Errors
/// Where `input` fails or is no archive, something is at `path`, or the file system refuses; what was made before is
/// removed then.
pub fn restore(input: impl Read, path: &Path) -> Result<(), RestoreError> {
    let mut restore = Restore { reader: Reader::new(input), root: path, made: false, buffer: vec![0; CHUNK] };
    let error = match restore.run() {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    match if restore.made { remove(path) } else { Ok(()) } {
        Ok(()) => Err(error),
        Err(source) => Err(RestoreError::LeftOver { error: Box::new(error), path: path.to_owned(), source }),
    }
}

struct Restore<'a, R> {
    reader: Reader<R>,
    root: &'a Path,
    /// Whether something is at `root`, and ours.
    made: bool,
    buffer: Vec<u8>,
}

impl<R: Read> Restore<'_, R> {
    fn run(&mut self) -> Result<(), RestoreError> {
        while let Some(step) = self.reader.step()? {
            if let Step::Enter(node) = step {
                let path = self.path();
                self.make(&path, node)?;
            }
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        match self.reader.path() {
            // Joined, it would get a slash at its end.
            b"" => self.root.to_owned(),
            below => self.root.join(OsStr::from_bytes(below)),
        }
    }

    fn make(&mut self, path: &Path, node: Node) -> Result<(), RestoreError> {
        let refused = |source: io::Error| self.refused(path, source);
        match node {
            Node::Directory => fs::create_dir(path).map_err(refused)?,
            Node::Symlink { target } => symlink(OsStr::from_bytes(&target), path).map_err(refused)?,
            Node::File { executable, .. } => {
                let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(refused)?;
                self.made = true;
                self.fill(path, file, executable)?;
            }
        }
        self.made = true;
        Ok(())
    }

    fn refused(&self, path: &Path, source: io::Error) -> RestoreError {
        match source.kind() {
            io::ErrorKind::AlreadyExists if !self.made => RestoreError::Exists { path: path.to_owned() },
            _ => RestoreError::Write { path: path.to_owned(), source },
        }
    }

    fn fill(&mut self, path: &Path, mut file: File, executable: bool) -> Result<(), RestoreError> {
        let unwritable = |source| RestoreError::Write { path: path.to_owned(), source };
        if executable {
            let mode = file.metadata().map_err(unwritable)?.permissions().mode();
            file.set_permissions(Permissions::from_mode(mode | 0o111)).map_err(unwritable)?;
        }
        loop {
            match self.reader.read_contents(&mut self.buffer)? {
                0 => return Ok(()),
                count => file.write_all(&self.buffer[..count]).map_err(unwritable)?,
            }
        }
    }
}

/// Removes what was made at `path`, with one open folder at a time however deep it is: `remove_dir_all` has one open for
/// each level, and a process may not have that many.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    // Each behind the one that it is in.
    let mut folders = vec![path.to_owned()];
    let mut listed = 0;
    while listed < folders.len() {
        for entry in fs::read_dir(&folders[listed])? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => fs::remove_file(entry.path())?,
            }
        }
        listed += 1;
    }
    folders.iter().rev().try_for_each(fs::remove_dir)
}
