//! Keeping and sharing inventories: compared, united, taken over from other programs and given to them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod browser;
#[path = "../common/mod.rs"]
mod common;
mod har;
mod lists;

use std::{fs, path::Path};

use common::{
    Outcome, Workdir, run,
    serving::{inventory, text_entry},
    sri,
};
use serde_json::Value;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn diff(work: &Workdir, before: impl AsRef<Path>, after: impl AsRef<Path>) -> Outcome {
    let mut command = work.command(env!("CARGO_BIN_EXE_buildproxy"));
    run(command.arg("diff").args([before.as_ref(), after.as_ref()]))
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
fn a_diff_says_which_of_the_answers_to_one_url_is_another_one() {
    let work = Workdir::new();
    let variant = |accept: &str, text: &str| {
        text_entry("https://a.test/x", text)
            .replace("body =", &format!("request-headers = {{ accept = {accept:?} }}\nbody ="))
    };
    work.write("before.toml", inventory(&[variant("a/a", "one"), variant("b/b", "two")]));
    work.write("after.toml", inventory(&[variant("a/a", "one"), variant("b/b", "three")]));
    let outcome = diff(&work, "before.toml", "after.toml").expect_code(1);
    assert!(outcome.text().contains("  ~ GET https://a.test/x (request-header accept: b/b)\n"), "{outcome}");
    let mut json = work.command(env!("CARGO_BIN_EXE_buildproxy"));
    let outcome = run(json.args(["diff", "--json", "before.toml", "after.toml"])).expect_code(1);
    let json: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(json["entries"][0]["request-headers"], serde_json::json!({ "accept": "b/b" }), "{json}");
    assert_eq!(json["totals"]["changed-after"]["bytes"], 5);
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

/// By the two commands that the documentation gives.
#[test]
fn git_diff_itself_shows_it_once_the_driver_is_named() {
    let work = Workdir::new();
    let documentation = fs::read_to_string(Path::new(HERE).join("docs/inventories.md")).unwrap();
    let lines = documentation.lines().map(str::trim);
    let commands: Vec<&str> =
        lines.filter(|line| line.contains("diff=buildproxy") || line.contains("diff.buildproxy")).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    let commit = "git add .gitattributes *.toml && git -c user.name=t -c user.email=t@t.test commit -q -m";
    work.write("inventory.toml", inventory(&[text_entry("https://a.test/x", "one")]));
    work.write("next.toml", inventory(&[text_entry("https://a.test/y", "two")]));
    let script = format!(
        "PATH={}:$PATH; git init -q; {}; {commit} one; cp next.toml inventory.toml; git diff >diff; {commit} two; \
         echo broken >inventory.toml; git diff >broken 2>&1; git log -p --ext-diff >log; git diff --no-ext-diff HEAD~ HEAD >lines",
        Path::new(env!("CARGO_BIN_EXE_buildproxy")).parent().unwrap().display(),
        commands.join("; "),
    );
    run(work.command("sh").args(["-euc", &script])).expect_code(0);
    let text = |name: &str| String::from_utf8(work.read(name)).unwrap();
    assert!(text("diff").starts_with("inventory.toml\na.test\n  - GET https://a.test/x\n"), "{}", text("diff"));
    assert!(text("diff").ends_with("+1 entry, 3 B; -1 entry, 3 B\n"), "{}", text("diff"));
    assert!(text("broken").contains("error: ") && text("broken").contains("inventory.toml:1:"), "{}", text("broken"));
    assert_eq!(text("log").matches("GET https://a.test/x\n").count(), 2, "new, then gone: {}", text("log"));
    assert!(text("lines").contains("-url = \"https://a.test/x\""), "{}", text("lines"));
}

#[test]
fn what_is_no_file_is_written_to_and_not_replaced() {
    let work = Workdir::new();
    work.write("inventory.toml", inventory(&[text_entry("https://a.test/x", "one")]));
    work.write("file", "");
    let program = env!("CARGO_BIN_EXE_buildproxy");
    for command in ["export --to fetchurl", "index"] {
        let script = format!(
            "rm -f pipe link; mkfifo pipe; ln -s file link; timeout 20 cat pipe >got & \
             {program} {command} -o pipe; wait $!; test -p pipe; {program} {command} -o link; test -L link; cmp got file; test -s got"
        );
        run(work.command("sh").args(["-euc", &script])).expect_code(0);
    }
    for command in ["export --to fetchurl", "export --to har", "paths", "paths --json"] {
        let full = format!("exec {program} {command} >/dev/full");
        run(work.command("sh").args(["-euc", &full])).expect_code(3).expect_stderr(&["No space left"]);
    }
    // Bodies would have to be beside it.
    run(work.buildproxy("merge").args(["inventory.toml", "-o", "pipe"]))
        .expect_code(2)
        .expect_stderr(&["pipe", "no file"]);
    run(work.buildproxy("merge").args(["inventory.toml", "-o", "."])).expect_code(2).expect_stderr(&["no file"]);
}
