//! Files that are whole at any moment, whoever reads them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    path::Path,
};

/// Replaces whatever is at `path`, a link too, by a file with `content`: a temporary file beside it, synced, then renamed.
///
/// # Errors
/// Where the folder cannot be written to; the old file is then unchanged. Or where the folder cannot be synced after that;
/// then the new one is there, and the error says so.
pub fn write_atomically(path: &Path, content: &mut impl Read) -> io::Result<()> {
    replace(path, |mut file| io::copy(content, &mut file).map(drop))
}

/// Does that where somebody said that the output of `write` goes there: a symbolic link keeps pointing to its file, and a
/// device or a pipe is written to as it is.
///
/// # Errors
/// Those of `write`, and where the folder cannot be written to; the old file is then unchanged.
pub fn write_output<T, E: From<io::Error>>(path: &Path, write: impl FnOnce(&File) -> Result<T, E>) -> Result<T, E> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match fs::metadata(&path) {
        Ok(metadata) if !metadata.is_file() => write(&OpenOptions::new().write(true).open(&path)?),
        _ => replace(&path, write),
    }
}

fn replace<T, E: From<io::Error>>(path: &Path, write: impl FnOnce(&File) -> Result<T, E>) -> Result<T, E> {
    let permissions = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions(),
        Err(_) => std::os::unix::fs::PermissionsExt::from_mode(0o666), // less the umask
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let folder = folder.display();
        let reason = format!("there is no folder {folder}; hint: make it with `mkdir -p {folder}`");
        return Err(io::Error::new(io::ErrorKind::NotFound, reason).into());
    }
    let mut builder = tempfile::Builder::new();
    let file = builder.prefix(".buildproxy-").permissions(permissions).tempfile_in(folder)?;
    let written = write(file.as_file())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| {
        io::Error::new(error.kind(), format!("it was written, but may not be on disk after a power cut: {error}"))
    })?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_link_stays_and_what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link, pipe) = (folder.path().join("file"), folder.path().join("link"), folder.path().join("pipe"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let put = |path: &Path, content: &[u8]| write_output(path, |mut file| file.write_all(content));
        put(&link, b"new").unwrap();
        assert!(link.is_symlink() && fs::read(&file).unwrap() == b"new");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        put(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(!fs::metadata(&pipe).unwrap().is_file(), "it is a pipe still");
        assert!(put(folder.path(), b"x").is_err(), "a folder");
        let absent = put(&folder.path().join("absent/file"), b"x").unwrap_err();
        assert!(absent.to_string().contains("there is no folder"), "{absent}");
        let failed: io::Result<()> = write_output(&file, |_| Err(io::Error::other("no")));
        assert!(failed.is_err() && fs::read(&file).unwrap() == b"new");
        // What nobody named may not lead elsewhere.
        write_atomically(&link, &mut &b"here"[..]).unwrap();
        assert!(!link.is_symlink() && fs::read(&file).unwrap() == b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left behind");
    }
}
