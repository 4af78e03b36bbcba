//! The file of an access log: appended to in whole lines, whatever else is done with it.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};

/// A file, a pipe or a device that lines are appended to.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    /// None of a pipe that nobody reads yet.
    file: Option<File>,
    /// Whether the last line there is only a part of one.
    is_torn: bool,
}

/// Lines that were not written.
#[derive(Debug)]
pub struct Failure {
    /// How many.
    pub lost: usize,
    /// Why.
    pub error: io::Error,
}

impl LogFile {
    /// Opens the file at `path`, or makes one. A named pipe may have no reader yet: it is waited for when there is a line.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let at = |file| Self { path: path.to_owned(), file, is_torn: false };
        // Of a pipe without a reader it is an error to open it like this, and to wait for one is no way to begin.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        match File::options().append(true).create(true).custom_flags(flags).open(path) {
            Ok(file) => {
                fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
                Ok(at(Some(file)))
            }
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) && is_pipe(path) => Ok(at(None)),
            Err(error) => Err(error),
        }
    }

    /// Whether it is what `other` is.
    pub fn is_same(&self, other: &File) -> bool {
        let own = self.file.as_ref().and_then(|file| file.metadata().ok()).or_else(|| fs::metadata(&self.path).ok());
        own.zip(other.metadata().ok()).is_some_and(|(own, other)| identity(&own) == identity(&other))
    }

    /// Appends whole lines with one call, as long as the system takes them. Whoever writes to the file as well is between
    /// lines, never in one.
    ///
    /// # Errors
    /// Where the system takes only some of them.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), Failure> {
        // What is torn stays a line of its own.
        let torn = if self.is_torn { &b"\n"[..] } else { b"" };
        let all = [torn, lines].concat();
        let mut written = 0;
        let outcome = self.write(&all, &mut written);
        self.is_torn = written.checked_sub(1).map_or(self.is_torn, |last| all[last] != b'\n');
        let ends = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        outcome.map_err(|error| Failure { lost: ends(&all[written..]).min(ends(lines)), error })
    }

    fn write(&mut self, all: &[u8], written: &mut usize) -> io::Result<()> {
        let mut file = self.file()?;
        while *written < all.len() {
            match file.write(&all[*written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The file that is at the path now: what was there can have been moved away, by who keeps old logs.
    fn file(&mut self) -> io::Result<&File> {
        let is_moved = self.file.as_ref().is_some_and(|file| is_moved(file, &self.path));
        if is_moved || self.file.is_none() {
            match File::options().append(true).create(is_moved).open(&self.path) {
                Ok(file) => self.file = Some(file),
                // The one that was moved is better than none.
                Err(_) if is_moved => {}
                Err(error) => return Err(error),
            }
            self.is_torn = self.is_torn && !is_moved;
        }
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn is_moved(file: &File, path: &Path) -> bool {
    let Ok(own) = file.metadata() else { return false };
    own.is_file() && fs::metadata(path).map_or(true, |there| identity(&there) != identity(&own))
}

fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, thread};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn lines_are_appended_to_what_is_there_and_follow_a_file_that_is_moved_or_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        fs::write(&path, "before\n").unwrap();
        let mut file = LogFile::open(&path).unwrap();
        file.append(b"1\n2\n").unwrap();
        assert_eq!(read("access.log"), "before\n1\n2\n");
        // As `copytruncate` does.
        fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        file.append(b"3\n").unwrap();
        assert_eq!(read("access.log"), "3\n");
        fs::rename(&path, folder.path().join("access.log.1")).unwrap();
        file.append(b"4\n").unwrap();
        assert_eq!((read("access.log.1"), read("access.log")), ("3\n".to_owned(), "4\n".to_owned()));
        assert!(file.is_same(&fs::File::open(&path).unwrap()));
        assert!(!file.is_same(&fs::File::open(folder.path().join("access.log.1")).unwrap()));
    }

    #[test]
    fn a_line_that_was_cut_off_by_a_full_disk_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        symlink("/dev/full", &path).unwrap();
        let mut file = LogFile::open(&path).unwrap();
        let failure = file.append(b"1\n2\n").unwrap_err();
        assert_eq!((failure.lost, failure.error.kind()), (2, io::ErrorKind::StorageFull));
        // What a disk with room for a part of a line leaves.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "3\n4 is cut o").unwrap();
        let mut file = LogFile { is_torn: true, ..LogFile::open(&path).unwrap() };
        file.append(b"5\n").unwrap();
        file.append(b"6\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "3\n4 is cut o\n5\n6\n");
    }

    #[test]
    fn a_pipe_without_a_reader_is_no_error_and_is_waited_for_by_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let mut file = LogFile::open(&path).unwrap();
        assert!(file.file.is_none());
        let writing = thread::spawn(move || file.append(b"1\n").is_ok());
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        assert!(writing.join().unwrap());
        assert!(LogFile::open(Path::new("/no/such/folder/log")).is_err());
    }
}
