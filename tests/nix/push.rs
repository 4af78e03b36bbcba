//! `push`: an inventory's closure in a binary cache, from which another store gets everything.

use std::{fs, path::Path, process::Command};

use crate::common::{Awkward, Nix, process::Outcome, run, sri};

/// Captures two bodies that are fetched and one that is beside the inventory; gives the script.
fn captured(nix: &Nix, origin: &Awkward, options: &[&str]) -> String {
    let urls = [origin.url("/plain/a?size=10"), origin.tls_url("/plain/b?size=200000"), origin.url("/missing")];
    let script =
        format!("for url in {}; do curl -sS -o /dev/null $url; done", urls.map(|url| format!("'{url}'")).join(" "));
    run(nix.capturing(origin).args(options).args(["--", "sh", "-euc", &script])).expect_code(0);
    script
}

fn push(nix: &Nix, to: &str) -> Command {
    let mut command = nix.buildproxy("push");
    command.args(["--json", "--to", to]);
    command
}

fn pushed_paths(outcome: &Outcome) -> Vec<String> {
    let json: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    json["paths"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned()).collect()
}

/// The narinfo files of a cache.
fn narinfos(cache: &Path) -> Vec<String> {
    let files = fs::read_dir(cache).into_iter().flatten().map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|ext| ext == "narinfo"))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect()
}

#[test]
fn a_second_store_substitutes_every_body_from_the_cache_and_replays_without_network() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let script = captured(nix, &origin, &[]);
        drop(origin);
        let cache = nix.work.root().join("cache");
        let url = format!("file://{}", cache.display());
        let outcome = run(&mut push(nix, &url)).expect_code(0);
        let mut paths = nix.fetched();
        paths.sort();
        assert_eq!((paths.len(), pushed_paths(&outcome)), (2, paths.clone()), "{outcome}");
        assert!(outcome.stderr.ends_with(&format!("pushed 2 store paths to {url}\n")), "{outcome}");
        let second = nix.with_root("second");
        // Neither the first store nor what is in the home can help.
        fs::rename(&nix.root, nix.work.root().join("hidden")).unwrap();
        second.replay_sh(&script).expect_code(4);
        second.nix_store(
            ["--realise", "--option", "substituters", &url].into_iter().chain(paths.iter().map(String::as_str)),
        );
        assert_eq!(second.valid(&paths), paths);
        second.replay_sh(&script).expect_code(0);
        let verified = run(&mut second.buildproxy("verify")).expect_code(0);
        assert!(verified.stderr.contains("all good"), "{verified}");
    });
}

#[test]
fn what_is_only_in_the_embedded_store_is_pushed_too_and_kept() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        captured(nix, &origin, &["--no-nix-store"]);
        assert!(!nix.root.exists());
        let cache = nix.work.root().join("cache");
        run(&mut push(nix, &format!("file://{}", cache.display()))).expect_code(0);
        assert_eq!(narinfos(&cache).len(), 3, "two bodies and what refers to them");
        nix.collect_garbage();
        assert_eq!(nix.valid(&nix.fetched()).len(), 2);
        // So is what a store of one's own has.
        let (other, own) = (nix.with_root("other"), nix.embedded());
        let url = format!("file://{}", nix.work.root().join("again").display());
        run(push(&other, &url).arg("--store").arg(own)).expect_code(0);
        assert_eq!(narinfos(&nix.work.root().join("again")).len(), 3);
    });
}

#[test]
fn settings_in_the_url_reach_nix() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        captured(nix, &origin, &[]);
        let (secret, cache) = (nix.work.root().join("secret"), nix.work.root().join("cache"));
        let public = nix.work.root().join("public");
        nix.nix_store([
            "--generate-binary-cache-key".as_ref(),
            "tests-1".as_ref(),
            secret.as_os_str(),
            public.as_os_str(),
        ]);
        let url = format!("file://{}?compression=none&secret-key={}", cache.display(), secret.display());
        run(&mut push(nix, &url)).expect_code(0);
        let infos = narinfos(&cache);
        assert_eq!(infos.len(), 3);
        for info in infos {
            assert!(info.contains("\nSig: tests-1:") && info.contains("\nCompression: none\n"), "{info}");
        }
    });
}

#[test]
fn what_is_missing_is_all_listed_and_nothing_is_copied() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        captured(nix, &origin, &[]);
        let package = "/nix/store/0000000000000000000000000000000a-package/share/file";
        let more = format!(
            "\n[[entry]]\nurl = \"http://example.org/packaged\"\nbody = {{ store-path = \"{package}\" }}\n\n[[entry]]\nurl = \
             \"http://example.org/never\"\nbody = {{ hash = \"{}\", size = 5, name = \"never\" }}\n",
            sri(b"never")
        );
        let inventory = String::from_utf8(nix.work.read("inventory.toml")).unwrap();
        nix.work.write("inventory.toml", inventory + &more);
        let cache = nix.work.root().join("cache");
        let outcome = run(&mut push(nix, &format!("file://{}", cache.display()))).expect_code(4);
        let outcome = outcome.expect_stderr(&["example.org/packaged", "example.org/never", "nothing was pushed"]);
        assert_eq!(outcome.stderr.matches("error:").count(), 2, "{outcome}");
        assert!(!cache.exists());
    });
}

#[test]
fn a_file_inside_a_package_is_pushed_with_the_whole_of_it() {
    Nix::each(|nix| {
        let package = nix.work.path("package");
        fs::create_dir_all(package.join("share")).unwrap();
        fs::write(package.join("share/file"), "packaged\n").unwrap();
        let path = nix.nix_store(["--add".as_ref(), package.as_os_str()]).remove(0);
        let nar = run(nix.command("nix-hash").args(["--type", "sha256", "package"])).expect_code(0);
        let nar = data_encoding::HEXLOWER.decode(nar.text().trim().as_bytes()).unwrap();
        let nar = format!("sha256-{}", data_encoding::BASE64.encode(&nar));
        let inventory = |nar: &str| {
            format!(
                "version = 1\n\n[[entry]]\nurl = \"http://example.org/f\"\n\
                 body = {{ store-path = \"{path}/share/file\", nar-hash = \"{nar}\" }}\n"
            )
        };
        nix.work.write("inventory.toml", inventory(&nar));
        run(&mut nix.buildproxy("verify")).expect_code(0);
        let url = format!("file://{}", nix.work.root().join("cache").display());
        assert_eq!(pushed_paths(&run(&mut push(nix, &url)).expect_code(0)), [path.as_str()]);
        nix.collect_garbage();
        assert_eq!(nix.valid(std::slice::from_ref(&path)).len(), 1, "push keeps what it pushed");
        nix.sql(&format!("update ValidPaths set hash = 'sha256:{}' where path = '{path}'", "1".repeat(64)));
        run(&mut nix.buildproxy("verify")).expect_code(1).expect_stderr(&["but Nix has registered sha256-ERERERER"]);
    });
}

#[test]
fn an_inventory_that_is_itself_in_the_store_is_verified_and_pushed_without_a_trace() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        // A body that is too large for the inventory, and cannot be fetched again.
        let large =
            format!("curl -sSf -o /dev/null -d \"$(head -c 9000 /dev/zero | tr '\\0' x)\" '{}'", origin.url("/echo"));
        let script = format!("curl -sSf -o /dev/null '{}'; {large}", origin.url("/plain/a"));
        nix.capture_sh(&origin, &script).expect_code(0);
        assert!(nix.work.path("inventory.bodies").exists());
        fs::rename(nix.work.path(".buildproxy"), nix.work.root().join("beside")).unwrap();
        let source = nix.nix_store(["--add".as_ref(), nix.work.path("").as_os_str()]).remove(0);
        let inventory = nix.file(&source).join("inventory.toml");
        let with = |mut command: Command| run(command.arg("-i").arg(&inventory));
        with(nix.buildproxy("verify")).expect_code(0).expect_stderr(&["all good"]);
        with(nix.buildproxy("fetch")).expect_code(0);
        let cache = nix.work.root().join("cache");
        with(push(nix, &format!("file://{}", cache.display()))).expect_code(0);
        assert_eq!(narinfos(&cache).len(), 2);
        assert!(!inventory.with_file_name(".buildproxy").exists());
    });
}

#[test]
fn a_cache_that_takes_nothing_and_a_machine_without_nix_are_said_clearly() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        captured(nix, &origin, &[]);
        run(&mut push(nix, "file:///proc/nowhere")).expect_code(3).expect_stderr(&["/proc/nowhere", "copy --to"]);
        run(&mut push(nix, "nonsense://x")).expect_code(3).expect_stderr(&["nonsense://x"]);
        let outcome = run(push(nix, "file:///x").env("PATH", "/var/empty")).expect_code(3);
        outcome.expect_stderr(&["`push` needs Nix", "hint: install Nix"]);
        run(nix.buildproxy("push").arg("--json")).expect_code(2).expect_stderr(&["--to <URL>"]);
        run(push(nix, "file:///x").args(["-i", "absent.toml"])).expect_code(2);
    });
}
