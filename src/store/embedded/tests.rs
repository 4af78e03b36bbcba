use super::*;
use crate::store::hash::{HashAlgo, Hasher};

fn store() -> (tempfile::TempDir, EmbeddedStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::new(folder.path().join("data/store"));
    store.prepare().unwrap();
    (folder, store)
}

fn name(text: &str) -> StorePathName {
    StorePathName::new(text).unwrap()
}

/// Writes `bytes` as a finished spool file.
fn spool_file(store: &EmbeddedStore, file: &str, bytes: &[u8]) -> PathBuf {
    let dir = store.spool_dir("session");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(file), bytes).unwrap();
    dir.join(file)
}

fn names_in(dir: &Path) -> Vec<OsString> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).filter(|name| name != SPOOL_FOLDER).collect()
}

#[test]
fn bytes_get_the_store_path_of_their_hash_and_are_read_only() {
    let (_folder, store) = store();
    let path = store.insert_bytes(b"hello", &name("hello.txt")).unwrap();
    assert_eq!(path, build_ca_path(&name("hello.txt"), FileIngestionMethod::Flat, &NixHash::sha256(b"hello")));
    let file = store.find(&path).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"hello");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o444);
    assert_eq!(store.insert_bytes(b"hello", &name("hello.txt")).unwrap(), path);
    assert_eq!(names_in(store.dir()).len(), 1, "no temporary file is left");
}

#[test]
fn adopting_moves_the_file_without_writing_it_again() {
    use std::os::unix::fs::MetadataExt;
    let (_folder, store) = store();
    let spooled = spool_file(&store, "1", b"body");
    let inode = fs::metadata(&spooled).unwrap().ino();
    let path = store.adopt(&spooled, &NixHash::sha256(b"body"), 4, &name("b")).unwrap();
    let metadata = fs::metadata(store.find(&path).unwrap()).unwrap();
    assert_eq!(metadata.ino(), inode);
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o444);
    assert!(!spooled.exists());
}

#[test]
fn adopting_again_keeps_what_is_there_even_when_the_spool_file_is_gone() {
    let (_folder, store) = store();
    let hash = NixHash::sha256(b"body");
    let path = store.insert_bytes(b"body", &name("b")).unwrap();
    let spooled = spool_file(&store, "1", b"body");
    assert_eq!(store.adopt(&spooled, &hash, 4, &name("b")).unwrap(), path);
    assert!(!spooled.exists());
    assert_eq!(store.adopt(&spooled, &hash, 4, &name("b")).unwrap(), path);
}

#[test]
fn a_damaged_file_is_replaced() {
    let (_folder, store) = store();
    let path = store.insert_bytes(b"body", &name("b")).unwrap();
    let file = store.path_of(&path);
    for damaged in [b"bo".as_slice(), b"bodY"] {
        let damage = || {
            fs::remove_file(&file).unwrap();
            fs::write(&file, damaged).unwrap();
        };
        damage();
        let spooled = spool_file(&store, "1", b"body");
        store.adopt(&spooled, &NixHash::sha256(b"body"), 4, &name("b")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"body");
        damage();
        store.insert_bytes(b"body", &name("b")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"body");
    }
}

#[test]
fn bytes_can_be_pinned_by_another_algorithm() {
    let (_folder, store) = store();
    let mut hasher = Hasher::new(HashAlgo::Sha512);
    hasher.update(b"body");
    let hash = hasher.finish();
    let path = store.insert_pinned(b"body", &hash, &name("b")).unwrap();
    assert_eq!(path, build_ca_path(&name("b"), FileIngestionMethod::Flat, &hash));
    assert_eq!(fs::read(store.find(&path).unwrap()).unwrap(), b"body");
}

#[test]
fn a_spool_file_of_the_wrong_size_stays_outside() {
    let (_folder, store) = store();
    let spooled = spool_file(&store, "1", b"bod");
    let error = store.adopt(&spooled, &NixHash::sha256(b"body"), 4, &name("b")).unwrap_err();
    assert!(error.to_string().contains("has 3 bytes where 4 were received"), "{error}");
    assert!(names_in(store.dir()).is_empty());
}

#[test]
fn a_spool_file_of_another_file_system_is_copied() {
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
    let (_folder, store) = store();
    let spooled = other.path().join("1");
    fs::write(&spooled, b"body").unwrap();
    let path = store.adopt(&spooled, &NixHash::sha256(b"body"), 4, &name("b")).unwrap();
    assert_eq!(fs::read(store.find(&path).unwrap()).unwrap(), b"body");
    assert!(!spooled.exists());
    assert_eq!(names_in(store.dir()).len(), 1, "no temporary file is left");
}

#[test]
fn readers_never_see_a_part_while_many_write_one_body() {
    let (_folder, store) = store();
    let bytes = vec![7; 300_000];
    let hash = NixHash::sha256(&bytes);
    let target = store.path_of(&build_ca_path(&name("b"), FileIngestionMethod::Flat, &hash));
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (store, bytes) = (&store, &bytes);
            scope.spawn(move || {
                let spooled = spool_file(store, &writer.to_string(), bytes);
                store.adopt(&spooled, &hash, bytes.len() as u64, &name("b")).unwrap();
            });
        }
        scope.spawn(|| {
            while fs::metadata(&target).is_err() {
                std::thread::yield_now();
            }
            assert_eq!(fs::read(&target).unwrap(), bytes);
        });
    });
}

#[test]
fn links_and_folders_are_no_bodies() {
    let (_folder, store) = store();
    let path = build_ca_path(&name("b"), FileIngestionMethod::Flat, &NixHash::sha256(b"b"));
    std::os::unix::fs::symlink("/etc/passwd", store.path_of(&path)).unwrap();
    assert_eq!(store.find(&path), None);
    fs::remove_file(store.path_of(&path)).unwrap();
    fs::create_dir(store.path_of(&path)).unwrap();
    assert_eq!(store.find(&path), None);
}

#[test]
fn a_store_that_cannot_be_written_is_named_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), b"").unwrap();
    let dir = folder.path().join("file/store");
    let message = EmbeddedStore::new(dir.clone()).prepare().unwrap_err().to_string();
    assert!(message.contains(dir.to_str().unwrap()) && message.contains("--store DIR"), "{message}");
}

#[test]
fn the_default_folder_follows_xdg_and_then_home() {
    let dir = |data: Option<&str>, home: Option<&str>| {
        default_dir_from(data.map(OsString::from), home.map(PathBuf::from)).display().to_string()
    };
    assert_eq!(dir(Some("/data"), Some("/home/a")), "/data/buildproxy/store");
    assert_eq!(dir(Some("data"), Some("/home/a")), "/home/a/.local/share/buildproxy/store");
    assert_eq!(dir(None, Some("/home/a")), "/home/a/.local/share/buildproxy/store");
    assert_eq!(dir(Some(""), None), "/.local/share/buildproxy/store");
}

#[test]
fn a_spool_file_of_another_size_is_named_with_both() {
    let error = StoreError::SpoolSize { path: "a".into(), size: 3, expected: 7 };
    assert_eq!(error.to_string(), "cannot take a into the store: it has 3 bytes where 7 were received");
}
