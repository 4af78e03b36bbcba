//! Reading, writing and unpacking against each other. The real Nix has its say in the integration tests.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    MAX_NAME_LENGTH, MAX_PATH_LENGTH, Node, dump,
    reader::{Fault, ReadError, Reader, Step},
    restore,
    restore::RestoreError,
    writer::{NarError, Writer},
};
use crate::store::hash::{HashAlgo, HashingReader, NixHash};

/// Strings as the format has them, spelled out apart from the code.
fn archive(strings: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for string in strings {
        bytes.extend((string.len() as u64).to_le_bytes());
        bytes.extend(*string);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

/// The same, of words.
fn words(words: &str) -> Vec<u8> {
    archive(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

/// Writes again what is read; `Err` where it is no archive.
fn copied(input: impl Read) -> Result<Vec<u8>, ReadError> {
    let (mut reader, mut copy) = (Reader::new(input), Vec::new());
    let mut writer = Writer::new(&mut copy).unwrap();
    let mut buffer = [0; 7];
    while let Some(step) = reader.step()? {
        match step {
            Step::Enter(node) => {
                writer.enter(reader.name(), &node).unwrap();
                loop {
                    match reader.read_contents(&mut buffer)? {
                        0 => break,
                        count => writer.contents(&buffer[..count]).unwrap(),
                    }
                }
            }
            Step::Leave => writer.leave().unwrap(),
        }
    }
    Ok(copy)
}

fn fault(bytes: &[u8]) -> (u64, Fault) {
    match copied(bytes) {
        Err(ReadError::Fault { offset, fault }) => (offset, fault),
        other => panic!("{other:?}"),
    }
}

fn folder(entries: &[&str]) -> Vec<u8> {
    let mut strings: Vec<&[u8]> = "nix-archive-1 ( type directory".split(' ').map(str::as_bytes).collect();
    for name in entries {
        strings.extend(["entry", "(", "name", name, "node"].map(str::as_bytes));
        strings.extend("( type symlink target x ) )".split(' ').map(str::as_bytes));
    }
    strings.push(b")");
    archive(&strings)
}

#[test]
fn the_steps_of_an_archive_say_what_is_where() {
    let bytes = words(
        "nix-archive-1 ( type directory entry ( name a node ( type directory \
         entry ( name b node ( type regular contents hello ) ) entry ( name c node ( type symlink target .. ) ) ) ) \
         entry ( name d node ( type directory ) ) )",
    );
    let mut reader = Reader::new(bytes.as_slice());
    let mut steps = Vec::new();
    while let Some(step) = reader.step().unwrap() {
        steps.push((String::from_utf8(reader.path().to_vec()).unwrap(), reader.name().to_vec(), step));
    }
    let enter = |path: &str, name: &[u8], node| (path.to_owned(), name.to_vec(), Step::Enter(node));
    let leave = |path: &str, name: &[u8]| (path.to_owned(), name.to_vec(), Step::Leave);
    let expected = [
        enter("", b"", Node::Directory),
        enter("a", b"a", Node::Directory),
        enter("a/b", b"b", Node::File { executable: false, size: 5 }),
        leave("a/b", b"b"),
        enter("a/c", b"c", Node::Symlink { target: b"..".to_vec() }),
        leave("a/c", b"c"),
        leave("a", b"a"),
        enter("d", b"d", Node::Directory),
        leave("d", b"d"),
        leave("", b""),
    ];
    assert_eq!(steps, expected);
    assert_eq!(reader.step().unwrap(), None, "the end stays the end");
    assert_eq!(copied(bytes.as_slice()).unwrap(), bytes);
}

#[test]
fn a_name_that_leads_elsewhere_or_is_out_of_order_is_refused() {
    for name in ["", ".", "..", "a/b", "/", "../x", "a\0"] {
        assert!(matches!(fault(&folder(&[name])), (_, Fault::Name(_))), "{name:?}");
    }
    for names in [["b", "a"], ["a", "a"], ["a", "A"], ["ab", "a"], ["é", "z"]] {
        assert!(matches!(fault(&folder(&names)), (_, Fault::Order { .. })), "{names:?}");
    }
    for names in [["A", "a"], ["a", "a-"], ["a.b", "ab"], ["z", "é"]] {
        assert!(copied(folder(&names).as_slice()).is_ok(), "{names:?}");
    }
}

#[test]
fn limits_are_those_of_the_file_system() {
    let name = |length| "n".repeat(length);
    assert!(copied(folder(&[&name(MAX_NAME_LENGTH)]).as_slice()).is_ok());
    assert!(matches!(fault(&folder(&[&name(MAX_NAME_LENGTH + 1)])), (_, Fault::TooLong { length: 256, .. })));
    let link = |target: &[u8]| archive(&[b"nix-archive-1", b"(", b"type", b"symlink", b"target", target, b")"]);
    assert!(copied(link(&[b'x'; MAX_PATH_LENGTH]).as_slice()).is_ok());
    assert!(matches!(fault(&link(&[b'x'; MAX_PATH_LENGTH + 1])), (_, Fault::TooLong { length: 4096, .. })));
    for target in [b"".as_slice(), b"a\0b"] {
        assert!(matches!(fault(&link(target)), (_, Fault::Target(_))));
    }
}

#[test]
fn a_fault_is_told_with_its_place() {
    let whole = words("nix-archive-1 ( type regular contents hello )");
    let message = |bytes: &[u8]| copied(bytes).unwrap_err().to_string();
    let at = |place: usize| format!("not a Nix archive, or a damaged one, at byte {place}: ");
    assert_eq!(message(b""), at(0) + "it ends too early");
    let text = message(b"\x1f\x8b\x08 gzip or any other file that is here");
    assert!(text.starts_with(&(at(0) + "a string of ")) && text.ends_with(" where `nix-archive-1` belongs"), "{text}");
    assert_eq!(message(&words("nix-archive-2")), at(0) + "`nix-archive-2` where `nix-archive-1` belongs");
    assert_eq!(
        message(&words("nix-archive-1 ( type pipe")),
        at(56) + "`pipe` where `directory` or `regular` or `symlink` belongs"
    );
    assert_eq!(message(&whole[..whole.len() - 30]), at(whole.len() - 30) + "it ends too early");
    assert_eq!(message(&[whole.as_slice(), b"x"].concat()), at(whole.len()) + "there are bytes behind its end");
    let mut padded = whole.clone();
    let behind_hello = whole.len() - 17;
    padded[behind_hello] = 1;
    assert!(message(&padded).contains("bytes other than zero"));
    let marked = words("nix-archive-1 ( type regular executable x contents hello )");
    assert!(message(&marked).contains("`x` where `` belongs") || message(&marked).contains("a string of 1 bytes"));
    for cut in 0..whole.len() {
        assert_eq!(fault(&whole[..cut]).1, Fault::End, "{cut}");
    }
}

/// A reader that never ends: what it is asked to give by a claimed length is not allocated first.
#[test]
fn a_claimed_length_takes_no_memory() {
    for tag in ["nix-archive-1", "nix-archive-1 (", "nix-archive-1 ( type", "nix-archive-1 ( type symlink target"] {
        let endless = [words(tag).as_slice(), &u64::MAX.to_le_bytes()].concat();
        assert!(copied(endless.chain(io::repeat(0))).is_err(), "{tag}");
    }
    let file = [words("nix-archive-1 ( type regular contents").as_slice(), &u64::MAX.to_le_bytes()].concat();
    let (offset, fault) = fault(&[file.as_slice(), &[0; 100_000]].concat());
    assert_eq!((offset, fault), (file.len() as u64 + 100_000, Fault::End));
}

#[test]
fn a_folder_in_a_folder_ends_with_a_message_not_with_the_stack() {
    let deep = |levels: usize| {
        let open = words("( type directory entry ( name d node");
        let mut bytes = words("nix-archive-1");
        (0..levels).for_each(|_| bytes.extend(&open));
        bytes.extend(words("( type directory )"));
        (0..levels).for_each(|_| bytes.extend(words(") )")));
        bytes
    };
    assert_eq!(copied(deep(2048).as_slice()).unwrap(), deep(2048));
    assert!(matches!(fault(&deep(2049)), (_, Fault::TooLong { length: 4097, .. })));
    assert!(copied(deep(200_000).as_slice()).is_err());

    // Unpacked, the way to it counts, too.
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("deep");
    let fits = (MAX_PATH_LENGTH - path.as_os_str().len()) / 2;
    restore(deep(fits).as_slice(), &path).unwrap();
    let mut again = Vec::new();
    dump(&path, &mut again).unwrap();
    assert_eq!(again, deep(fits));
    super::restore::remove(&path).unwrap();
    let message = restore(deep(fits + 1).as_slice(), &path).unwrap_err().to_string();
    assert!(message.starts_with("cannot write ") && !message.contains("still"), "{message}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing is left");
}

/// A folder with one of everything.
fn tree() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("tree");
    fs::create_dir_all(root.join("folder/empty")).unwrap();
    fs::write(root.join("folder/run"), "#!").unwrap();
    fs::set_permissions(root.join("folder/run"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(root.join("large"), vec![7; 300_001]).unwrap();
    fs::write(root.join("none"), "").unwrap();
    symlink("/", root.join("out")).unwrap();
    (place, root)
}

fn dumped(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    dump(path, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_unpacked_is_what_was_packed_and_hashed_on_the_way() {
    let (place, root) = tree();
    let (bytes, copy) = (dumped(&root), place.path().join("copy"));
    let mut reader = HashingReader::new(bytes.as_slice(), HashAlgo::Sha256);
    restore(&mut reader, &copy).unwrap();
    assert_eq!(reader.finish(), NixHash::sha256(&bytes));
    assert_eq!(dumped(&copy), bytes);
    let mode = |name: &str| fs::metadata(copy.join(name)).unwrap().permissions().mode() & 0o111;
    assert_eq!((mode("folder/run"), mode("large")), (0o111, 0));
}

#[test]
fn nothing_is_overwritten_or_followed() {
    let (place, root) = tree();
    let (bytes, before) = (dumped(&root), dumped(&root));
    for name in ["", "none", "folder", "out"] {
        let message = restore(bytes.as_slice(), &root.join(name)).unwrap_err().to_string();
        assert!(message.contains("something is there already"), "{message}");
    }
    let elsewhere = place.path().join("elsewhere");
    symlink(&elsewhere, place.path().join("dangling")).unwrap();
    let file = words("nix-archive-1 ( type regular contents hello )");
    assert!(restore(file.as_slice(), &place.path().join("dangling")).is_err());
    assert!(!elsewhere.exists());
    assert_eq!(dumped(&root), before);
}

#[test]
fn of_an_archive_that_breaks_off_nothing_is_left() {
    let (place, root) = tree();
    let bytes = dumped(&root);
    fs::rename(&root, place.path().join("away")).unwrap();
    for cut in (0..bytes.len()).filter(|cut| cut % 8 == 3 && (cut % 997 == 0 || *cut < 2000 || bytes.len() - cut < 300))
    {
        let error = restore(&bytes[..cut], &root).unwrap_err().to_string();
        assert_eq!(error, format!("not a Nix archive, or a damaged one, at byte {cut}: it ends too early"));
        assert!(fs::symlink_metadata(&root).is_err(), "{cut}");
    }
    assert!(restore([bytes.as_slice(), &[0]].concat().as_slice(), &root).is_err());
    assert!(fs::symlink_metadata(&root).is_err());
    let absent = place.path().join("absent/tree");
    assert!(restore(bytes.as_slice(), &absent).unwrap_err().to_string().starts_with("cannot write "));
}

/// Changes that keep most of an archive: other bytes, numbers of any size, pieces taken out, doubled and exchanged.
#[derive(Debug, Clone)]
enum Change {
    Byte(Index, u8),
    Number(Index, u64),
    Cut(Index, Index),
    Double(Index, Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let word = |index: &Index, bytes: &[u8]| index.index(bytes.len() / 8 + 1) * 8;
        match self {
            _ if bytes.is_empty() => {}
            Self::Byte(place, byte) => {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            Self::Number(place, number) => {
                let place = word(place, bytes);
                if let Some(field) = bytes.get_mut(place..place + 8) {
                    field.copy_from_slice(&number.to_le_bytes());
                }
            }
            Self::Cut(from, to) | Self::Double(from, to) => {
                let mut range = [word(from, bytes).min(bytes.len()), word(to, bytes).min(bytes.len())];
                range.sort_unstable();
                let piece = bytes[range[0]..range[1]].to_vec();
                match self {
                    Self::Cut(..) => drop(bytes.drain(range[0]..range[1])),
                    _ => drop(bytes.splice(range[1]..range[1], piece)),
                }
            }
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let numbers = prop_oneof![0..300u64, 4090..4100u64, any::<u64>()];
    let change = prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(place, byte)| Change::Byte(place, byte)),
        (any::<Index>(), numbers).prop_map(|(place, number)| Change::Number(place, number)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Cut(from, to)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Double(from, to)),
    ];
    vec(change, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn what_is_read_of_a_changed_archive_is_written_as_it_was(changes in changes()) {
        let mut bytes = words(
            "nix-archive-1 ( type directory entry ( name a node ( type directory \
             entry ( name b node ( type regular executable  contents hello ) ) \
             entry ( name c node ( type symlink target .. ) ) ) ) \
             entry ( name d node ( type directory ) ) entry ( name e node ( type regular contents 12345678 ) ) )",
        );
        let original = bytes.clone();
        changes.iter().for_each(|change| change.apply(&mut bytes));
        match copied(bytes.as_slice()) {
            Ok(copy) => prop_assert_eq!(copy, bytes),
            Err(error) => {
                prop_assert_ne!(original, bytes);
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}

#[test]
fn each_fault_of_an_archive_is_said_with_its_place() {
    let name = || "a".to_owned();
    for (fault, text) in [
        (Fault::End, "it ends too early"),
        (Fault::Tag { expected: "`(`".to_owned(), found: "`)`".to_owned() }, "`)` where `(` belongs"),
        (
            Fault::TooLong { what: "target of a link", length: 9, longest: 8 },
            "a target of a link of 9 bytes; 8 are the most",
        ),
        (
            Fault::TooLong { what: "path of folders", length: 9, longest: 8 },
            "a path of folders of 9 bytes; 8 are the most",
        ),
        (Fault::Padding, "bytes other than zero where strings are filled up with zeros"),
        (Fault::Name(name()), "`a` cannot be the name of a file"),
        (
            Fault::Order { name: name(), last: "b".to_owned() },
            "`a` behind `b`: the entries of a folder have to be sorted, each name once",
        ),
        (Fault::Target(name()), "`a` cannot be the target of a link"),
        (Fault::Behind, "there are bytes behind its end"),
    ] {
        let error = ReadError::Fault { offset: 7, fault };
        assert_eq!(error.to_string(), format!("not a Nix archive, or a damaged one, at byte 7: {text}"));
    }
}

#[test]
fn what_the_system_does_not_let_an_archive_do_is_said_with_the_file() {
    let (path, source) = (PathBuf::from("a"), || io::Error::other("no"));
    let read = ReadError::Input { offset: 7, source: source() };
    assert_eq!(read.to_string(), "cannot read the archive at byte 7: no");
    for (error, text) in [
        (NarError::Read { path: path.clone(), source: source() }, "cannot read a: no"),
        (NarError::Write { path: path.clone(), source: source() }, "cannot write the archive of a: no"),
        (
            NarError::Changed { path: path.clone(), expected: 3 },
            "cannot read a: its size changed from 3 bytes meanwhile",
        ),
        (
            NarError::Unsupported { path: path.clone() },
            "cannot archive a: it is neither a file, a folder nor a symbolic link",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
    let exists = RestoreError::Exists { path: path.clone() };
    assert_eq!(exists.to_string(), "cannot unpack to a: something is there already; hint: move it away");
    let left = RestoreError::LeftOver {
        error: Box::new(RestoreError::Write { path: path.clone(), source: source() }),
        path,
        source: source(),
    };
    assert_eq!(
        left.to_string(),
        "cannot write a: no; the part that was unpacked is still in a, and cannot be removed: no"
    );
}
