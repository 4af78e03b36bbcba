//! Who owns a spool folder: a file in it that is locked as long as its owner lives, so that what a killed process left
//! behind can be told from what is in use.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The file that is locked. It names the journal that needs the folder after its owner's death; else it is empty.
const OWNER: &str = "owner";

/// Holds a folder. Dropping it, or dying, lets go of it.
#[derive(Debug)]
pub struct Claim {
    // Dropping it unlocks.
    _file: File,
}

/// Claims `folder`. Where `journal` is given (an absolute path), the folder stays as long as that file does.
///
/// # Errors
/// Where the folder cannot be written to.
pub fn claim(folder: &Path, journal: Option<&Path>) -> io::Result<Claim> {
    // Under its name the file is never seen unlocked while its owner lives.
    let mut file = tempfile::Builder::new().prefix(".owner-").tempfile_in(folder)?;
    file.as_file().lock()?;
    file.write_all(journal.map_or(b"", |path| path.as_os_str().as_bytes()))?;
    file.persist(folder.join(OWNER)).map(|file| Claim { _file: file }).map_err(|error| error.error)
}

/// Removes `folder` with all that is in it, the claim last: whoever is killed half-way leaves nothing that is not swept,
/// but for an empty folder.
///
/// # Errors
/// Where something cannot be removed. What is not there is no error.
pub fn remove(folder: &Path) -> io::Result<()> {
    let absent_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry?;
        if entry.file_name() != OWNER {
            absent_is_fine(match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path()),
                false => fs::remove_file(entry.path()),
            })?;
        }
    }
    absent_is_fine(fs::remove_dir_all(folder))
}

/// Removes the folders in `parent` that were claimed, whose owner is dead, and that no journal needs. What cannot be
/// looked at or removed stays.
pub fn sweep(parent: &Path) {
    for folder in fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()) {
        match is_abandoned(&folder) {
            Ok(Some(_claim)) => {
                if let Err(error) = remove(&folder) {
                    tracing::debug!("cannot remove {}: {error}", folder.display());
                }
            }
            Ok(None) => {}
            Err(error) => tracing::debug!("cannot look at {}: {error}", folder.display()),
        }
    }
}

/// The claim to a folder that nobody needs. A folder without an owner file may be one that is just being made.
fn is_abandoned(folder: &Path) -> io::Result<Option<Claim>> {
    let path = folder.join(OWNER);
    let file = match File::open(&path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        file => file?,
    };
    if file.try_lock().is_err() {
        return Ok(None);
    }
    let journal = fs::read(&path)?;
    let journal = (!journal.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(&journal)));
    let is_needed = journal.is_some_and(|path| !matches!(path.try_exists(), Ok(false)));
    Ok((!is_needed).then_some(Claim { _file: file }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_all_that_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("folder");
        fs::create_dir_all(folder.join("batch/1")).unwrap();
        fs::write(folder.join("batch/1/body"), "body").unwrap();
        fs::write(folder.join("1"), "body").unwrap();
        drop(claim(&folder, None).unwrap());
        remove(&folder).unwrap();
        assert!(!folder.exists());
        remove(&folder).unwrap();
    }

    #[test]
    fn only_what_nobody_needs_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = parent.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("1"), "body").unwrap();
            folder
        };
        let journal = parent.path().join("journal.jsonl");
        fs::write(&journal, "").unwrap();
        let _alive = claim(&folder("alive"), None).unwrap();
        drop(claim(&folder("dead"), None).unwrap());
        drop(claim(&folder("recoverable"), Some(&journal)).unwrap());
        drop(claim(&folder("lost"), Some(&parent.path().join("gone.jsonl"))).unwrap());
        folder("unclaimed");
        let left = || {
            let entries = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().path());
            let mut names: Vec<_> = entries
                .filter(|path| path.is_dir())
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        sweep(parent.path());
        assert_eq!(left(), ["alive", "recoverable", "unclaimed"]);
        fs::remove_file(&journal).unwrap();
        sweep(parent.path());
        assert_eq!(left(), ["alive", "unclaimed"]);
    }
}
