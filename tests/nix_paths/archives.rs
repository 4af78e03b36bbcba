//! Archives.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use buildproxy::{
    NixHash,
    nar::{self, Fault, ReadError, RestoreError},
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

use super::{in_parallel, nix, run_nix, sample};

/// Something that an archive can hold.
#[derive(Debug, Clone)]
enum Tree {
    File { bytes: Vec<u8>, mode: u32 },
    Link(Vec<u8>),
    Folder(Vec<(Vec<u8>, Tree)>),
}

impl Tree {
    fn make(&self, path: &Path) {
        match self {
            Self::File { bytes, mode } => {
                fs::write(path, bytes).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Self::Link(target) => symlink(OsStr::from_bytes(target), path).unwrap(),
            Self::Folder(entries) => {
                fs::create_dir(path).unwrap();
                for (name, tree) in entries {
                    let path = path.join(OsStr::from_bytes(name));
                    // Of two entries with one name the first stays.
                    if fs::symlink_metadata(&path).is_err() {
                        tree.make(&path);
                    }
                }
            }
        }
    }
}

/// What a file system holds, as far as an archive keeps it.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    File { bytes: Vec<u8>, executable: bool },
    Link(Vec<u8>),
    Folder(BTreeMap<Vec<u8>, Found>),
}

impl Found {
    fn at(path: &Path) -> Self {
        let metadata = fs::symlink_metadata(path).unwrap();
        if metadata.is_dir() {
            let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
            return Self::Folder(
                entries.map(|entry| (entry.file_name().into_vec(), Self::at(&entry.path()))).collect(),
            );
        }
        if metadata.is_symlink() {
            return Self::Link(fs::read_link(path).unwrap().into_os_string().into_vec());
        }
        Self::File { bytes: fs::read(path).unwrap(), executable: metadata.permissions().mode() & 0o100 != 0 }
    }
}

/// Any bytes that a file can be called, up to the longest.
fn file_names() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/' | b'.') { b'_' } else { byte });
    let text =
        "[a-zA-Z. é€𝄞\u{301}-]{1,20}".prop_map(|name| if name.starts_with('.') { format!("_{name}") } else { name });
    prop_oneof![5 => vec(byte.clone(), 1..20), 4 => text.prop_map(String::into_bytes), 1 => vec(byte, 255)]
}

fn trees() -> impl Strategy<Value = Tree> {
    let modes = select(vec![0o644, 0o755, 0o400, 0o500, 0o654, 0o645, 0o655, 0o744, 0o700]);
    let length = prop_oneof![20 => Just(0), 60 => 1..100usize, 1 => 250_000..300_000usize];
    let bytes = (any::<u8>(), length).prop_map(|(byte, length)| vec![byte; length]);
    let target =
        prop_oneof![8 => vec(1..=u8::MAX, 1..50), 1 => vec(1..=u8::MAX, 300..2000), 1 => vec(1..=u8::MAX, 4095)];
    let leaf = prop_oneof![
        3 => (bytes, modes).prop_map(|(bytes, mode)| Tree::File { bytes, mode }),
        1 => target.prop_map(Tree::Link),
        1 => Just(Tree::Folder(Vec::new())),
    ];
    leaf.prop_recursive(4, 60, 8, |inner| vec((file_names(), inner), 0..8).prop_map(Tree::Folder))
}

/// Names whose order differs from that of a locale, or of text.
fn awkward() -> Tree {
    let file = |bytes: &[u8]| Tree::File { bytes: bytes.to_vec(), mode: 0o644 };
    let mut entries: Vec<(Vec<u8>, Tree)> =
        ["B", "a", "a.b", "a-b", "ab", "é", "\u{1}", " ", "...", "..a", "\u{e000}", "\u{10000}", "\n"]
            .map(|name| (name.as_bytes().to_vec(), file(name.as_bytes())))
            .to_vec();
    entries.push((vec![0xff], Tree::Link(vec![0xfe])));
    entries.push((vec![0x7f, 0x80], Tree::Folder(vec![])));
    entries.push((vec![0xff; 255], file(&[])));
    Tree::Folder(entries)
}

/// A folder of many trees, each in one called by its number.
struct Forest {
    _place: tempfile::TempDir,
    root: PathBuf,
    roots: Vec<PathBuf>,
}

fn forest(count: usize) -> Forest {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("forest");
    fs::create_dir(&root).unwrap();
    let trees = sample(&trees(), count).into_iter().chain([awkward()]);
    let roots = trees.enumerate().map(|(number, tree)| {
        let path = root.join(number.to_string());
        tree.make(&path);
        path
    });
    let roots = roots.collect();
    Forest { _place: place, root, roots }
}

fn dump(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    nar::dump(path, &mut bytes).unwrap();
    bytes
}

#[test]
fn the_archives_of_a_thousand_trees_have_the_hash_that_nix_hash_says() {
    let forest = forest(1000);
    let options = ["--type", "sha256"].map(OsStr::new);
    let arguments: Vec<&OsStr> = options.into_iter().chain(forest.roots.iter().map(|path| path.as_os_str())).collect();
    let theirs = String::from_utf8(nix("nix-hash", &arguments)).unwrap();
    let theirs: Vec<&str> = theirs.lines().collect();
    assert_eq!(theirs.len(), forest.roots.len());
    for (path, theirs) in forest.roots.iter().zip(theirs) {
        let ours = dump(path);
        assert_eq!(NixHash::sha256(&ours).to_hex(), theirs, "{:?}", Found::at(path));
        assert_eq!(nar::hash(path).unwrap().to_hex(), theirs);
    }
}

#[test]
fn archives_are_those_of_nix_store_and_each_unpacks_what_the_other_packs() {
    let forest = forest(300);
    let original = Found::at(&forest.root);
    let theirs = nix("nix-store", &["--dump".as_ref(), forest.root.as_os_str()]);
    assert!(dump(&forest.root) == theirs, "the archives differ");
    let (file, by_nix) = (forest.root.with_file_name("archive"), forest.root.with_file_name("by-nix"));
    fs::write(&file, &theirs).unwrap();
    let restored = run_nix("nix-store", &["--restore".as_ref(), by_nix.as_os_str()], Some(&file));
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert!(Found::at(&by_nix) == original, "what Nix unpacks differs");
    let by_us = forest.root.with_file_name("by-us");
    nar::restore(theirs.as_slice(), &by_us).unwrap();
    assert!(Found::at(&by_us) == original, "what we unpack differs");
}

#[test]
fn a_tree_of_one_node_is_archived_and_unpacked_as_by_nix_store() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        Tree::File { bytes: b"x".to_vec(), mode: 0o644 },
        Tree::File { bytes: vec![], mode: 0o755 },
        Tree::Link(b"../elsewhere".to_vec()),
        Tree::Folder(vec![]),
    ];
    for (number, tree) in cases.iter().enumerate() {
        let path = folder.path().join(number.to_string());
        tree.make(&path);
        let theirs = nix("nix-store", &["--dump".as_ref(), path.as_os_str()]);
        assert_eq!(dump(&path), theirs, "{tree:?}");
        let copy = folder.path().join(format!("{number}-copy"));
        nar::restore(theirs.as_slice(), &copy).unwrap();
        assert_eq!(Found::at(&copy), Found::at(&path));
        let (mode, again) =
            (|path| fs::symlink_metadata(path).unwrap().permissions().mode(), path.with_extension("nix"));
        fs::write(folder.path().join("archive"), &theirs).unwrap();
        let arguments = ["--restore".as_ref(), again.as_os_str()];
        assert!(run_nix("nix-store", &arguments, Some(&folder.path().join("archive"))).status.success());
        assert_eq!(mode(&copy), mode(&again), "{tree:?}");
    }
}

fn words(words: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in words.split(' ') {
        bytes.extend((word.len() as u64).to_le_bytes());
        bytes.extend(word.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

/// An archive with one of everything.
const WHOLE: &str = "nix-archive-1 ( type directory entry ( name a node ( type directory \
     entry ( name b node ( type regular executable  contents hello ) ) \
     entry ( name c node ( type symlink target .. ) ) ) ) \
     entry ( name d node ( type directory ) ) entry ( name e node ( type regular contents 12345678 ) ) )";

/// The same, damaged. The lengths stay small or are beyond all memory: Nix 2.8 allocates what an archive claims, and takes
/// letters for a length where a length is missing.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let numbers = prop_oneof![0..40u64, (1 << 62..u64::MAX)];
    let free = select(vec!["a", "b", "hello", "c", "..", "d", "e", "12345678"]);
    let texts = (free, "[a-e./]{0,9}");
    (any::<Index>(), 0..10usize, numbers, any::<u8>(), texts).prop_map(|(place, change, number, byte, (old, new))| {
        let mut list: Vec<&str> = WHOLE.split(' ').collect();
        let at = place.index(list.len());
        let other = list[usize::from(byte) % list.len()];
        match change {
            0 => drop(list.remove(at)),
            1 => list.insert(at, other),
            2 => list[at] = other,
            7.. => list.iter_mut().filter(|word| **word == old).for_each(|word| *word = &new),
            _ => {}
        }
        let at = at.max(1);
        let (length, mut bytes) = (words(&list[..at].join(" ")).len(), words(&list.join(" ")));
        match change {
            // A length; a byte of the first length or text behind it; the end cut off.
            3 => bytes[length..length + 8].copy_from_slice(&number.to_le_bytes()),
            4..6 => bytes[length + 8..][..8][usize::from(byte % 8)] ^= 1 + byte % 3,
            6 => bytes.truncate(length + usize::from(byte % 16)),
            _ => {}
        }
        bytes
    })
}

/// Broken by hand.
fn broken() -> Vec<Vec<u8>> {
    let entry = |name: &str| format!("entry ( name {name} node ( type symlink target x ) ) ");
    let folder = |entries: &str| words(&format!("nix-archive-1 ( type directory {entries})"));
    let mut cases: Vec<Vec<u8>> =
        ["", ".", "..", "a/b", "/", "/etc", "../x", "a\0b"].map(|name| folder(&entry(name))).to_vec();
    cases.push(folder(&(entry("b") + &entry("a"))));
    cases.push(folder(&(entry("a") + &entry("a"))));
    for text in [
        "nix-archive-2 ( type directory )",
        "nix-archive-1 ( type device )",
        "nix-archive-1 ( type regular executable x contents hello )",
        "nix-archive-1 ( type symlink target  )",
        "nix-archive-1 ( type directory",
        "nix-archive-1",
        "",
    ] {
        cases.push(words(text));
    }
    cases.push(Vec::new());
    cases.push(b"no archive at all".to_vec());
    cases
}

#[test]
fn what_nix_store_refuses_to_unpack_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = sample(&damaged(), 240);
    let cases: Vec<(usize, Vec<u8>)> = broken().into_iter().chain(damaged).chain([words(WHOLE)]).enumerate().collect();
    let (refused, unpacked, stricter) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    in_parallel(&cases, |(number, bytes)| {
        let file = folder.path().join(format!("{number}.nar"));
        fs::write(&file, bytes).unwrap();
        let (by_nix, by_us) = (file.with_extension("nix"), file.with_extension("us"));
        let theirs = run_nix("nix-store", &["--restore".as_ref(), by_nix.as_os_str()], Some(&file));
        let ours = nar::restore(bytes.as_slice(), &by_us);
        let count = match (&ours, theirs.status.success()) {
            (Ok(()), true) => {
                assert_eq!(Found::at(&by_us), Found::at(&by_nix), "{}", bytes.escape_ascii());
                assert_eq!(&dump(&by_us), bytes);
                &unpacked
            }
            (Ok(()), false) => panic!("Nix refuses {}: {:?}", bytes.escape_ascii(), theirs.stderr.escape_ascii()),
            // No Nix looks at what is behind the end, and 2.8 not at the order of names.
            (Err(RestoreError::Archive(ReadError::Fault { fault: Fault::Behind | Fault::Order { .. }, .. })), true) => {
                &stricter
            }
            (Err(error), true) => panic!("{error}; Nix takes {}", bytes.escape_ascii()),
            (Err(_), false) => &refused,
        };
        assert_eq!(ours.is_ok(), fs::symlink_metadata(&by_us).is_ok(), "what is refused leaves nothing");
        count.fetch_add(1, Relaxed);
    });
    let [refused, unpacked, stricter] = [refused, unpacked, stricter].map(AtomicUsize::into_inner);
    println!("{refused} refused by both, {unpacked} unpacked by both, {stricter} by Nix alone");
    assert!(refused > 100 && unpacked > 10, "{refused} refused, {unpacked} unpacked: a check that sees one side");
}
