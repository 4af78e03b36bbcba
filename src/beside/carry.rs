//! How bodies move from one inventory's folder to another's.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use super::{BesideFolder, Unwritable, file_name};
use crate::{
    inventory::{Body, BodyFiles, LocateError, Located, Source},
    store::{
        deposit::Bytes,
        hash::{NixHash, hash_file},
        path::StorePathName,
        regular,
    },
};

/// Why a body cannot be taken along.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// It is nowhere.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// It is not what its entry says.
    #[error("{} has not the hash that its entry pins: see what `buildproxy verify` says of it", .0.display())]
    Altered(PathBuf),
    /// Its name is taken.
    #[error("{} is there and has other bytes: move it away", .0.display())]
    Taken(PathBuf),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] Unwritable),
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Bodies on their way into another folder: first all are looked up, then all are copied.
#[derive(Debug)]
pub struct Moving {
    folder: BesideFolder,
    /// What each name in the folder will have, and where that is now.
    planned: HashMap<String, (Option<NixHash>, PathBuf)>,
}

impl Moving {
    /// Into `folder`.
    pub fn into(folder: BesideFolder) -> Self {
        Self { folder, planned: HashMap::new() }
    }

    /// Plans to bring `body`, whose file is found by `files`, along, and makes it refer to its new place. Nothing is
    /// written yet. What is no `file` stays as it is.
    ///
    /// # Errors
    /// Where the file is absent or altered, or where no name is free for it.
    pub fn add(&mut self, body: &mut Body, files: &BodyFiles) -> Result<(), CarryError> {
        let Source::File(file) = &body.source else { return Ok(()) };
        let from = match files.locate(body)? {
            Located::Store(path) | Located::Beside(path) => path,
            // A `file` is never one.
            Located::Text(_) => return Ok(()),
        };
        if !has_hash(&from, body.hash.as_ref())? {
            return Err(CarryError::Altered(from));
        }
        let own = Path::new(file).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let other = body.hash.as_ref().map(|hash| file_name(hash, &StorePathName::sanitized(&own)).to_string());
        let mut taken = self.folder.path_of(&own);
        for name in [Some(own), other].into_iter().flatten() {
            if self.is_free(&name, body.hash)? {
                body.source = Source::File(self.folder.relative(&name));
                self.planned.insert(name, (body.hash, from));
                return Ok(());
            }
            taken = self.folder.path_of(&name);
        }
        Err(CarryError::Taken(taken))
    }

    /// Whether the folder's file `name` is, or can become, the one with `hash`.
    fn is_free(&self, name: &str, hash: Option<NixHash>) -> Result<bool, CarryError> {
        match self.planned.get(name) {
            Some((planned, _)) => Ok(hash.is_some() && *planned == hash),
            None => {
                let path = self.folder.path_of(name);
                Ok(!path.exists() || hash.is_some() && has_hash(&path, hash.as_ref())?)
            }
        }
    }

    /// Copies what is not there yet.
    ///
    /// # Errors
    /// Where a file cannot be read or written.
    pub fn copy(self) -> Result<(), CarryError> {
        for (name, (_, from)) in &self.planned {
            if self.folder.path_of(name).exists() {
                continue;
            }
            self.folder.write(name, Bytes::File(from))?;
        }
        Ok(())
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CarryError {
    move |source| CarryError::Read { path: path.to_owned(), source }
}

/// Whether the file `path` has `hash`, where that is known.
fn has_hash(path: &Path, hash: Option<&NixHash>) -> Result<bool, CarryError> {
    let Some(hash) = hash else { return Ok(true) };
    let file = regular::open(path).map_err(failed(path))?;
    Ok(hash_file(&file, hash.algo(), |_| {}).map_err(failed(path))? == *hash)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::{Stores, embedded::EmbeddedStore};

    fn body(bytes: &str, file: &str) -> Body {
        let hash = Some(NixHash::sha256(bytes.as_bytes()));
        Body { hash, size: Some(bytes.len() as u64), name: None, source: Source::File(file.to_owned()) }
    }

    #[test]
    fn bodies_come_along_without_replacing_others_of_their_name() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for (path, bytes) in
            [(from.join("a.bodies/x"), "one"), (from.join("y"), "two"), (to.join("b.bodies/x"), "kept")]
        {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let stores = Stores::new(None, EmbeddedStore::new(folder.path().join("store")));
        let files = BodyFiles { inventory_dir: from.clone(), stores };
        let mut moving = Moving::into(BesideFolder::of(&to.join("b.toml")));
        let mut bodies = [body("one", "a.bodies/x"), body("two", "y"), body("one", "a.bodies/x")];
        for body in &mut bodies {
            moving.add(body, &files).unwrap();
        }
        assert!(!to.join("b.bodies/y").exists(), "nothing is written before all is known");
        moving.copy().unwrap();
        let read = |body: &Body| {
            let Source::File(file) = &body.source else { unreachable!() };
            fs::read_to_string(to.join(file)).unwrap()
        };
        assert_eq!(bodies.each_ref().map(read), ["one", "two", "one"]);
        assert_eq!(
            (bodies[0].source.clone(), bodies[1].source.clone()),
            (bodies[2].source.clone(), Source::File("b.bodies/y".to_owned()))
        );
        assert_eq!(fs::read_to_string(to.join("b.bodies/x")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(to.join("b.bodies/.gitattributes")).unwrap(), "* -text\n");
    }

    #[test]
    fn what_is_absent_or_altered_is_not_taken_along() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x"), "edited").unwrap();
        let stores = Stores::new(None, EmbeddedStore::new(folder.path().join("store")));
        let files = BodyFiles { inventory_dir: folder.path().to_owned(), stores };
        let mut moving = Moving::into(BesideFolder::of(&folder.path().join("b.toml")));
        assert!(matches!(moving.add(&mut body("one", "x"), &files), Err(CarryError::Altered(_))));
        assert!(matches!(moving.add(&mut body("one", "y"), &files), Err(CarryError::Locate(_))));
    }

    #[test]
    fn a_name_that_is_taken_is_said_with_what_to_do() {
        assert_eq!(CarryError::Taken("a".into()).to_string(), "a is there and has other bytes: move it away");
    }
}
