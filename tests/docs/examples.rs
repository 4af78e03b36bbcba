//! The programs in `examples/`: they are run, with what other programs say about the same files beside them.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use data_encoding::{BASE64, HEXLOWER};
use rustix::process::Signal;

use crate::common::{Awkward, Workdir, pattern, process::Guard, run, sandbox::repository, sri};

/// The example `name`, as it is now: cargo builds what `cargo test` has not built already.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let profile = Path::new(env!("CARGO_BIN_EXE_buildproxy")).parent().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--offline", "--examples", "--manifest-path"]);
        build.arg(repository("Cargo.toml")).arg("--target-dir").arg(profile.parent().unwrap());
        run(build.args(profile.ends_with("release").then_some("--release"))).expect_code(0);
        profile.join("examples")
    });
    folder.join(name)
}

/// A place with an inventory of two files.
fn captured() -> (Workdir, Awkward, [String; 2]) {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let urls = ["/plain/one", "/plain/two"].map(|path| origin.tls_url(path));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{}' '{}' -o /dev/null", urls[0], urls[1]))
        .expect_code(0);
    (work, origin, urls)
}

#[test]
fn the_mirror_serves_what_was_recorded_and_says_what_was_not() {
    let (work, origin, [url, _]) = captured();
    drop(origin);
    let mut mirror = work.command(example("mirror"));
    mirror.arg("inventory.toml").env("BUILDPROXY_STORE", work.store()).stdout(Stdio::piped());
    let mut mirror = Guard(mirror.spawn().unwrap());
    let mut printed = BufReader::new(mirror.0.stdout.take().unwrap());
    let mut address = String::new();
    printed.read_line(&mut address).unwrap();
    let at_mirror = |url: &str| format!("{}{}", address.trim(), url.trim_start_matches("https://"));
    run(work.command("curl").args(["-sSf", "-o", "got"]).arg(at_mirror(&url))).expect_code(0);
    assert_eq!(work.read("got"), pattern(1000));
    let part = run(work.command("curl").args(["-sSf", "-r", "10-19"]).arg(at_mirror(&url))).expect_code(0);
    assert_eq!(part.stdout, pattern(1000)[10..20]);
    let missed = run(work.command("curl").args(["-sSf"]).arg(at_mirror(&format!("{url}-other"))));
    assert_ne!(missed.code, 0, "{missed}");
    mirror.signal(Signal::INT);
    let mut rest = String::new();
    printed.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, format!("2 answered, 1 not\nGET {url}-other: nothing was recorded for this URL\n"));
}

#[test]
fn what_an_inventory_would_download_is_what_the_store_has_not() {
    let (work, _origin, [one, two]) = captured();
    let downloads = || {
        let mut command = work.command(example("downloads"));
        run(command.arg("inventory.toml").env("BUILDPROXY_STORE", work.store())).expect_code(0)
    };
    assert_eq!(downloads().text(), "0 bytes in all\n");
    let paths = run(work.buildproxy("paths").arg("--json")).expect_code(0);
    let paths: serde_json::Value = serde_json::from_slice(&paths.stdout).unwrap();
    let listed = |url: &str| {
        let body = paths.as_array().unwrap().iter().find(|body| body["url"] == *url).unwrap();
        let path = body["store-path"].as_str().unwrap().to_owned();
        fs::remove_file(work.store().join(Path::new(&path).file_name().unwrap())).unwrap();
        format!("{url}\n    as {path}, 1000 bytes\n")
    };
    let expected = [one, two].map(|url| listed(&url)).concat() + "2000 bytes in all\n";
    assert_eq!(downloads().text(), expected);
}

#[test]
fn a_file_has_the_store_paths_and_hashes_that_nix_gives_it() {
    let work = Workdir::new();
    work.write("file-1.0.txt", pattern(5000));
    let printed = run(work.command(example("store_path")).arg("file-1.0.txt")).expect_code(0);
    let nix = |program: &str, arguments: &[&str]| {
        let printed = run(work.command(program).args(arguments).env("NIX_REMOTE", "dummy://")).expect_code(0);
        printed.text().trim().to_owned()
    };
    let flat = nix("nix-hash", &["--flat", "--type", "sha256", "file-1.0.txt"]);
    let recursive = nix("nix-hash", &["--type", "sha256", "file-1.0.txt"]);
    let path = |options: &[&str], hash: &str| {
        nix("nix-store", &[&["--print-fixed-path"], options, &["sha256", hash, "file-1.0.txt"]].concat())
    };
    let archive = BASE64.encode(&HEXLOWER.decode(recursive.as_bytes()).unwrap());
    let expected = format!(
        "{} {}\nsha256-{archive} {}\n",
        sri(&pattern(5000)),
        path(&[], &flat),
        path(&["--recursive"], &recursive)
    );
    assert_eq!(printed.text(), expected);
}
