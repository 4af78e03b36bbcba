//! Finds the file that has a body's bytes: beside the inventory, or in a store.

use std::{
    fs, io,
    os::unix::fs::FileTypeExt,
    path::{Component, Path, PathBuf},
};

use super::{Body, Source};
use crate::store::{FindError, Stores, is_absent, list, path::StorePath};

/// Where the bodies of one inventory are looked for.
#[derive(Debug, Clone)]
pub struct BodyFiles {
    /// The folder that the inventory is in; empty for the current one.
    pub(crate) inventory_dir: PathBuf,
    /// The stores.
    pub(crate) stores: Stores,
}

/// Where a body's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Located<'a> {
    /// In the inventory itself.
    Text(&'a str),
    /// In this file of a store, which never shrinks: it can be mapped.
    Store(PathBuf),
    /// In this file beside the inventory, which anyone can edit: it has to be read.
    Beside(PathBuf),
}

/// Why a body's file cannot be used. Every message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// Nothing to look it up by.
    #[error("the body has no name and hash, so it has no store path: capture it again, or add both")]
    NoStorePath,
    /// It is nowhere.
    #[error("{path} is missing; looked in {}: {remedy}", list(looked_in))]
    Missing {
        /// The store path, or the file as the inventory names it.
        path: String,
        /// The folders and files that were tried.
        looked_in: Vec<PathBuf>,
        /// What to do.
        remedy: String,
    },
    /// The path leads out of the inventory's folder.
    #[error("body file `{path}` is outside the inventory's folder {}: move it there, and name it relative to that", dir.display())]
    Outside {
        /// The path as the inventory names it.
        path: String,
        /// The inventory's folder.
        dir: PathBuf,
    },
    /// A `store-path` is wrong.
    #[error("{0}; correct `store-path` in the inventory")]
    StorePath(#[source] FindError),
    /// It is a folder, device or pipe.
    #[error("{} is {}, and no regular file: put the body's bytes there", path.display(), kind)]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Something else has its place in a store.
    #[error("{} is {}, and no regular file: remove it, then run `buildproxy fetch`, or capture it again", path.display(), kind)]
    InItsPlace {
        /// What is there.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// It cannot be looked at.
    #[error("cannot open {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It has another size than the inventory says.
    #[error("{} {}: {remedy}", path.display(), size_difference(*size, *expected))]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The recorded size in bytes.
        expected: u64,
        /// What to do.
        remedy: String,
    },
}

fn size_difference(size: u64, expected: u64) -> String {
    if size < expected {
        format!("is short: {size} of {expected} bytes")
    } else {
        format!("is too long: {size} instead of {expected} bytes")
    }
}

/// What to do where the Nix store has `path`, but not with its bytes.
pub fn replace_in_nix_store(path: &StorePath) -> String {
    let path = path.to_absolute_path();
    format!(
        "run `nix-store --repair-path {path}`, where a binary cache has it; else `nix-store --delete --ignore-liveness \
         $(nix-store --query --referrers-closure {path})`, and then `buildproxy fetch`"
    )
}

impl BodyFiles {
    /// The bodies of an inventory in the folder `inventory_dir`, which is the current one where it is empty.
    pub fn new(inventory_dir: impl Into<PathBuf>, stores: Stores) -> Self {
        Self { inventory_dir: inventory_dir.into(), stores }
    }

    /// What to do where the file `path`, which was found for `body`, does not have its bytes.
    pub(crate) fn remedy(&self, body: &Body, path: &Path) -> String {
        let in_nix_store = self.stores.nix_store_dir().is_some_and(|dir| path.starts_with(dir));
        match &body.source {
            Source::StorePath { .. } => "correct `hash` and `size`, or the `store-path`".to_owned(),
            Source::File(_) => "restore it from version control, or capture it again".to_owned(),
            Source::Text(_) => "correct the text, or its hash and size".to_owned(),
            Source::Fetch(_) if in_nix_store => {
                body.store_path().map(|path| replace_in_nix_store(&path)).unwrap_or_default()
            }
            Source::Fetch(_) => "remove it and run `buildproxy fetch`, or capture it again".to_owned(),
        }
    }

    /// The size in bytes of the file `path`, which was found for `body`.
    ///
    /// # Errors
    /// Where the file cannot be looked at, or has another size than the inventory says.
    pub(crate) fn check_size(&self, body: &Body, path: &Path) -> Result<u64, LocateError> {
        let metadata =
            fs::metadata(path).map_err(|source| LocateError::Unreadable { path: path.to_owned(), source })?;
        self.compare_size(body, path, metadata.len())
    }

    /// The same for a file that is known to have `size` bytes.
    ///
    /// # Errors
    /// Where the inventory says another size.
    pub(crate) fn compare_size(&self, body: &Body, path: &Path, size: u64) -> Result<u64, LocateError> {
        match body.size {
            Some(expected) if size != expected => {
                Err(LocateError::Size { path: path.to_owned(), size, expected, remedy: self.remedy(body, path) })
            }
            _ => Ok(size),
        }
    }

    /// Finds the bytes of `body`. Only existence is checked.
    ///
    /// # Errors
    /// Where they are nowhere, or where the inventory names a path that leads out of its folder or store.
    pub fn locate<'a>(&self, body: &'a Body) -> Result<Located<'a>, LocateError> {
        self.locate_at(body, body.store_path().as_ref())
    }

    /// The same for a body whose [store path](Body::store_path) is known to be `store_path`.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn locate_at<'a>(
        &self,
        body: &'a Body,
        store_path: Option<&StorePath>,
    ) -> Result<Located<'a>, LocateError> {
        match &body.source {
            Source::Text(text) => Ok(Located::Text(text)),
            Source::Fetch(_) => self.in_stores(store_path).map(Located::Store),
            Source::File(path) => self.beside(path, store_path),
            Source::StorePath { path, .. } => self.stores.find_in(path).map(Located::Store).map_err(store_path_error),
        }
    }

    fn in_stores(&self, path: Option<&StorePath>) -> Result<PathBuf, LocateError> {
        let path = path.ok_or(LocateError::NoStorePath)?;
        self.stores.find(path).ok_or_else(|| match self.in_the_way(path) {
            Some((path, Ok(kind))) => LocateError::InItsPlace { path, kind },
            Some((path, Err(source))) => LocateError::Unreadable { path, source },
            None => LocateError::Missing {
                path: path.to_absolute_path(),
                looked_in: self.stores.dirs().map(Path::to_owned).collect(),
                remedy: "run `buildproxy fetch`, or capture it again".to_owned(),
            },
        })
    }

    /// What has the place of `path` in a store that has no file there, or why nobody can see that.
    fn in_the_way(&self, path: &StorePath) -> Option<(PathBuf, io::Result<&'static str>)> {
        let paths = self.stores.dirs().map(|dir| path.to_path(dir));
        let mut found = paths.map(|path| (fs::symlink_metadata(&path), path));
        found.find_map(|(it, path)| match it {
            Err(error) if is_absent(&error) => None,
            it => Some((path, it.map(|it| kind(it.file_type())))),
        })
    }

    /// The file `path` below the inventory's folder; where it is absent, a store can still have it.
    fn beside(&self, path: &str, store_path: Option<&StorePath>) -> Result<Located<'static>, LocateError> {
        let dir = match self.inventory_dir.as_path() {
            dir if dir.as_os_str().is_empty() => Path::new("."),
            dir => dir,
        };
        let outside = || LocateError::Outside { path: path.to_owned(), dir: dir.to_owned() };
        let relative = Path::new(path);
        if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(outside());
        }
        let named = dir.join(relative);
        let unreadable = |source| LocateError::Unreadable { path: named.clone(), source };
        let file = match fs::canonicalize(&named) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => {
                let in_store = store_path.and_then(|path| self.stores.find(path));
                return in_store.map(Located::Store).ok_or_else(|| self.missing_file(path, &named, store_path));
            }
            Err(error) => return Err(unreadable(error)),
        };
        if !file.starts_with(fs::canonicalize(dir).map_err(unreadable)?) {
            return Err(outside());
        }
        let file_type = fs::metadata(&file).map_err(unreadable)?.file_type();
        if !file_type.is_file() {
            return Err(LocateError::NotAFile { path: file, kind: kind(file_type) });
        }
        Ok(Located::Beside(file))
    }

    fn missing_file(&self, path: &str, named: &Path, store_path: Option<&StorePath>) -> LocateError {
        let mut looked_in = vec![named.to_owned()];
        if store_path.is_some() {
            looked_in.extend(self.stores.dirs().map(Path::to_owned));
        }
        let remedy = "commit the file beside the inventory (a flake sees only what `git add` was told of), or capture \
                      it again";
        LocateError::Missing { path: path.to_owned(), looked_in, remedy: remedy.to_owned() }
    }
}

/// What people call such a thing.
fn kind(file_type: fs::FileType) -> &'static str {
    match file_type {
        file_type if file_type.is_dir() => "a folder",
        file_type if file_type.is_symlink() => "a link",
        file_type if file_type.is_fifo() => "a pipe",
        file_type if file_type.is_socket() => "a socket",
        _ => "a device",
    }
}

fn store_path_error(error: FindError) -> LocateError {
    match error {
        FindError::Missing { path, object, looked_in } => {
            let remedy = format!("run `nix-store --realise {}`, or build it", object.to_absolute_path());
            LocateError::Missing { path, looked_in, remedy }
        }
        other => LocateError::StorePath(other),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::store::{embedded::EmbeddedStore, hash::NixHash, path::StorePathName};

    struct Fixture {
        folder: tempfile::TempDir,
        files: BodyFiles,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let inventory_dir = folder.path().join("project");
        fs::create_dir_all(inventory_dir.join("inventory.bodies")).unwrap();
        let embedded = EmbeddedStore::new(folder.path().join("store"));
        embedded.prepare().unwrap();
        let stores = Stores::new(None, embedded);
        Fixture { files: BodyFiles { inventory_dir, stores }, folder }
    }

    fn body(source: Source) -> Body {
        let name = StorePathName::new("b.txt").ok();
        Body { hash: Some(NixHash::sha256(b"body")), size: Some(4), name, source }
    }

    fn file(path: &str) -> Body {
        body(Source::File(path.to_owned()))
    }

    impl Fixture {
        fn insert(&self) -> StorePath {
            self.files.stores.embedded().insert_bytes(b"body", &StorePathName::new("b.txt").unwrap()).unwrap()
        }

        fn error(&self, body: &Body) -> LocateError {
            self.files.locate(body).unwrap_err()
        }
    }

    #[test]
    fn a_fetched_body_is_in_a_store_or_the_message_says_how_to_get_it() {
        let fixture = fixture();
        let message = fixture.error(&body(Source::Fetch(None))).to_string();
        let path = fixture.insert();
        assert!(message.starts_with(&path.to_absolute_path()), "{message}");
        assert!(message.contains("run `buildproxy fetch`"), "{message}");
        assert!(message.contains(fixture.files.stores.embedded().dir().to_str().unwrap()), "{message}");
        let found = Located::Store(fixture.files.stores.embedded().path_of(&path));
        assert_eq!(fixture.files.locate(&body(Source::Fetch(None))).unwrap(), found);
        let unnamed = Body { name: None, ..body(Source::Fetch(None)) };
        assert!(matches!(fixture.error(&unnamed), LocateError::NoStorePath));
    }

    #[test]
    fn a_file_lies_beside_the_inventory_before_it_is_looked_for_in_the_store() {
        let fixture = fixture();
        let named = file("inventory.bodies/b.txt");
        let message = fixture.error(&named).to_string();
        assert!(message.contains("git add"), "{message}");
        let path = fixture.insert();
        let in_store = fixture.files.stores.embedded().path_of(&path);
        assert_eq!(fixture.files.locate(&named).unwrap(), Located::Store(in_store));
        let beside = fixture.files.inventory_dir.join("inventory.bodies/b.txt");
        fs::write(&beside, "body").unwrap();
        let beside = fs::canonicalize(beside).unwrap();
        assert_eq!(fixture.files.locate(&named).unwrap(), Located::Beside(beside));
    }

    #[test]
    fn a_file_outside_the_inventory_is_refused_even_through_links() {
        let fixture = fixture();
        let dir = &fixture.files.inventory_dir;
        fs::write(fixture.folder.path().join("secret"), "body").unwrap();
        symlink("../secret", dir.join("link")).unwrap();
        symlink("..", dir.join("up")).unwrap();
        symlink("inventory.bodies", dir.join("bodies")).unwrap();
        fs::write(dir.join("inventory.bodies/b"), "body").unwrap();
        for path in ["../secret", "/etc/passwd", "link", "up/secret", "inventory.bodies/../../secret"] {
            assert!(matches!(fixture.error(&file(path)), LocateError::Outside { .. }), "{path}");
        }
        assert!(matches!(fixture.files.locate(&file("bodies/b")).unwrap(), Located::Beside(_)));
        assert!(matches!(fixture.error(&file("inventory.bodies")), LocateError::NotAFile { .. }));
    }

    #[test]
    fn a_store_path_is_found_or_named_for_nix_store() {
        let fixture = fixture();
        let object = "0000000000000000000000000000000a-package";
        let in_store =
            |below: &str| body(Source::StorePath { path: format!("/nix/store/{object}/{below}"), nar_hash: None });
        let message = fixture.error(&in_store("share/b")).to_string();
        assert!(message.contains(&format!("`nix-store --realise /nix/store/{object}`")), "{message}");
        let folder = fixture.files.stores.embedded().dir().join(object).join("share");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("b"), "body").unwrap();
        assert!(matches!(fixture.files.locate(&in_store("share/b")).unwrap(), Located::Store(_)));
        let message = fixture.error(&in_store("../b")).to_string();
        assert!(message.contains("correct `store-path`"), "{message}");
    }

    #[test]
    fn a_wrong_size_is_told_in_bytes_and_with_what_helps() {
        let fixture = fixture();
        let path = fixture.folder.path().join("b");
        fs::write(&path, "0123456789").unwrap();
        let check = |size, source| fixture.files.check_size(&Body { size, ..body(source) }, &path);
        assert_eq!(check(Some(10), Source::Fetch(None)).unwrap(), 10);
        assert_eq!(check(None, Source::Fetch(None)).unwrap(), 10);
        let message = |expected, source| check(Some(expected), source).unwrap_err().to_string();
        let short = message(20, Source::Fetch(None));
        assert!(short.contains("is short: 10 of 20 bytes: remove it and run `buildproxy fetch`"), "{short}");
        let long = message(5, Source::File("b".to_owned()));
        assert!(long.contains("is too long: 10 instead of 5 bytes: restore it from version control"), "{long}");
    }

    #[test]
    fn a_body_without_a_name_says_what_to_add() {
        let fixture = fixture();
        let error = fixture.error(&Body { name: None, ..body(Source::Fetch(None)) });
        let text = "the body has no name and hash, so it has no store path: capture it again, or add both";
        assert_eq!(error.to_string(), text);
    }
}
