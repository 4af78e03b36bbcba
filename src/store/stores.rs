//! The stores that are looked at, in their order: an explicit one alone, else the Nix store and the embedded one.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use super::{
    embedded::{EmbeddedStore, default_dir, has, regular_file},
    hash::NixHash,
    nix::{NixPlace, NixStore},
    path::{STORE_DIR, StorePath, StorePathError},
};

/// Where bodies are looked for, and where they are written: to the Nix store by Nix, or to the embedded one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stores {
    /// The Nix store's folder, where it is looked at. Only read: writing is Nix's own.
    nix: Option<PathBuf>,
    /// Where Nix itself would write, where it may be asked to.
    place: Option<NixPlace>,
    embedded: EmbeddedStore,
}

/// Why a path into a store leads to no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// It does not start with a store path, or steps out of it with `..`.
    #[error("`{path}` is not a path into a store: {reason}")]
    NotInStore {
        /// The path as it was given.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No store has it.
    #[error("{path} is in none of the stores ({})", list(looked_in))]
    Missing {
        /// The path as it was given.
        path: String,
        /// The store path that it is or lies in.
        object: StorePath,
        /// The stores' folders.
        looked_in: Vec<PathBuf>,
    },
    /// A link on the way leads out of the store.
    #[error("{path} leads to {}, which is outside the store {}", target.display(), store.display())]
    Outside {
        /// The path as it was given.
        path: String,
        /// Where it ends once links are resolved.
        target: PathBuf,
        /// The store's folder.
        store: PathBuf,
    },
    /// It is a folder, device or pipe.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// It cannot be looked at.
    #[error("cannot open {}: {source}", path.display())]
    Unreadable {
        /// The path in its store.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Folders as one text, for messages.
pub(crate) fn list(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl Stores {
    /// `explicit` alone where it is given; else the Nix store of the environment (left out unless `use_nix_store`) and then
    /// the embedded store in its default folder. Touches no file.
    pub fn open(explicit: Option<PathBuf>, use_nix_store: bool) -> Self {
        match explicit {
            Some(dir) => Self::new(None, EmbeddedStore::new(dir)),
            None => {
                let place = use_nix_store.then(|| NixPlace::of(&|name| std::env::var_os(name)));
                let nix = place.as_ref().map(|place| place.dir.clone());
                Self { nix, place, embedded: EmbeddedStore::new(default_dir()) }
            }
        }
    }

    /// The Nix store in `nix`, where there is one, and then `embedded`. The former is only read.
    pub(crate) fn new(nix: Option<PathBuf>, embedded: EmbeddedStore) -> Self {
        Self { nix, place: None, embedded }
    }

    /// The Nix store, where bodies can be put into it and its database be asked.
    pub(crate) fn nix_store(&self) -> Option<NixStore> {
        self.place.as_ref().and_then(NixStore::open)
    }

    /// The store that buildproxy itself writes.
    pub(crate) fn embedded(&self) -> &EmbeddedStore {
        &self.embedded
    }

    /// The folder of the Nix store, where it is looked at.
    pub(crate) fn nix_store_dir(&self) -> Option<&Path> {
        self.nix.as_deref()
    }

    /// The stores' folders, in the order in which they are searched.
    pub fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.nix.as_deref().into_iter().chain([self.embedded.dir()])
    }

    /// The regular file of the store path `path`, in the first store that has it.
    pub fn find(&self, path: &StorePath) -> Option<PathBuf> {
        self.dirs().find_map(|dir| regular_file(path.to_path(dir)))
    }

    /// The file of the store path `path` in the first store that has it with these bytes.
    pub fn find_whole(&self, path: &StorePath, size: u64, hash: &NixHash) -> Option<PathBuf> {
        self.dirs().map(|dir| path.to_path(dir)).find(|file| has(file, size, hash))
    }

    /// The regular file `path`, `/nix/store/<digest>-<name>` or something below it, in the first store that has it.
    /// Links are resolved, as far as they stay inside store paths of that store.
    ///
    /// # Errors
    /// Where `path` is none into a store, leads out of it, is no regular file or is absent.
    pub fn find_in(&self, path: &str) -> Result<PathBuf, FindError> {
        let (object, below) = self.split(path)?;
        let found = self.resolve(path, object, below)?;
        if fs::metadata(&found).is_ok_and(|metadata| metadata.is_file()) {
            Ok(found)
        } else {
            Err(FindError::NotAFile(found))
        }
    }

    /// The whole store path, file or folder, that `path` is or lies in: what a NAR hash is about. A link is not
    /// followed, since its NAR is that of a link.
    ///
    /// # Errors
    /// Where `path` is none into a store, or is absent.
    pub fn find_object(&self, path: &str) -> Result<PathBuf, FindError> {
        let (object, _) = self.split(path)?;
        self.dirs()
            .map(|dir| object.to_path(dir))
            .find(|candidate| fs::symlink_metadata(candidate).is_ok())
            .ok_or_else(|| self.missing(path, object))
    }

    /// Splits `path` behind its store path.
    fn split<'a>(&self, path: &'a str) -> Result<(StorePath, &'a Path), FindError> {
        let wrong = |reason: String| FindError::NotInStore { path: path.to_owned(), reason };
        let inside = strip_store_dir(path, STORE_DIR)
            .or_else(|| strip_store_dir(path, self.nix.as_ref()?.to_str()?))
            .ok_or_else(|| wrong(format!("it has to start with {STORE_DIR}/")))?;
        let (object, below) = inside.split_once('/').unwrap_or((inside, ""));
        let object = StorePath::from_base_name(object).map_err(|error: StorePathError| wrong(error.to_string()))?;
        let below = Path::new(below);
        if below.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(wrong("it must not have `..` in it".to_owned()));
        }
        Ok((object, below))
    }

    /// Resolves the links of `below` in the first store whose `object` has it.
    fn resolve(&self, path: &str, object: StorePath, below: &Path) -> Result<PathBuf, FindError> {
        for dir in self.dirs() {
            let candidate = candidate(dir, &object, below);
            let unreadable = |source| FindError::Unreadable { path: candidate.clone(), source };
            match fs::canonicalize(&candidate) {
                Ok(target) => return inside(dir, target, path, unreadable),
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        Err(self.missing(path, object))
    }

    fn missing(&self, path: &str, object: StorePath) -> FindError {
        FindError::Missing { path: path.to_owned(), object, looked_in: self.dirs().map(Path::to_owned).collect() }
    }
}

/// `below` in the store path `object` of `dir`. Joining an empty path would add a slash, which files do not bear.
fn candidate(dir: &Path, object: &StorePath, below: &Path) -> PathBuf {
    let object = object.to_path(dir);
    if below.as_os_str().is_empty() { object } else { object.join(below) }
}

/// `target`, where it lies inside a store path of the store `dir`: not in its temporary or spool files.
fn inside(
    dir: &Path,
    target: PathBuf,
    path: &str,
    unreadable: impl FnOnce(io::Error) -> FindError,
) -> Result<PathBuf, FindError> {
    let store = fs::canonicalize(dir).map_err(unreadable)?;
    let first = target.strip_prefix(&store).ok().and_then(|inside| inside.components().next());
    let object = first.and_then(|part| part.as_os_str().to_str()).map(StorePath::from_base_name);
    match object {
        Some(Ok(_)) => Ok(target),
        _ => Err(FindError::Outside { path: path.to_owned(), target, store }),
    }
}

/// Whether nothing is at a path, or something else than a folder is on the way to it.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn strip_store_dir<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    path.strip_prefix(dir)?.strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::store::path::StorePathName;

    /// Two stores; the first stands for Nix's.
    struct Fixture {
        folder: tempfile::TempDir,
        stores: Stores,
    }

    const OBJECT: &str = "0000000000000000000000000000000a-package";
    const OTHER: &str = "0000000000000000000000000000000b-other";

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let nix = folder.path().join("nix");
        fs::create_dir_all(nix.join(OBJECT).join("share")).unwrap();
        fs::create_dir_all(nix.join(OTHER)).unwrap();
        fs::write(nix.join(OBJECT).join("share/file"), "file").unwrap();
        fs::write(nix.join(OTHER).join("file"), "other").unwrap();
        let embedded = EmbeddedStore::new(folder.path().join("embedded"));
        embedded.prepare().unwrap();
        Fixture { stores: Stores::new(Some(nix), embedded), folder }
    }

    impl Fixture {
        fn in_object(&self, name: &str) -> PathBuf {
            self.folder.path().join("nix").join(OBJECT).join(name)
        }

        fn find(&self, below: &str) -> Result<PathBuf, FindError> {
            self.stores.find_in(&format!("/nix/store/{OBJECT}{below}"))
        }
    }

    #[test]
    fn the_nix_store_comes_before_the_embedded_one() {
        let fixture = fixture();
        let name = StorePathName::new("b").unwrap();
        let path = fixture.stores.embedded().insert_bytes(b"b", &name).unwrap();
        assert_eq!(fixture.stores.find(&path), Some(fixture.folder.path().join("embedded").join(path.to_string())));
        let in_nix = fixture.folder.path().join("nix").join(path.to_string());
        fs::write(&in_nix, "b").unwrap();
        assert_eq!(fixture.stores.find(&path), Some(in_nix));
    }

    #[test]
    fn an_explicit_store_is_the_only_one() {
        let stores = Stores::open(Some("/somewhere".into()), true);
        assert_eq!(stores.dirs().collect::<Vec<_>>(), [Path::new("/somewhere")]);
        let stores = Stores::open(None, false);
        assert_eq!((stores.nix_store_dir(), stores.embedded().dir()), (None, default_dir().as_path()));
        assert_eq!(Stores::open(None, true).dirs().count(), 2);
    }

    #[test]
    fn a_file_below_a_store_path_is_found_also_through_links_inside_the_store() {
        let fixture = fixture();
        symlink("share/file", fixture.in_object("link")).unwrap();
        symlink(format!("../{OTHER}/file"), fixture.in_object("other")).unwrap();
        assert_eq!(fs::read(fixture.find("/share/file").unwrap()).unwrap(), b"file");
        assert_eq!(fs::read(fixture.find("/link").unwrap()).unwrap(), b"file");
        assert_eq!(fs::read(fixture.find("/other").unwrap()).unwrap(), b"other");
        let physical = fixture.in_object("share/file");
        assert_eq!(fixture.stores.find_in(physical.to_str().unwrap()).unwrap(), fs::canonicalize(&physical).unwrap());
        assert_eq!(fixture.stores.find_object(&format!("/nix/store/{OBJECT}/x")).unwrap(), fixture.in_object("."));
    }

    #[test]
    fn a_store_path_can_be_a_file_itself() {
        let fixture = fixture();
        let path = fixture.stores.embedded().insert_bytes(b"b", &StorePathName::new("b").unwrap()).unwrap();
        let file = fs::canonicalize(fixture.stores.embedded().path_of(&path)).unwrap();
        assert_eq!(fixture.stores.find_in(&path.to_absolute_path()).unwrap(), file);
        let below = fixture.stores.find_in(&format!("{}/b", path.to_absolute_path()));
        assert!(matches!(below, Err(FindError::Missing { .. })));
    }

    #[test]
    fn nothing_outside_the_store_is_reached() {
        let fixture = fixture();
        fs::write(fixture.folder.path().join("secret"), "secret").unwrap();
        fs::write(fixture.folder.path().join("nix/.tmp-1"), "secret").unwrap();
        symlink("../../secret", fixture.in_object("out")).unwrap();
        symlink("/etc/passwd", fixture.in_object("absolute")).unwrap();
        symlink("../..", fixture.in_object("up")).unwrap();
        symlink("../.tmp-1", fixture.in_object("temporary")).unwrap();
        for below in ["/out", "/absolute", "/up/secret", "/temporary"] {
            assert!(matches!(fixture.find(below), Err(FindError::Outside { .. })), "{below}");
        }
        assert!(matches!(fixture.find("/../../secret"), Err(FindError::NotInStore { .. })));
        for path in ["/etc/passwd", "/nix/store/../../etc/passwd", "/nix/store/short", "relative", "/nix/store/"] {
            assert!(matches!(fixture.stores.find_in(path), Err(FindError::NotInStore { .. })), "{path}");
        }
    }

    #[test]
    fn absent_files_and_folders_are_told_apart() {
        let fixture = fixture();
        assert!(matches!(fixture.find("/share"), Err(FindError::NotAFile(_))));
        for below in ["/absent", "/share/file/below"] {
            let error = fixture.find(below).unwrap_err();
            assert!(matches!(error, FindError::Missing { .. }), "{error}");
            assert!(error.to_string().contains(fixture.folder.path().join("embedded").to_str().unwrap()));
        }
    }

    #[test]
    fn each_error_names_the_path_and_where_it_was_looked_for() {
        let (path, store) = (|| "/nix/store/x".to_owned(), PathBuf::from("/s"));
        let object = StorePath::from_base_name(OBJECT).unwrap();
        for (error, text) in [
            (
                FindError::Missing { path: path(), object, looked_in: vec![store.clone(), store.clone()] },
                "/nix/store/x is in none of the stores (/s, /s)",
            ),
            (FindError::NotAFile(store.clone()), "/s is not a regular file"),
            (
                FindError::Outside { path: path(), target: "/t".into(), store },
                "/nix/store/x leads to /t, which is outside the store /s",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
