//! Which file it is that was opened, and whether it is still as it was.

use std::{fs::Metadata, os::unix::fs::MetadataExt};

/// What changes when a file is replaced by another or written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    device: u64,
    number: u64,
    length: u64,
    /// When its bytes last changed, in seconds and nanoseconds.
    modified: (i64, i64),
    /// When anything about it last changed.
    changed: (i64, i64),
}

impl FileState {
    /// That of the file which `metadata` is about.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            number: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether it is the same file, and somebody has written to it since it was as in `before`, or cut it short. One that
    /// has got another name or other permissions, as the optimising of a store does, is as it was.
    pub fn was_written_to(&self, before: &Self) -> bool {
        (self.device, self.number) == (before.device, before.number)
            && (self.length, self.modified) != (before.length, before.modified)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, Permissions},
        io::Write,
        os::unix::fs::PermissionsExt,
    };

    use super::*;

    #[test]
    fn writing_is_told_from_all_else_that_happens_to_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "some text").unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        let state = || FileState::of(&fs::metadata(&path).unwrap());
        let before = state();
        assert!(!state().was_written_to(&before));
        fs::hard_link(&path, folder.path().join("link")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(!state().was_written_to(&before));
        File::options().write(true).open(&path).unwrap().write_all(b"same").unwrap();
        assert!(state().was_written_to(&before) && state() != before);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another file").unwrap();
        assert!(!state().was_written_to(&before) && state() != before);
    }
}
