//! Opening a file whose name comes from an inventory, or whose place somebody else could change.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::OFlags;

/// Opens the regular file `path`: nothing is waited for, as for the other end of a pipe; no device is read; and no link is
/// followed in the path's last place.
///
/// # Errors
/// Where it cannot be opened, or is a folder, link, device or pipe.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
    checked(OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?)
}

/// The same for a path that was found to have no link in it. One that has one now was changed since, and is refused:
/// what was checked is what is opened.
///
/// # Errors
/// As above, and where there is a link anywhere in the path.
pub fn open_resolved(path: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use rustix::{
            fs::{CWD, Mode, ResolveFlags, openat2},
            io::Errno,
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS) {
            Ok(file) => return checked(file.into()),
            // Linux before 5.6, and sandboxes that do not know the call.
            Err(Errno::NOSYS | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let file = open(path)?;
    match std::fs::canonicalize(path)? == path {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "a link was put into its path")),
    }
}

fn checked(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// The bytes of the regular file `path`, where it has at most `most` of them.
///
/// # Errors
/// Where it has more, or cannot be opened as above or read.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 <= most {
        true => Ok(bytes),
        false => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn only_a_regular_file_is_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(folder.path()).unwrap();
        fs::write(place.join("file"), "bytes").unwrap();
        symlink("file", place.join("link")).unwrap();
        #[cfg(target_os = "linux")]
        rustix::fs::mkfifoat(rustix::fs::CWD, place.join("pipe"), rustix::fs::Mode::RUSR).unwrap();
        for open in [open, open_resolved] {
            let mut text = String::new();
            open(&place.join("file")).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "bytes");
            for refused in [place.join("link"), place.join("pipe"), place.clone(), "/dev/zero".into()] {
                assert!(open(&refused).is_err(), "{}", refused.display());
            }
        }
        assert_eq!(read(&place.join("file"), 5).unwrap(), b"bytes");
        assert_eq!(read(&place.join("file"), 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_folder_that_became_a_link_since_it_was_checked_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(folder.path()).unwrap();
        for name in ["bodies", "secrets"] {
            fs::create_dir(place.join(name)).unwrap();
            fs::write(place.join(name).join("file"), name).unwrap();
        }
        assert!(open_resolved(&place.join("bodies/file")).is_ok());
        fs::rename(place.join("bodies"), place.join("old")).unwrap();
        symlink("secrets", place.join("bodies")).unwrap();
        assert!(open_resolved(&place.join("bodies/file")).is_err());
    }
}
