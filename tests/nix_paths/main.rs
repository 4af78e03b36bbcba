//! Store paths, hash spellings and archives against the real Nix, which alone decides what is right.
//!
//! Needs `nix-store`, `nix-hash`, `nix-instantiate` and `nix` in `PATH`, of any version from 2.8 on; without them the
//! tests fail. They are run on a store that exists only in their memory (`dummy://`), so `/nix` is not touched.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are not seen as tests.

mod archives;
mod hashes;
mod paths;

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use buildproxy::{HashAlgo, Hasher, NixHash};
use proptest::{
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// Processes that run at once.
const JOBS: usize = 4;

/// Runs a program of Nix where it can touch nothing but what `arguments` name; `input` is what it reads.
fn run_nix(program: &str, arguments: &[&OsStr], input: Option<&Path>) -> Output {
    let nowhere = "/var/empty/buildproxy-tests";
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    for directory in ["HOME", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_LOCALSTATE_DIR", "NIX_CONF_DIR"] {
        command.env(directory, nowhere);
    }
    command.stdin(input.map_or_else(Stdio::null, |path| File::open(path).unwrap().into()));
    command.env("NIX_REMOTE", "dummy://").output().unwrap_or_else(|error| {
        panic!(
            "cannot run `{program}`: {error}; these tests need Nix (`apt-get install nix-bin`, or `pkgs.nix`) in PATH"
        )
    })
}

/// Runs a program of Nix, which has to succeed, and gives what it prints.
fn nix(program: &str, arguments: &[&OsStr]) -> Vec<u8> {
    let output = run_nix(program, arguments, None);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} failed: {errors}");
    output.stdout
}

/// The lines that a program of Nix prints.
fn nix_lines(program: &str, arguments: &[&str]) -> Vec<String> {
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    String::from_utf8(nix(program, &arguments)).unwrap().lines().map(str::to_owned).collect()
}

/// What Nix evaluates `expression` to, of any length: a list of texts. `Err` is what it says about it.
fn evaluate(expression: &str) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("expression.nix");
    fs::write(&file, expression).unwrap();
    let options = ["--eval", "--strict", "--json", "--readonly-mode"].map(OsStr::new);
    let output = run_nix("nix-instantiate", &[options.as_slice(), &[file.as_os_str()]].concat(), None);
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A text as Nix reads it in quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', r#"\""#).replace('$', r"\$").replace('\r', r"\r"))
}

/// `count` values of `strategy`, the same in every run.
fn sample<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// Hashes, of the same bytes by either algorithm.
fn hashes() -> impl Strategy<Value = NixHash> {
    (any::<[u8; 16]>(), select(vec![HashAlgo::Sha256, HashAlgo::Sha512])).prop_map(|(bytes, algo)| {
        let mut hasher = Hasher::new(algo);
        hasher.update(&bytes);
        hasher.finish()
    })
}

/// Runs `check` on all `cases`, several at once.
fn in_parallel<T: Sync>(cases: &[T], check: impl Fn(&T) + Sync) {
    thread::scope(|scope| {
        for part in cases.chunks(cases.len().div_ceil(JOBS)) {
            scope.spawn(|| part.iter().for_each(&check));
        }
    });
}
