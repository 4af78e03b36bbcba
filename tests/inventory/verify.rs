//! What `verify`, `fetch` and `paths` say about an inventory and a store.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    common::{Awkward, Outcome, Workdir, pattern, run, sri, workdir::behind},
    shows,
};

/// A place with three files captured, and the origin that they came from.
fn captured() -> (Workdir, Awkward) {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let urls = ["/plain/one", "/plain/two?size=5000", "/plain/three?size=9000"].map(|path| origin.tls_url(path));
    work.capture_sh(&origin, &format!("curl -sSf --remote-name-all '{}' '{}' '{}'", urls[0], urls[1], urls[2]))
        .expect_code(0);
    (work, origin)
}

fn stored(work: &Workdir, suffix: &str) -> PathBuf {
    let mut files = fs::read_dir(work.store()).unwrap().map(|file| file.unwrap().path());
    files.find(|path| path.to_string_lossy().ends_with(suffix)).unwrap()
}

fn replace(path: &PathBuf, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// What it printed, wherever it printed it.
fn said(outcome: &Outcome) -> String {
    format!("{}{}", outcome.text(), outcome.stderr)
}

#[test]
fn a_captured_inventory_is_good() {
    let (work, _origin) = captured();
    run(&mut work.buildproxy("verify")).expect_code(0);
}

#[test]
fn missing_short_and_altered_bodies_are_all_found_at_once() {
    let (work, _origin) = captured();
    fs::remove_file(stored(&work, "-one")).unwrap();
    replace(&stored(&work, "-two"), &pattern(4999));
    let mut altered = pattern(9000);
    altered[8999] ^= 1;
    replace(&stored(&work, "-three"), &altered);
    let outcome = run(&mut work.buildproxy("verify")).expect_code(1);
    for name in ["/plain/one", "/plain/two", "/plain/three"] {
        assert!(said(&outcome).contains(name), "{name} in {outcome}");
    }
    assert!(said(&outcome).contains("4999"), "{outcome}");
    assert!(said(&outcome).contains(&sri(&altered)), "the hash that it has: {outcome}");
    let json = run(work.buildproxy("verify").arg("--json")).expect_code(1);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json.to_string().matches("/plain/").count().min(3), 3, "{json}");
}

#[test]
fn a_committed_file_that_was_changed_is_found() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/gzip-always");
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'")).expect_code(0);
    run(&mut work.buildproxy("verify")).expect_code(0);
    let file = work.path(work.inventory().one(&url).body("file").unwrap());
    replace(&file, b"something else");
    let outcome = run(&mut work.buildproxy("verify")).expect_code(1);
    assert!(said(&outcome).contains(&url), "{outcome}");
}

#[test]
fn a_text_that_was_edited_no_longer_has_its_hash() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/missing");
    work.capture_sh(&origin, &format!("curl -sS -o /dev/null '{url}'")).expect_code(0);
    let text = String::from_utf8(work.read("inventory.toml")).unwrap();
    work.write("inventory.toml", text.replace("no such thing", "no such thang"));
    let outcome = run(&mut work.buildproxy("verify")).expect_code(1);
    assert!(said(&outcome).contains(&url), "{outcome}");
}

#[test]
fn an_inconsistent_inventory_is_found_out_with_all_that_is_wrong() {
    let work = Workdir::new();
    let hash = sri(b"x");
    let body = format!("body = {{ hash = \"{hash}\", size = 1, text = \"x\" }}");
    let entry = |url: &str, rest: &str| format!("[[entry]]\nurl = \"https://example.org/{url}\"\n{rest}\n{body}\n\n");
    let chain = |locations: &[&str]| {
        let hops = locations.iter().map(|to| format!("{{ status = 302, location = \"{to}\" }}")).collect::<Vec<_>>();
        format!("redirects = [ {} ]", hops.join(", "))
    };
    let systems = |list: &str| format!("systems = [{list}]");
    let text = [
        "version = 1\n\n".to_owned(),
        entry("equal", ""),
        entry("equal", ""),
        entry("overlap", &systems("\"x86_64-linux\", \"aarch64-linux\"")),
        entry("overlap", &systems("\"aarch64-linux\"")),
        entry("looping", &chain(&["/elsewhere", "/looping"])),
        entry("first", &chain(&["/shared", "/end-one"])),
        entry("second", &chain(&["/shared", "/end-two"])),
    ];
    work.write("inventory.toml", text.concat());
    let outcome = run(&mut work.buildproxy("verify")).expect_code(1);
    for name in ["/equal", "/overlap", "/looping", "/shared"] {
        assert!(said(&outcome).contains(name), "{name}: {outcome}");
    }
}

#[test]
fn an_empty_store_is_filled_by_fetch_and_then_verified() {
    let (work, origin) = captured();
    fs::remove_dir_all(work.store()).unwrap();
    run(&mut work.buildproxy("verify")).expect_code(1);
    let mut fetch = work.buildproxy("fetch");
    fetch.env("SSL_CERT_FILE", work.root().join("origin-ca.pem"));
    run(&mut fetch).expect_code(0);
    run(&mut work.buildproxy("verify")).expect_code(0);
    assert_eq!(fs::read(stored(&work, "-three")).unwrap(), pattern(9000));
    let before = origin.connections();
    run(&mut fetch).expect_code(0);
    assert_eq!(origin.connections(), before, "what is there is not fetched again");
}

#[test]
fn a_body_that_several_urls_have_is_fetched_from_one_that_still_has_it() {
    let (work, origin) = (Workdir::new(), Awkward::start());
    let hash = sri(&pattern(9000));
    let entry = |path: &str| {
        let url = origin.url(path);
        format!("\n[[entry]]\nurl = \"{url}\"\nbody = {{ hash = \"{hash}\", size = 9000, name = \"b\" }}\n")
    };
    let paths = ["/missing", "/plain/changed?size=9001", "/plain/b?size=9000", "/plain/other?size=9000"];
    work.write("inventory.toml", format!("version = 1\n{}", paths.map(entry).concat()));
    run(&mut work.buildproxy("fetch")).expect_code(0).expect_stderr(&["fetched 1 body"]);
    assert_eq!(fs::read(stored(&work, "-b")).unwrap(), pattern(9000));
    fs::remove_dir_all(work.store()).unwrap();
    work.write("inventory.toml", format!("version = 1\n{}", [entry(paths[1]), entry(paths[0])].concat()));
    run(&mut work.buildproxy("fetch")).expect_code(1).expect_stderr(&["size=9001: the bytes are not those"]);
}

#[test]
fn fetch_follows_a_chain_from_its_first_url() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/redirect/3");
    work.capture_sh(&origin, &format!("curl -sSf -L -o /dev/null '{url}'")).expect_code(0);
    fs::remove_dir_all(work.store()).unwrap();
    run(work.buildproxy("fetch").env("SSL_CERT_FILE", work.root().join("origin-ca.pem"))).expect_code(0);
    assert_eq!(origin.requests_for("/redirect/3").len(), 2);
    run(&mut work.buildproxy("verify")).expect_code(0);
}

#[test]
fn what_comes_back_with_another_hash_or_not_at_all_is_not_stored() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (counter, plain) = (origin.url("/counter"), origin.url("/plain/stable"));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{counter}' -o /dev/null '{plain}'")).expect_code(0);
    fs::remove_dir_all(work.store()).unwrap();
    let changed = run(&mut work.buildproxy("fetch"));
    assert!([1, 3].contains(&changed.code), "{changed}");
    assert!(changed.stderr.contains(&counter) && changed.stderr.contains(&sri(b"count 2\n")), "{changed}");
    let names: Vec<_> = fs::read_dir(work.store()).unwrap().map(|file| file.unwrap().file_name()).collect();
    let bodies: Vec<_> = names.iter().filter(|name| !name.to_string_lossy().starts_with('.')).collect();
    assert!(bodies.len() == 1 && bodies[0].to_string_lossy().ends_with("-stable"), "{bodies:?}");
    fs::remove_dir_all(work.store()).unwrap();
    drop(origin);
    let gone = run(&mut work.buildproxy("fetch"));
    assert!([1, 3].contains(&gone.code) && gone.stderr.contains(&plain), "{gone}");
}

#[test]
fn bodies_are_fetched_under_whatever_hash_pins_them() {
    use sha2::{Digest, Sha512};
    let (origin, work) = (Awkward::start(), Workdir::new());
    let mut text = "version = 1\n".to_owned();
    for size in [1000, 100_000] {
        let url = origin.url(&format!("/plain/a?size={size}"));
        let hash = data_encoding::BASE64.encode(&Sha512::digest(pattern(size)));
        let body = format!("{{ hash = \"sha512-{hash}\", size = {size}, name = \"a-{size}\" }}");
        text.push_str(&format!("\n[[entry]]\nurl = \"{url}\"\nbody = {body}\n"));
    }
    work.write("inventory.toml", text);
    run(&mut work.buildproxy("fetch")).expect_code(0);
    assert_eq!(fs::read(stored(&work, "-a-1000")).unwrap(), pattern(1000));
    run(&mut work.buildproxy("verify")).expect_code(0);
}

#[test]
fn a_download_stops_where_it_is_longer_than_what_is_pinned() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (url, hash) = (origin.url("/plain/a?size=2000000"), sri(b"x"));
    let body = format!("body = {{ hash = \"{hash}\", size = 1000, name = \"a\" }}");
    work.write("inventory.toml", format!("version = 1\n\n[[entry]]\nurl = \"{url}\"\n{body}\n"));
    let outcome = run(&mut work.buildproxy("fetch")).expect_code(1);
    outcome.expect_stderr(&[&url, "more than 1000 bytes"]);
}

#[test]
fn refetch_asks_the_origins_whether_they_still_give_the_same() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (counter, plain) = (origin.url("/counter"), origin.url("/plain/stable"));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{counter}' -o /dev/null '{plain}'")).expect_code(0);
    run(&mut work.buildproxy("verify")).expect_code(0);
    let stale = run(work.buildproxy("verify").arg("--refetch")).expect_code(1);
    assert!(said(&stale).contains(&counter) && !said(&stale).contains(&plain), "{stale}");
}

#[test]
fn paths_are_those_of_nix_itself() {
    let (work, _origin) = captured();
    let outcome = run(&mut work.buildproxy("paths")).expect_code(0);
    let lines: Vec<_> = outcome.text().lines().collect();
    assert_eq!(lines.len(), 3, "{outcome}");
    for line in lines {
        let word = |start: &str| line.split_whitespace().find(|word| word.starts_with(start)).unwrap().to_owned();
        let (hash, path) = (word("sha256-"), word("/nix/store/"));
        let digest = data_encoding::BASE64.decode(hash.trim_start_matches("sha256-").as_bytes()).unwrap();
        let name = path.split_once('-').unwrap().1;
        let mut nix = Command::new("nix-store");
        nix.env("NIX_REMOTE", format!("local?root={}", work.root().display())).env("HOME", work.root());
        nix.args(["--print-fixed-path", "sha256", &data_encoding::HEXLOWER.encode(&digest), name]);
        assert_eq!(run(&mut nix).expect_code(0).text().trim(), path, "{line}");
        let file = work.store().join(path.trim_start_matches("/nix/store/"));
        assert_eq!(sri(&fs::read(&file).unwrap()), hash, "the file under that name in the store");
    }
    let json = run(work.buildproxy("paths").arg("--json")).expect_code(0);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(3), "{json}");
}

#[test]
fn a_file_outside_of_the_inventorys_folder_is_neither_served_nor_good() {
    let work = Workdir::new();
    fs::write(work.root().join("outside"), "not yours\n").unwrap();
    std::os::unix::fs::symlink("../outside", work.path("link")).unwrap();
    for path in ["../outside", "link"] {
        let hash = sri(b"not yours\n");
        work.write(
            "inventory.toml",
            format!(
                "version = 1\n\n[[entry]]\nurl = \"http://example.org/x\"\n\
                 body = {{ hash = \"{hash}\", size = 10, name = \"x\", file = \"{path}\" }}\n"
            ),
        );
        let verified = run(&mut work.buildproxy("verify"));
        assert!([1, 2].contains(&verified.code) && said(&verified).contains(path), "{verified}");
        let replayed = run(work.replaying().args(["--", "curl", "-sS", "http://example.org/x"]));
        assert!([2, 4].contains(&replayed.code), "{replayed}");
        assert!(!replayed.text().contains("not yours"), "{replayed}");
    }
}

#[test]
fn every_name_that_nix_refuses_is_found_at_once() {
    let (work, _origin) = captured();
    let text = String::from_utf8(work.read("inventory.toml")).unwrap();
    let mut parts = text.split("name = \"");
    let first = parts.next().unwrap().to_owned();
    work.write("inventory.toml", parts.fold(first, |text, part| text + "name = \".hidden " + part));
    let outcome = run(&mut work.buildproxy("verify")).expect_code(1);
    assert_eq!(outcome.stderr.matches("Nix refuses the name").count(), 3, "{outcome}");
    run(work.replaying().args(["--", "true"])).expect_code(2).expect_stderr(&["starts with a dot"]);
}

/// `command` without root's right to read what nobody may read.
fn without_override(command: &Command) -> Command {
    match rustix::process::geteuid().is_root() {
        true => behind(&["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"], command),
        false => behind(&["env"], command),
    }
}

/// What can happen to a file, and what `verify` says of it: in the store, and beside the inventory.
const DAMAGES: [(&str, &str, &str); 13] = [
    ("head -c 4000 $file >cut; mv -f cut $file", "is short: 4000 of 5000 bytes", "is short: 4000 of 5000 bytes"),
    (": >empty; mv -f empty $file", "is short: 0 of 5000 bytes", "is short: 0 of 5000 bytes"),
    ("(cat $file; echo more) >a; mv -f a $file", "is too long: 5005 instead", "is too long: 5005 instead"),
    ("tr 0 1 <$file >altered; mv -f altered $file", "has hash sha256-", "has hash sha256-"),
    ("head -c 5000 /dev/zero >zeros; mv -f zeros $file", "has hash sha256-", "has hash sha256-"),
    ("rm -f $file", "is missing", "is missing"),
    ("mv $file ${file}2", "is missing", "is missing"),
    ("chmod 000 $file", "permission denied", "permission denied"),
    ("rm -f $file; mkdir $file", "is a folder", "is a folder"),
    ("mv $file ../elsewhere; ln -s $PWD/../elsewhere $file", "is a link", "outside the inventory's folder"),
    ("rm -f $file; ln -s nowhere $file", "is a link", "is missing"),
    ("rm -f $file; ln -s $file $file", "is a link", "symbolic links"),
    ("rm -f $file; mkfifo $file", "is a pipe", "is a pipe"),
];

#[test]
fn every_kind_of_damage_is_found_and_named() {
    let origin = Awkward::start();
    let url = origin.tls_url("/plain/body?size=5000");
    let mut found = 0;
    for source in ["fetch", "file"] {
        for (damage, in_store, beside) in DAMAGES {
            let work = Workdir::new();
            work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'")).expect_code(0);
            let mut file = stored(&work, "-body");
            if source == "file" {
                run(work.buildproxy("move").args(["--to", "file", "https://*"])).expect_code(0);
                fs::remove_file(&file).unwrap();
                file = work.path(work.inventory().one(&url).body("file").unwrap());
            }
            let mut shell = work.command("sh");
            run(shell.args(["-euc", damage]).env("file", &file)).expect_code(0);
            let outcome = run(&mut without_override(&work.buildproxy("verify"))).expect_code(1);
            let name = file.file_name().unwrap().to_str().unwrap();
            let said = if source == "file" { beside } else { in_store };
            outcome.expect_stderr(&[&url, name, said]);
            found += 1;
        }
    }
    shows!(
        Verify,
        "a body in the store, or beside the inventory: cut, emptied, longer, altered, zeros, deleted, renamed, unreadable; \
         or a folder, a link or a pipe in its place",
        "{found} damages, each found and named"
    );
}

#[test]
fn damage_anywhere_in_a_tree_that_a_body_is_in_is_found_and_named() {
    let object = "0000000000000000000000000000000a-package";
    let make = "mkdir -p $tree/share; echo body >$tree/share/body; echo other >$tree/other; ln -s other $tree/link";
    let damages = [
        ("echo more >>$tree/other", "has NAR hash"),
        ("chmod +x $tree/other", "has NAR hash"),
        ("mv $tree/other $tree/another", "has NAR hash"),
        ("echo new >$tree/new", "has NAR hash"),
        ("rm $tree/link; ln -s share $tree/link", "has NAR hash"),
        ("chmod 000 $tree/other", "permission denied"),
        ("mkfifo $tree/pipe", "pipe"),
        ("echo bo >$tree/share/body", "is short: 3 of 5 bytes"),
        ("rm $tree/share/body; mkfifo $tree/share/body", "is not a regular file"),
        ("rm -r $tree", "is missing; looked in"),
    ];
    for (damage, said) in damages {
        let work = Workdir::new();
        let sh = |script: &str| {
            let mut shell = work.command("sh");
            run(shell.args(["-euc", script]).env("tree", work.store().join(object))).expect_code(0)
        };
        sh(make);
        let nar = sh("nix-hash --type sha256 $tree ");
        work.write(
            "inventory.toml",
            format!(
                "version = 1\n\n[[entry]]\nurl = \"https://h.test/x\"\nbody = {{ hash = \"{}\", size = 5, name = \"body\", \
                 store-path = \"/nix/store/{object}/share/body\", nar-hash = \"sha256-{}\" }}\n",
                sri(b"body\n"),
                data_encoding::BASE64.encode(&data_encoding::HEXLOWER.decode(nar.text().trim().as_bytes()).unwrap())
            ),
        );
        run(&mut work.buildproxy("verify")).expect_code(0);
        sh(damage);
        let outcome = run(&mut without_override(&work.buildproxy("verify"))).expect_code(1);
        outcome.expect_stderr(&["https://h.test/x", object, said]);
    }
    shows!(
        Verify,
        "a tree with a body in it: its files, modes, names and links changed, unreadable, gone; a pipe in it",
        "{} damages, each found and named",
        damages.len()
    );
}
