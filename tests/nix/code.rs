//! The Nix side as Nix evaluates it, in each version that is here: what inventories of every kind become, and what is
//! said of those that are wrong. What is built is in sandbox.rs.
//!
//! `BUILDPROXY_TEST_NIXPKGS_LIB` names a real `nixpkgs.lib` to use in place of the stub's.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::common::sandbox::Nix;
use buildproxy::{
    Entry, FileIngestionMethod, Inventory, NixHash, NormalizedUrl, Source, StorePathName, build_ca_path, read_inventory,
};
use proptest::{
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::Value;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Some body's hash.
const HASH: &str = "sha256-TVih2jPMwKwbt3QJVriUAucQ9wvfVCzKQH2angzmt8Q=";

/// Evaluates `expression` in `folder` with `scope`, what `import ./nix` gives, and `pkgs` at hand. The store is in memory.
fn evaluate(nix: Nix, folder: &Path, expression: &str) -> Output {
    let file = tempfile::Builder::new().suffix(".nix").tempfile_in(folder).unwrap();
    let text = format!(
        "let pkgs = import {HERE}/nix/tests/stub {{ config.prebuilt = {HERE}/nix; }};\n\
         scope = import {HERE}/nix {{ inherit pkgs; }};\nin {expression}\n"
    );
    fs::write(file.path(), text).unwrap();
    let mut command = Command::new(nix.program("nix-instantiate"));
    command.args(["--eval", "--strict", "--json", "--readonly-mode"]).arg(file.path()).env("NIX_REMOTE", "dummy://");
    for directory in ["HOME", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_LOCALSTATE_DIR", "NIX_CONF_DIR"] {
        command.env(directory, folder);
    }
    command.output().unwrap()
}

/// What every version says that `expression` is: the same.
#[track_caller]
fn value_in(folder: &Path, expression: &str) -> Value {
    let values = Nix::BOTH.map(|nix| {
        let output = evaluate(nix, folder, expression);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{expression}: {errors}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    });
    let [old, new] = values;
    assert_eq!(old, new, "{expression}");
    new
}

/// The inventory that `argument` becomes, as replay reads it.
#[track_caller]
fn inventory_in(folder: &Path, argument: &str) -> Inventory {
    let value = value_in(folder, &format!("(scope.mkBuildproxy {argument}).index.inventory"));
    let file = folder.join("made.json");
    fs::write(&file, value.as_str().unwrap()).unwrap();
    read_inventory(&file).unwrap_or_else(|error| panic!("{error}"))
}

/// What every version says is wrong with `argument`.
#[track_caller]
fn errors_in(folder: &Path, argument: &str) -> [String; 2] {
    Nix::BOTH.map(|nix| {
        let output = evaluate(nix, folder, &format!("(scope.mkBuildproxy {argument}).index.inventory"));
        assert!(!output.status.success(), "{argument} is taken");
        String::from_utf8_lossy(&output.stderr).into_owned()
    })
}

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn store_paths(inventory: &Inventory) -> Vec<Option<&str>> {
    inventory
        .entries
        .iter()
        .map(|entry| match entry.body.as_ref().map(|body| &body.source) {
            Some(Source::StorePath { path, .. }) => Some(path.as_str()),
            _ => None,
        })
        .collect()
}

/// The path that a body of `bytes` called `name` has.
fn flat_path(name: &str, hash: &NixHash) -> String {
    build_ca_path(&StorePathName::new(name).unwrap(), FileIngestionMethod::Flat, hash).to_absolute_path()
}

#[test]
fn every_body_is_at_the_store_path_that_buildproxy_computes() {
    let posted = NixHash::sha256(b"posted\n");
    let toml = format!(
        r#"version = 1
[match]
ignore-query = ["_"]
[[entry]]
url = "https://example.org/foo-1.0.tar.gz"
body = {{ hash = "{HASH}", size = 560, name = "foo-1.0.tar.gz" }}
[entry.headers]
etag = '"a"'
[[entry]]
url = "https://mirror.example.org/foo-1.0.tar.gz"
body = {{ hash = "{HASH}", size = 560, name = "foo-1.0.tar.gz", fetch = "https://example.org/other" }}
[[entry]]
method = "POST"
url = "https://example.org/api"
request-body = "{HASH}"
body = {{ hash = "{posted}", size = 7, name = "api", file = "inventory.bodies/api" }}
[[entry]]
url = "https://example.org/text"
body = {{ hash = "{posted}", size = 7, text = "posted\n" }}
[[entry]]
url = "https://example.org/elsewhere"
systems = ["none"]
body = {{ hash = "{HASH}", size = 560, name = "elsewhere" }}
[[entry]]
url = "https://example.org/nothing"
status = 204
"#
    );
    let folder = folder_with(&[("inventory.toml", &toml), ("inventory.bodies/api", "posted\n")]);
    let made = inventory_in(folder.path(), "./inventory.toml");
    let fetched = flat_path("foo-1.0.tar.gz", &HASH.parse().unwrap());
    let beside = flat_path("api", &posted);
    assert_eq!(
        store_paths(&made),
        [Some(fetched.as_str()), Some(&fetched), Some(&beside), None, None],
        "those of other systems are left out"
    );
    let before = read_inventory(&folder.path().join("inventory.toml")).unwrap();
    assert_eq!(made.match_rules, before.match_rules);
    for (now, then) in made.entries.iter().zip(before.entries.iter().filter(|entry| entry.systems.is_empty())) {
        assert_eq!((&now.url, now.status, &now.headers), (&then.url, then.status, &then.headers));
        let pinned = |entry: &Entry| entry.body.as_ref().map(|body| (body.hash, body.size));
        assert_eq!(pinned(now), pinned(then));
    }
    // One derivation for the same bytes under the same name, with every URL to try.
    let urls = value_in(folder.path(), "map (body: body.urls) (scope.mkBuildproxy ./inventory.toml).bodies");
    assert_eq!(urls, serde_json::json!([["https://example.org/foo-1.0.tar.gz", "https://example.org/other"]]));
}

#[test]
fn a_lock_file_of_mitm_cache_is_an_inventory() {
    let lock = format!(
        r#"{{"!version": 1, "https://example.org/a%2Bb.tgz": {{"hash": "{HASH}"}},
            "http://example.org/text": {{"text": "hi"}}, "http://example.org/moved": {{"redirect": "/text"}}}}"#
    );
    let folder = folder_with(&[("deps.json", &lock)]);
    let made = inventory_in(folder.path(), "./deps.json");
    let statuses: Vec<_> = made.entries.iter().map(|entry| (entry.url.as_str(), entry.status)).collect();
    let expected =
        [("http://example.org/moved", 302), ("http://example.org/text", 200), ("https://example.org/a%2Bb.tgz", 200)];
    assert_eq!(statuses, expected);
    assert_eq!(made.entries[0].headers.get("location"), Some("/text"));
    assert_eq!(store_paths(&made)[2], Some(flat_path("a+b.tgz", &HASH.parse().unwrap()).as_str()));
    assert_eq!(
        made.match_rules,
        inventory_in(folder.path(), "{ version = 1; match.ignore-query = [ \"*\" ]; }").match_rules
    );
}

#[test]
fn a_proxy_content_of_nix_buildproxy_is_an_inventory() {
    let content = format!(
        r#"{{ fetchurl }}: [
          {{ url = "https://example.org/x"; file = fetchurl {{ url = "https://example.org/x"; hash = "{HASH}"; }};
             status_code = 200; headers = {{ "Content-Type" = "a/b"; "content-length" = "9"; }}; }}
          {{ url = "https://example.org/gone"; file = null; status_code = 404; headers = {{ }}; }}
          {{ url = "https://example.org/old"; file = fetchurl {{ url = "https://example.org/x"; hash = "{HASH}"; }}; }}
        ]"#
    );
    let folder = folder_with(&[("proxy_content.nix", &content)]);
    for argument in ["./proxy_content.nix", "(import ./proxy_content.nix)", "{ inventory = ./proxy_content.nix; }"] {
        let made = inventory_in(folder.path(), argument);
        let path = flat_path("x", &HASH.parse().unwrap());
        assert_eq!(store_paths(&made), [Some(path.as_str()), None, Some(&path)], "{argument}");
        assert_eq!(made.entries.iter().map(|entry| entry.status).collect::<Vec<_>>(), [200, 404, 200]);
        assert_eq!(made.entries[0].headers.get("content-type"), Some("a/b"));
        assert_eq!(made.entries[0].headers.get("content-length"), None, "it can be that of other bytes");
    }
}

#[test]
fn inventories_can_be_data_strings_lists_and_have_more_entries() {
    let toml = |url: &str| format!("version = 1\n[[entry]]\nurl = \"{url}\"\nstatus = 204\n");
    let (a, b) = (toml("http://h/a"), toml("http://h/b"));
    let folder = folder_with(&[("a.toml", &a), ("b.toml", &b)]);
    let urls = |argument: &str| {
        let made = inventory_in(folder.path(), argument);
        made.entries.iter().map(|entry| entry.url.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(urls("[ ./a.toml ./b.toml ]"), ["http://h/a", "http://h/b"]);
    assert_eq!(urls("(builtins.fromTOML (builtins.readFile ./a.toml))"), ["http://h/a"]);
    assert_eq!(urls("{ inventory = toString ./a.toml; }"), ["http://h/a"]);
    let more = "{ inventory = ./a.toml; extraEntries = [ { url = \"http://h/c\"; body.store-path = ./b.toml; } ]; }";
    assert_eq!(urls(more), ["http://h/a", "http://h/c"]);
}

#[test]
fn what_is_overridden_has_no_hash_any_more() {
    let toml = format!(
        "version = 1\n[[entry]]\nurl = \"http://h/a\"\nredirects = [{{ status = 302, location = \"/b\" }}]\n\
         body = {{ hash = \"{HASH}\", size = 1, name = \"a\" }}\n"
    );
    let folder = folder_with(&[("inventory.toml", &toml), ("other", "other")]);
    let argument = "{ inventory = ./inventory.toml; overrides.\"http://h/a\" = ./other; }";
    let made = inventory_in(folder.path(), argument);
    let body = made.entries[0].body.as_ref().unwrap();
    assert_eq!((body.hash, body.size), (None, None));
    assert_eq!(made.entries[0].redirects.len(), 1);
    assert!(store_paths(&made)[0].unwrap().ends_with("-other"));
    let fetched = value_in(folder.path(), &format!("builtins.length (scope.mkBuildproxy {argument}).bodies"));
    assert_eq!(fetched, 0, "what is not served is not fetched");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let posted = NixHash::sha256(b"posted\n");
    let with_file = |file: &str| {
        format!(
            "version = 1\n[[entry]]\nurl = \"http://h/a\"\nbody = {{ hash = \"{posted}\", size = 7, name = \"a\", file = \"{file}\" }}\n"
        )
    };
    let folder = folder_with(&[
        ("good.toml", "version = 1\n[[entry]]\nurl = \"http://h/some/file.tgz\"\nstatus = 204\n"),
        ("old.toml", "version = 2\n"),
        ("none.toml", "x = 1\n"),
        ("syntax.toml", "version = 1\n[[entry]\n"),
        ("words.yaml", ""),
        ("absent.toml", &with_file("good.bodies/absent")),
        ("altered.toml", &with_file("good.bodies/altered")),
        ("outside.toml", &with_file("../x")),
        ("good.bodies/altered", "pasted\n"),
        ("v2.json", r#"{"!version": 2}"#),
        ("gradle.json", r#"{"!version": 1, "https://repo": {"g#a": {"jar": "sha256-x"}}}"#),
        ("forged.json", r#"{"!version": 1, "https://repo": {"g/a/maven-metadata": {"xml": {"groupId": "<g>"}}}}"#),
        ("empty.json", r#"{"!version": 1, "https://repo/a": {}}"#),
        ("odd.nix", "[ { link = 1; } ]"),
    ]);
    let cases: &[(&str, &[&str])] = &[
        (
            "./nowhere.toml",
            &["there is no inventory at", "buildproxy capture -i nowhere.toml -- COMMAND", "git add nowhere.toml"],
        ),
        ("./old.toml", &["is an inventory of version 2", "newer buildproxy"]),
        ("./none.toml", &["none.toml has no `version`", "`version = 1`"]),
        ("./syntax.toml", &["[[entry]"]),
        ("./words.yaml", &["words.yaml is no inventory by its name", ".toml", "mitm-cache"]),
        ("./absent.toml", &["http://h/a", "good.bodies/absent does not exist", "git add"]),
        (
            "./altered.toml",
            &["http://h/a", "good.bodies/altered does not have the hash", &posted.to_string(), "version control"],
        ),
        ("./outside.toml", &["`../x` is not below the inventory's folder"]),
        ("./v2.json", &["lock file of version 2", "buildproxy capture"]),
        ("./gradle.json", &["gradle.json: what is behind `#` in https://repo/g#a is not the name and the version"]),
        ("./forged.json", &["https://repo/g/a/maven-metadata.xml is not right", "<g>"]),
        ("./empty.json", &["https://repo/a is none of what lock files have"]),
        ("./odd.nix", &["an entry has no `url`"]),
        ("42", &["is int, and no inventory"]),
        (
            "{ inventory = ./good.toml; overrides.\"http://other/file.tgz\" = ./good.toml; }",
            &["overrides.\"http://other/file.tgz\"", "no entry for this URL", "Did you mean", "http://h/some/file.tgz"],
        ),
        (
            "{ inventory = ./good.toml; patches.\"http://other/x\" = [ ]; }",
            &["patches.\"http://other/x\"", "spelled as in the inventory", "`extraEntries`"],
        ),
        (
            "{ inventory = ./good.toml; patches.\"http://h/some/file.tgz\" = ./good.toml; }",
            &["patches.\"http://h/some/file.tgz\"", "no body that could be patched"],
        ),
        ("{ inventory = ./good.toml; strcit = false; }", &["strcit"]),
    ];
    for (argument, parts) in cases {
        for error in errors_in(folder.path(), argument) {
            for part in *parts {
                assert!(error.contains(part), "{argument}: `{part}` is not in {error}");
            }
        }
    }
}

#[test]
fn names_of_urls_are_those_that_buildproxy_gives() {
    let segment = "([a-zA-Z0-9+._?=~!$&'()*,;:@ -]|%[0-7][0-9a-fA-F]|\\.){0,12}(\\.drv)?";
    let urls = (select(vec!["http", "https"]), segment, segment, "([?#][a-z/.?]{0,5})?")
        .prop_map(|(scheme, folder, file, rest)| format!("{scheme}://example.org/{folder}/{file}{rest}"));
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mut urls: Vec<String> = (0..2000).map(|_| urls.new_tree(&mut runner).unwrap().current()).collect();
    urls.extend(["http://h", "http://h/", "http://h?a/b", "https://h/a/..", "http://h/x%2Edrv"].map(str::to_owned));
    urls.push(format!("http://h/{}", "a".repeat(300)));
    // As they are recorded, normalised.
    let urls: Vec<NormalizedUrl> = urls.iter().filter_map(|url| url.parse().ok()).collect();
    assert!(urls.len() > 1500, "{}", urls.len());
    let list = serde_json::to_string(&urls.iter().map(NormalizedUrl::as_str).collect::<Vec<_>>()).unwrap();
    let folder = folder_with(&[("urls.json", &list)]);
    let expression = format!(
        "map (import {HERE}/nix/inventory/names.nix {{ inherit (pkgs) lib; }}).ofUrl \
         (builtins.fromJSON (builtins.readFile ./urls.json))"
    );
    let theirs = value_in(folder.path(), &expression);
    for (url, name) in urls.iter().zip(theirs.as_array().unwrap()) {
        assert_eq!(name.as_str(), Some(url.store_path_name().as_str()), "{url}");
    }
}
