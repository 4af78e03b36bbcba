//! Store paths, hash spellings and archives against the real Nix, which alone decides what is right.
//!
//! Needs `nix-store`, `nix-hash`, `nix-instantiate` and `nix` in `PATH`, of any version from 2.8 on; without them the
//! tests fail. They are run on a store that exists only in their memory (`dummy://`), so `/nix` is not touched.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are not seen as tests.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{PermissionsExt, symlink},
    },
    path::Path,
    process::Command,
    thread,
};

use buildproxy::store::{
    hash::{HashAlgo, Hasher, NixHash},
    nar,
    path::{FileIngestionMethod, MAX_NAME_LENGTH, StorePathName, build_ca_path},
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// Processes that run at once.
const JOBS: usize = 4;

const NAME_CHARACTERS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+-._?=";

/// Runs a program of Nix where it can touch nothing, and gives what it prints.
fn nix(program: &str, arguments: &[&OsStr]) -> Vec<u8> {
    let nowhere = "/var/empty/buildproxy-tests";
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    for directory in ["HOME", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_LOCALSTATE_DIR", "NIX_CONF_DIR"] {
        command.env(directory, nowhere);
    }
    let output = command.env("NIX_REMOTE", "dummy://").output().unwrap_or_else(|error| {
        panic!(
            "cannot run `{program}`: {error}; these tests need Nix (`apt-get install nix-bin`, or `pkgs.nix`) in PATH"
        )
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} failed: {errors}");
    output.stdout
}

/// The lines that a program of Nix prints.
fn nix_lines(program: &str, arguments: &[&str]) -> Vec<String> {
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    String::from_utf8(nix(program, &arguments)).unwrap().lines().map(str::to_owned).collect()
}

/// `count` values of `strategy`, the same in every run.
fn sample<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// Names of every allowed length and character.
fn names() -> impl Strategy<Value = StorePathName> {
    let length = prop_oneof![1 => Just(1), 1 => Just(MAX_NAME_LENGTH), 8 => 1..=MAX_NAME_LENGTH];
    let text = length.prop_flat_map(|length| vec(select(NAME_CHARACTERS), length));
    text.prop_filter_map("starts with a dot", |text| StorePathName::new(String::from_utf8(text).ok()?).ok())
}

/// Hashes, of the same bytes by either algorithm.
fn hashes() -> impl Strategy<Value = NixHash> {
    (any::<[u8; 16]>(), select(vec![HashAlgo::Sha256, HashAlgo::Sha512])).prop_map(|(bytes, algo)| {
        let mut hasher = Hasher::new(algo);
        hasher.update(&bytes);
        hasher.finish()
    })
}

fn methods() -> impl Strategy<Value = FileIngestionMethod> {
    prop_oneof![3 => Just(FileIngestionMethod::Flat), 1 => Just(FileIngestionMethod::Recursive)]
}

/// Runs `check` on all `cases`, several at once.
fn in_parallel<T: Sync>(cases: &[T], check: impl Fn(&T) + Sync) {
    thread::scope(|scope| {
        for part in cases.chunks(cases.len().div_ceil(JOBS)) {
            scope.spawn(|| part.iter().for_each(&check));
        }
    });
}

fn assert_path_is_that_of_nix_store(name: &StorePathName, method: FileIngestionMethod, hash: &NixHash) {
    let hex = hash.to_hex();
    let mut arguments = vec!["--print-fixed-path", hash.algo().as_str(), &hex, name.as_str()];
    if method == FileIngestionMethod::Recursive {
        arguments.insert(1, "--recursive");
    }
    let ours = build_ca_path(name, method, hash).to_absolute_path();
    assert_eq!(nix_lines("nix-store", &arguments), [ours], "{method:?} {hash} {name}");
}

#[test]
fn flat_sha256_paths_are_those_of_nix_store() {
    // The command line takes a leading `-` for a flag; derivations, below, have such names.
    let names = names().prop_filter("a flag", |name| !name.as_str().starts_with('-'));
    let bytes = any::<[u8; 16]>().prop_map(|bytes| NixHash::sha256(&bytes));
    in_parallel(&sample(&(names, bytes), 500), |(name, hash)| {
        assert_path_is_that_of_nix_store(name, FileIngestionMethod::Flat, hash);
    });
}

#[test]
fn recursive_and_sha512_paths_are_those_of_nix_store() {
    let names = names().prop_filter("a flag", |name| !name.as_str().starts_with('-'));
    in_parallel(&sample(&(names, methods(), hashes()), 100), |(name, method, hash)| {
        assert_path_is_that_of_nix_store(name, *method, hash);
    });
}

/// The same as a build sees it: what `fetchurl` evaluates to.
#[test]
fn paths_are_those_of_fixed_output_derivations() {
    let mut cases = sample(&(names(), methods(), hashes()), 500);
    let dashed = StorePathName::new("-rf").unwrap();
    cases.push((dashed, FileIngestionMethod::Flat, NixHash::sha256(b"")));
    let derivation = |(name, method, hash): &(StorePathName, FileIngestionMethod, NixHash)| {
        let mode = if *method == FileIngestionMethod::Flat { "flat" } else { "recursive" };
        format!(r#"(path "{name}" "{mode}" "{hash}")"#)
    };
    let list = cases.iter().map(derivation).collect::<Vec<_>>().join("\n");
    let expression = format!(
        r#"let path = name: outputHashMode: outputHash: (derivation {{
             inherit name outputHashMode outputHash;
             outputHashAlgo = null; system = "none"; builder = "none";
           }}).outPath; in [ {list} ]"#
    );
    let arguments = ["--eval", "--strict", "--json", "--readonly-mode", "--expr", &expression].map(OsStr::new);
    let theirs: Vec<String> = serde_json::from_slice(&nix("nix-instantiate", &arguments)).unwrap();
    let ours = cases.iter().map(|(name, method, hash)| build_ca_path(name, *method, hash).to_absolute_path());
    assert!(ours.eq(theirs), "a path differs from that of a derivation");
}

#[test]
fn spellings_of_a_hash_are_those_of_nix_hash() {
    for algo in [HashAlgo::Sha256, HashAlgo::Sha512] {
        let hashes = sample(&hashes().prop_filter("algorithm", |hash| hash.algo() == algo), 100);
        let hex: Vec<String> = hashes.iter().map(NixHash::to_hex).collect();
        let nix32: Vec<String> = hashes.iter().map(NixHash::to_nix32).collect();
        let sri: Vec<String> = hashes.iter().map(NixHash::to_string).collect();
        let convert = |to: &str, from: &[String]| {
            let options = ["--type", algo.as_str(), to];
            let arguments: Vec<&str> = options.into_iter().chain(from.iter().map(String::as_str)).collect();
            nix_lines("nix-hash", &arguments)
        };
        assert_eq!(convert("--to-base32", &hex), nix32);
        assert_eq!(convert("--to-base16", &nix32), hex);
        let options = ["--extra-experimental-features", "nix-command", "hash", "to-sri", "--type", algo.as_str()];
        let arguments: Vec<&str> = options.into_iter().chain(nix32.iter().map(String::as_str)).collect();
        assert_eq!(nix_lines("nix", &arguments), sri);
        let parsed: Vec<NixHash> = sri.iter().map(|sri| sri.parse().unwrap()).collect();
        assert_eq!(parsed, hashes);
    }
}

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

/// Any bytes that a file can be called, up to the longest.
fn file_names() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/' | b'.') { b'_' } else { byte });
    prop_oneof![9 => vec(byte.clone(), 1..20), 1 => vec(byte, 255)]
}

fn trees() -> impl Strategy<Value = Tree> {
    let modes = select(vec![0o644, 0o755, 0o400, 0o500, 0o654, 0o645, 0o655, 0o744, 0o700]);
    let length = prop_oneof![2 => Just(0), 6 => 1..100usize, 1 => 250_000..300_000usize];
    let bytes = (any::<u8>(), length).prop_map(|(byte, length)| vec![byte; length]);
    let target = prop_oneof![8 => vec(1..=u8::MAX, 1..50), 1 => vec(1..=u8::MAX, 300..2000)];
    let leaf = prop_oneof![
        3 => (bytes, modes).prop_map(|(bytes, mode)| Tree::File { bytes, mode }),
        1 => target.prop_map(Tree::Link),
        1 => Just(Tree::Folder(Vec::new())),
    ];
    leaf.prop_recursive(4, 60, 8, |inner| vec((file_names(), inner), 0..8).prop_map(Tree::Folder))
}

#[test]
fn archives_are_those_of_nix_store() {
    let folder = tempfile::tempdir().unwrap();
    let awkward = ["B", "a", "a.b", "a-b", "ab", "é", "\u{1}", " "]
        .map(|name| (name.as_bytes().to_vec(), Tree::File { bytes: name.as_bytes().to_vec(), mode: 0o644 }));
    let mut cases = sample(&trees(), 120);
    cases.push(Tree::Folder(awkward.to_vec()));
    cases.push(Tree::Folder(vec![(vec![0xff], Tree::Link(vec![0xfe])), (vec![0x7f, 0x80], Tree::Folder(vec![]))]));
    let cases: Vec<(usize, Tree)> = cases.into_iter().enumerate().collect();
    in_parallel(&cases, |(number, tree)| {
        let path = folder.path().join(number.to_string());
        tree.make(&path);
        let mut ours = Vec::new();
        nar::dump(&path, &mut ours).unwrap();
        let theirs = nix("nix-store", &["--dump".as_ref(), path.as_os_str()]);
        assert!(ours == theirs, "the archive of {tree:?} differs");
        assert_eq!(nar::hash(&path).unwrap(), NixHash::sha256(&theirs));
    });
}

#[test]
fn the_hash_of_a_tree_is_that_of_nix_hash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tree");
    Tree::Folder(sample(&(file_names(), trees()), 10)).make(&path);
    let arguments: Vec<OsString> =
        ["--type", "sha256"].map(OsString::from).into_iter().chain([path.clone().into()]).collect();
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    let theirs = OsString::from_vec(nix("nix-hash", &arguments)).into_string().unwrap();
    assert_eq!(nar::hash(&path).unwrap().to_hex(), theirs.trim());
}
