//! The journal: every exchange is on disk before its client has seen the whole answer.
//!
//! A capture keeps `.buildproxy/journal-….jsonl` beside the inventory: a line that says which inventory and which spool
//! folder it belongs to, then a line for each exchange. The file is locked as long as its capture lives, so the next
//! start knows a dead one from a live one, and takes over what the dead one had recorded.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::exchange::Exchange;
use crate::store::{
    claim::{self, Claim, claim},
    embedded::EmbeddedStore,
};

/// The folder beside an inventory for what git must not see.
pub const FOLDER: &str = ".buildproxy";

/// Why the journal cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct JournalError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    move |source| JournalError { action, path: path.to_owned(), source }
}

/// The version of what the lines hold. In version 1 an exchange had at most one digest of its request body.
const VERSION: u32 = 2;

/// The first line of a journal.
#[derive(Serialize, Deserialize)]
struct Heading {
    version: u32,
    /// When the capture started, in milliseconds since 1970, but later than those before it whatever the clock says:
    /// later captures win over earlier ones.
    started: u128,
    /// The inventory's file name; several inventories can share a folder.
    inventory: String,
    /// Where the capture's spool files are.
    spool: PathBuf,
}

/// The journal of a capture, its own or one that it took over. Dropping it leaves the file for the next start.
#[derive(Debug)]
pub struct Journal {
    started: u128,
    path: PathBuf,
    spool: PathBuf,
    // Holds the lock, too.
    file: Mutex<File>,
    /// The spool files are a live capture's; and a dead one's stay as long as its journal does.
    _claim: Option<Claim>,
}

/// Held while journals are made and taken over, and while the inventory is read, merged and written.
#[derive(Debug)]
pub struct FolderLock {
    // Dropping it unlocks.
    _file: File,
}

/// The folder `.buildproxy` beside an inventory.
#[derive(Debug, Clone)]
pub struct JournalFolder {
    folder: PathBuf,
    inventory: String,
}

impl JournalFolder {
    /// Makes the folder beside `inventory`, with an ignore file of its own.
    ///
    /// # Errors
    /// Where it cannot be made or written to.
    pub fn create(inventory: &Path) -> Result<Self, JournalError> {
        let parent = inventory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let inventory = inventory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = Self { folder: parent.join(FOLDER), inventory };
        folder.ensure()?;
        Ok(folder)
    }

    /// Makes the folder where it is not there, or not there any more: a build may clean its work tree.
    fn ensure(&self) -> Result<(), JournalError> {
        match fs::create_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(failed("make the folder", &self.folder))?,
        }
        let ignore = self.folder.join(".gitignore");
        match ignore.exists() {
            true => Ok(()),
            false => fs::write(&ignore, "*\n").map_err(failed("write", &ignore)),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The inventory's file name.
    pub fn inventory(&self) -> &str {
        &self.inventory
    }

    /// Waits for other captures that are just starting or ending here.
    ///
    /// # Errors
    /// Where the lock file cannot be opened or locked.
    pub fn lock(&self) -> Result<FolderLock, JournalError> {
        self.ensure()?;
        let path = self.folder.join("lock");
        let file = File::options().create(true).append(true).open(&path).map_err(failed("open", &path))?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(FolderLock { _file: file })
    }

    /// Starts a journal whose spool files will be in `store`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn start(&self, store: &EmbeddedStore, _lock: &FolderLock) -> Result<Journal, JournalError> {
        let named = tempfile::Builder::new()
            .prefix("journal-")
            .suffix(".jsonl")
            .append(true)
            .tempfile_in(&self.folder)
            .map_err(failed("make a journal in", &self.folder))?;
        let (mut file, path) = named.keep().map_err(|error| failed("keep a journal in", &self.folder)(error.error))?;
        file.lock().map_err(failed("lock", &path))?;
        let session = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let path = std::path::absolute(&path).map_err(failed("resolve", &path))?;
        let spool = std::path::absolute(store.spool_dir(&session)).map_err(failed("resolve", store.dir()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        // The clock may have been set back since another one started.
        let started = self.newest()?.map_or(now, |newest| now.max(newest.saturating_add(1)));
        let heading = Heading { version: VERSION, started, inventory: self.inventory.clone(), spool };
        write_line(&mut file, &heading).map_err(failed("write", &path))?;
        // Only now, so that whoever takes the journal over knows of the folder.
        fs::create_dir_all(&heading.spool).map_err(failed("make the folder", &heading.spool))?;
        let claim = claim(&heading.spool, Some(&path)).map_err(failed("claim the folder", &heading.spool))?;
        Ok(Journal { started, path, spool: heading.spool, file: Mutex::new(file), _claim: Some(claim) })
    }

    /// Takes over the journals of captures into this inventory that died, the oldest first.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn take_over(&self, _lock: &FolderLock) -> Result<Vec<Journal>, JournalError> {
        let mut journals = Vec::new();
        for path in self.journals()? {
            journals.extend(self.take_over_one(&path)?);
        }
        journals.sort_by_key(|journal| journal.started);
        Ok(journals)
    }

    /// The journals in the folder, of live captures, dead ones, and those of other inventories.
    fn journals(&self) -> Result<Vec<PathBuf>, JournalError> {
        let unreadable = || failed("read the folder", &self.folder);
        let mut journals = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(unreadable())? {
            let path = entry.map_err(unreadable())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("journal-") && name.ends_with(".jsonl") {
                journals.push(path);
            }
        }
        Ok(journals)
    }

    /// When the newest of them started; those that cannot be read do not count.
    fn newest(&self) -> Result<Option<u128>, JournalError> {
        let started = |path: &PathBuf| {
            let mut first = String::new();
            BufReader::new(File::open(path).ok()?).read_line(&mut first).ok()?;
            serde_json::from_str::<Heading>(&first).ok().map(|heading| heading.started)
        };
        Ok(self.journals()?.iter().filter_map(started).max())
    }

    fn take_over_one(&self, path: &Path) -> Result<Option<Journal>, JournalError> {
        let file = File::options().read(true).append(true).open(path).map_err(failed("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None), // its capture lives
            Err(TryLockError::Error(error)) => return Err(failed("lock", path)(error)),
        }
        let mut first = String::new();
        BufReader::new(&file).read_line(&mut first).map_err(failed("read", path))?;
        if !first.ends_with('\n') {
            // It died before its first line was whole: nothing was recorded.
            fs::remove_file(path).map_err(failed("remove", path))?;
            return Ok(None);
        }
        match serde_json::from_str::<Heading>(&first) {
            Ok(heading) if heading.inventory != self.inventory => Ok(None), // another's
            Ok(Heading { version, .. }) if version != VERSION => {
                let path = path.display();
                tracing::warn!("{path} is from another version of buildproxy ({version}); it is left alone");
                Ok(None)
            }
            Ok(Heading { started, spool, .. }) => {
                Ok(Some(Journal { started, path: path.to_owned(), spool, file: Mutex::new(file), _claim: None }))
            }
            Err(error) => {
                tracing::warn!("{} is no journal that can be taken over: {error}; it is left alone", path.display());
                Ok(None)
            }
        }
    }
}

impl Journal {
    /// Where the capture's spool files are.
    pub fn spool(&self) -> &Path {
        &self.spool
    }

    /// Records a finished exchange.
    ///
    /// # Errors
    /// Where the line could not be written whole; it is then not there at all.
    pub fn append(&self, exchange: &Exchange) -> io::Result<()> {
        // A poisoned lock only means that another exchange's thread died; the file is still whole lines.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let end = file.metadata()?.len();
        write_line(&mut *file, exchange).inspect_err(|_| {
            // Half a line would join the next one. Where even this fails, the reader says that a line is damaged.
            let _ = file.set_len(end);
        })
    }

    /// Every exchange that was recorded.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn exchanges(&self) -> Result<Vec<Exchange>, JournalError> {
        // Through the open file: a build may have cleaned the folder.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(0)).map_err(failed("read", &self.path))?;
        let mut exchanges = Vec::new();
        let mut lines = BufReader::new(&*file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            lines.read_until(b'\n', &mut line).map_err(failed("read", &self.path))?;
            // The last line may be half written, where the capture was killed.
            if !line.ends_with(b"\n") {
                break;
            }
            match serde_json::from_slice::<Exchange>(&line) {
                _ if number == 1 => {} // the heading
                Ok(exchange) => exchanges.push(exchange),
                Err(error) => tracing::warn!("{}:{number} is damaged and left out: {error}", self.path.display()),
            }
        }
        Ok(exchanges)
    }

    /// Removes journal and spool files, once the inventory holds it all.
    ///
    /// # Errors
    /// Where they cannot be removed.
    pub fn remove(&self) -> Result<(), JournalError> {
        // The journal first: spool files without it are only rubbish, which is swept, but it needs them as long as it is
        // there.
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(failed("remove", &self.path))?,
        }
        claim::remove(&self.spool).map_err(failed("remove", &self.spool))
    }
}

fn write_line(file: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    file.write_all(&line)
}

#[cfg(test)]
mod tests;
