//! Keeping and sharing inventories: compared, united, taken over from other programs and given to them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod browser;
#[path = "../common/mod.rs"]
mod common;
mod har;
mod lists;

use std::{fs, path::Path};

use buildproxy::inventory::current_system;
use common::{Awkward, Outcome, Workdir, run, serving::text_entry, sri};
use serde_json::Value;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn diff(work: &Workdir, before: impl AsRef<Path>, after: impl AsRef<Path>) -> Outcome {
    let mut command = work.command(env!("CARGO_BIN_EXE_buildproxy"));
    run(command.arg("diff").args([before.as_ref(), after.as_ref()]))
}

fn inventory(entries: &[String]) -> String {
    format!("version = 1\n\n{}", entries.join("\n"))
}

/// What Nix makes of an expression. `dummy://` is no store at all: nothing outside the test is touched.
fn evaluated(work: &Workdir, expression: &str) -> Value {
    let mut nix = work.command("nix-instantiate");
    nix.args(["--eval", "--strict", "--json", "-E", expression]).env("NIX_REMOTE", "dummy://");
    serde_json::from_slice(&run(&mut nix).expect_code(0).stdout).unwrap()
}

#[test]
fn a_diff_says_what_changed_and_nothing_where_nothing_did() {
    let work = Workdir::new();
    let (a, b) = (text_entry("https://a.test/x", "one"), text_entry("https://b.test/y", "two"));
    work.write("before.toml", inventory(&[a.clone(), b.clone()]));
    work.write("same.toml", inventory(&[b, a.clone()]));
    work.write("after.toml", inventory(&[a.replace("one", "uno").replace(&sri(b"one"), &sri(b"uno"))]));
    assert_eq!(diff(&work, "before.toml", "same.toml").expect_code(0).text(), "");
    let outcome = diff(&work, "before.toml", "after.toml").expect_code(1);
    let expected = format!(
        "a.test\n  ~ GET https://a.test/x\n      hash: {} → {}\n      text: one → uno\n\nb.test\n  - GET https://b.test/y\n      \
         200, 3 B, text, {}\n\n-1 entry, 3 B; 1 changed, 3 B\n",
        sri(b"one"),
        sri(b"uno"),
        sri(b"two")
    );
    assert_eq!(outcome.text(), expected);
    diff(&work, "before.toml", "absent.toml").expect_code(2).expect_stderr(&["absent.toml"]);
    let mut json = work.command(env!("CARGO_BIN_EXE_buildproxy"));
    let outcome = run(json.args(["diff", "--json", "before.toml", "after.toml"])).expect_code(1);
    let json: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!((&json["same"], &json["totals"]["removed"]["entries"]), (&false.into(), &1.into()), "{json}");
    assert_eq!(json["entries"][0]["fields"][0]["field"], "hash");
}

#[test]
fn git_shows_the_diff_of_a_commit() {
    let work = Workdir::new();
    let git = |arguments: &[&str]| {
        let mut git = work.command("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@t.test"]).args(arguments);
        run(&mut git).expect_code(0)
    };
    git(&["init", "-q"]);
    work.write("inventory.toml", inventory(&[text_entry("https://a.test/x", "one")]));
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    work.write("inventory.toml", inventory(&[text_entry("https://a.test/y", "two")]));
    work.write("new.toml", inventory(&[text_entry("https://a.test/z", "three")]));
    git(&["add", "."]);
    let tool = format!("{} diff", env!("CARGO_BIN_EXE_buildproxy"));
    let outcome = git(&["difftool", "--no-prompt", "--extcmd", &tool, "HEAD", "--", "inventory.toml", "new.toml"]);
    for line in ["- GET https://a.test/x", "+ GET https://a.test/y", "+ GET https://a.test/z"] {
        assert!(outcome.text().contains(line), "{line}: {outcome}");
    }
}

#[test]
fn captures_of_two_machines_become_one_inventory_that_answers_on_both() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let script = format!(
        "curl -sSf -o same '{}'; curl -sSf -o counted '{}'; curl -sSf --compressed -o coded '{}'",
        origin.url("/plain/same"),
        origin.url("/counter"),
        origin.url("/gzip-always"),
    );
    for file in ["this.toml", "other.toml"] {
        let mut command = work.capturing(&origin.ca.pem);
        run(command.args(["-i", file, "--", "sh", "-euc", &script])).expect_code(0);
    }
    // Without saying whose they are, one URL has two answers.
    run(work.buildproxy("merge").args(["this.toml", "other.toml"])).expect_code(1).expect_stderr(&[
        "/counter",
        "this.toml: 200",
        "other.toml: 200",
        "hint:",
        "--prefer",
    ]);
    assert!(!work.path("inventory.toml").exists() && !work.path("inventory.bodies").exists());
    let (this, other) = (current_system(), "riscv64-netbsd");
    run(work.buildproxy("merge").args([format!("{this}=this.toml"), format!("{other}=other.toml")])).expect_code(0);
    let inventory = work.inventory();
    assert_eq!(inventory.of(&origin.url("/counter")).len(), 2);
    assert!(inventory.one(&origin.url("/plain/same")).get(&["systems"]).is_none(), "what agrees is shared");
    let coded = inventory.one(&origin.url("/gzip-always")).body("file").unwrap();
    assert!(coded.starts_with("inventory.bodies/"), "{coded}");
    for captured in ["this.toml", "other.toml"] {
        fs::remove_file(work.path(captured)).unwrap();
    }
    fs::remove_dir_all(work.path("this.bodies")).unwrap();
    run(&mut work.buildproxy("verify")).expect_code(0);
    let again = script.replace("-o counted", "-o counted-again");
    work.replay_sh(&again).expect_code(0);
    assert_eq!(work.read("counted-again"), b"count 1\n");
    let foreign = ["--system", other];
    let mut replaying = work.replaying();
    replaying.args(foreign).args(["--", "sh", "-euc", &again]);
    if run(work.replaying().arg("--help")).text().contains("--system") {
        run(&mut replaying).expect_code(0);
        assert_eq!(work.read("counted-again"), b"count 2\n");
    }
    let before = work.read("inventory.toml");
    run(work.buildproxy("merge").args(["inventory.toml", "inventory.toml"])).expect_code(0);
    assert_eq!(work.read("inventory.toml"), before, "united with itself it is the same");
}

#[test]
fn a_choice_settles_a_conflict_and_the_inventory_takes_part_unless_it_is_named() {
    let work = Workdir::new();
    let url = "https://a.test/x";
    work.write("inventory.toml", inventory(&[text_entry(url, "ours"), text_entry("https://a.test/kept", "k")]));
    work.write("theirs.toml", inventory(&[text_entry(url, "theirs")]));
    run(work.buildproxy("merge").arg("theirs.toml")).expect_code(1).expect_stderr(&["inventory.toml: 200", url]);
    run(work.buildproxy("merge").args(["theirs.toml", "--prefer", "none.toml"])).expect_code(2);
    run(work.buildproxy("merge").args(["theirs.toml", "--prefer", "theirs.toml"])).expect_code(0);
    let merged = work.inventory();
    assert_eq!((merged.0.len(), merged.one(url).body("text")), (2, Some("theirs")));
    run(work.buildproxy("merge").args(["absent.toml"])).expect_code(2).expect_stderr(&["absent.toml"]);
}
