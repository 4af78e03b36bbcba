//! Inventories that cannot be used: each is refused with file, line and what to do, before anything is started.

use crate::common::{Awkward, Workdir, pattern, run};

const HASH: &str = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// Name, text, the line that is wrong, and what stderr has to say.
fn bad_inventories() -> Vec<(&'static str, String, usize, Vec<&'static str>)> {
    let entry = |rest: &str| format!("version = 1\n\n[[entry]]\nurl = \"https://example.org/a\"\n{rest}\n");
    vec![
        ("not TOML", "version = 1\n[[entry\n".to_owned(), 2, vec![]),
        ("empty", String::new(), 1, vec!["version"]),
        ("unknown version", "version = 7\n".to_owned(), 1, vec!["version", "7"]),
        ("text as version", "version = \"1\"\n".to_owned(), 1, vec!["version"]),
        ("unknown top key", "version = 1\nentrys = []\n".to_owned(), 2, vec!["entrys", "`entry`"]),
        ("unknown key", entry("stauts = 404"), 5, vec!["stauts", "`status`"]),
        ("unknown body key", entry(&format!("body = {{ hsah = \"{HASH}\", size = 0 }}")), 5, vec!["hsah", "`hash`"]),
        ("wrong type", entry("status = \"200\""), 5, vec!["status"]),
        ("impossible status", entry("status = 42"), 5, vec!["status", "42"]),
        ("bad hash", entry("body = { hash = \"sha256-abc\", size = 1, name = \"a\" }"), 5, vec!["sha256-abc"]),
        ("unknown algorithm", entry("body = { hash = \"md4-AAAA\", size = 1, name = \"a\" }"), 5, vec!["md4"]),
        ("bad URL", "version = 1\n[[entry]]\nurl = \"example.org/a\"\n".to_owned(), 3, vec!["example.org/a"]),
        (
            "ftp URL",
            "version = 1\n[[entry]]\nurl = \"ftp://example.org/a\"\n".to_owned(),
            3,
            vec!["ftp://example.org/a"],
        ),
        ("no URL", "version = 1\n\n[[entry]]\nstatus = 200\n".to_owned(), 3, vec!["url"]),
        ("bad name", entry(&format!("body = {{ hash = \"{HASH}\", size = 0, name = \"a b\" }}")), 5, vec!["a b"]),
        (
            "two sources",
            entry(&format!("body = {{ hash = \"{HASH}\", size = 0, text = \"\", file = \"x\" }}")),
            5,
            vec![],
        ),
        ("bad header", entry("[entry.headers]\n\"bad name\" = \"x\""), 6, vec!["bad name"]),
        ("a date", entry("status = 2024-01-01"), 5, vec![]),
        ("TOML 1.1", entry(&format!("body = {{\n  hash = \"{HASH}\", size = 0, name = \"a\" }}")), 5, vec![]),
    ]
}

#[test]
fn a_bad_inventory_is_refused_with_file_and_line_and_nothing_is_started() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let mut elsewhere = Vec::new();
    for (what, text, line, says) in bad_inventories() {
        work.write("broken.toml", &text);
        let arguments = ["-i", "broken.toml", "--", "touch", "started"];
        for mut command in [work.replaying(), work.capturing(&origin.ca.pem)] {
            let outcome = run(command.args(arguments));
            assert_eq!(outcome.code, 2, "{what}: {outcome}");
            assert!(!work.path("started").exists(), "{what}: the command was started");
            if !outcome.stderr.contains(&format!("broken.toml:{line}:")) {
                elsewhere.push(format!("{what}, which is in line {line}: {}", outcome.stderr));
            }
            outcome.expect_stderr(&says);
            assert_eq!(work.read("broken.toml"), text.as_bytes(), "{what}: the file was changed");
        }
        for subcommand in ["fetch", "paths"] {
            run(work.buildproxy(subcommand).args(["-i", "broken.toml"])).expect_code(2).expect_stderr(&["broken.toml"]);
        }
        // A name that Nix refuses is what `verify` is there to find.
        let verified = run(work.buildproxy("verify").args(["-i", "broken.toml"]));
        verified.expect_code(if what == "bad name" { 1 } else { 2 });
    }
    assert!(elsewhere.is_empty(), "the line is not the one that is wrong:\n{}", elsewhere.join("\n"));
}

#[test]
fn an_unknown_key_gets_a_hint_with_the_nearest_one() {
    let work = Workdir::new();
    work.write("inventory.toml", "version = 1\n[[entry]]\nurl = \"https://example.org/\"\nredirect = []\n");
    let outcome = run(work.replaying().args(["--", "true"])).expect_code(2);
    outcome.expect_stderr(&["inventory.toml:4", "`redirect`", "hint:", "`redirects`"]);
}

#[test]
fn an_inventory_that_does_not_exist_is_said_so() {
    let work = Workdir::new();
    for subcommand in ["replay", "verify", "fetch", "paths"] {
        let outcome = run(work.buildproxy(subcommand).args(["-i", "absent.toml"])).expect_code(2);
        outcome.expect_stderr(&["absent.toml"]);
    }
}

#[test]
fn json_is_accepted_where_toml_is() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/plain/a");
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'")).expect_code(0);
    let table: toml::Table = String::from_utf8(work.read("inventory.toml")).unwrap().parse().unwrap();
    work.write("inventory.json", serde_json::to_string(&table).unwrap());
    std::fs::remove_file(work.path("inventory.toml")).unwrap();
    let script = format!("curl -sSf -o got '{url}'");
    run(work.replaying().args(["-i", "inventory.json", "--", "sh", "-euc", &script])).expect_code(0);
    assert_eq!(work.read("got"), pattern(1000));
    run(work.buildproxy("verify").args(["-i", "inventory.json"])).expect_code(0);
    work.write("inventory.json", serde_json::to_string_pretty(&table).unwrap().replace("\"size\"", "\"syze\""));
    let outcome = run(work.buildproxy("verify").args(["-i", "inventory.json"])).expect_code(2);
    outcome.expect_stderr(&["inventory.json:", "`syze`", "`size`"]);
}

#[test]
fn nix_reads_a_captured_inventory_as_we_do() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let urls: Vec<_> = ["/odd-headers", "/missing", "/redirect/3", "/vary", "/repeated-headers", "/plain/a%20b?c=${d}"]
        .iter()
        .map(|path| format!("'{}'", origin.tls_url(path)))
        .collect();
    let script = format!("for url in {}; do curl -sSL -o /dev/null -D - \"$url\"; done", urls.join(" "));
    work.capture_sh(&origin, &script).expect_code(0);
    let text = String::from_utf8(work.read("inventory.toml")).unwrap();
    let ours: toml::Table = text.parse().unwrap();
    let mut nix = work.command("nix-instantiate");
    let expression = format!("builtins.fromTOML (builtins.readFile {})", work.path("inventory.toml").display());
    // `dummy://` is no store at all: nothing outside the test is touched.
    nix.args(["--eval", "--strict", "--json", "-E", &expression]).env("NIX_REMOTE", "dummy://");
    let theirs: serde_json::Value = serde_json::from_slice(&run(&mut nix).expect_code(0).stdout).unwrap();
    assert_eq!(theirs, serde_json::to_value(ours).unwrap(), "{text}");
}
