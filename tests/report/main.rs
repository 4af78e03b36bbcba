//! The page that shows an inventory, in a real browser.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

use std::{fmt::Write, path::Path, process::Command};

use common::{Awkward, Outcome, Workdir, run};
use serde_json::Value;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// What a browser shows of the page of `work`; a search for `words` finds something there.
fn look(work: &Workdir, words: &str) -> Value {
    let python = Path::new(HERE).join("target/tools/browser/bin/python3");
    let mut command = Command::new(python);
    command.arg(Path::new(HERE).join("tests/report/look.py"));
    let outcome = run(command.arg("/usr/bin/chromium").args([work.path("report.html"), work.path(".")]).arg(words))
        .expect_code(0);
    serde_json::from_slice(&outcome.stdout).unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Nothing of what origins sent ran, nothing was asked for but the page, and the browser has nothing to say.
fn expect_harmless(seen: &Value) {
    assert_eq!(seen["messages"], serde_json::json!([]));
    assert_eq!(seen["hacked"], Value::Null);
    assert_eq!(seen["asked"].as_array().unwrap().len(), 1, "{}", seen["asked"]);
}

fn report(work: &Workdir, arguments: &[&str]) -> Outcome {
    run(work.buildproxy("report").args(arguments))
}

#[test]
fn ten_thousand_entries_are_searched_sorted_and_opened_without_lag_and_hostile_text_stays_text() {
    let work = Workdir::new();
    let mut inventory = "version = 1\n".to_owned();
    for number in 0..10_000 {
        let (host, size) = (number % 23, (number * 7919) % 10_007 + 10);
        let redirects = match number {
            77 => "redirects = [{ status = 302, location = \"https://cdn.test/chain?sig=1\" }]\n",
            _ => "",
        };
        write!(
            inventory,
            "\n[[entry]]\nurl = \"https://host{host}.test/{number}.tar.gz\"\n{redirects}body = {{ hash = \
             \"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\", size = {size}, name = \"{number}.tar.gz\" }}\n"
        )
        .unwrap();
    }
    inventory.push_str(
        r#"
[[entry]]
url = "https://hostile.test/?q=</script><script>window.hacked=1</script>"
status = 404
body = { hash = "sha256-CYUd3HlmFaQxOjySCPcsC9nfv8lKeGnN64wIGeKVTAc=", size = 9, text = "</script><img src=x onerror=window.hacked=1>" }
[entry.headers]
content-type = "text/html; <script>window.hacked=1</script>"
x-evil = "<img src=x onerror=window.hacked=1>--><!--<script>"
"#,
    );
    work.write("inventory.toml", inventory);
    report(&work, &["-o", "report.html"]).expect_code(0);
    let seen = look(&work, "hostile 404");
    expect_harmless(&seen);
    assert_eq!(texts(&seen["parts"]), ["Overview", "Entries"]);
    assert_eq!(&texts(&seen["tiles"])[..2], ["10,001\nentries", "24\nhosts"]);
    assert!(seen["rows in the document"].as_u64().unwrap() < 100, "only what is in sight");
    assert_eq!(seen["first"], "https://host0.test/0.tar.gz");
    assert!(seen["last"].as_str().unwrap().starts_with("https://hostile.test/"), "{}", seen["last"]);
    assert_eq!(seen["opened"], "GET https://host17.test/9999.tar.gz");
    assert_eq!(seen["closed"], true);
    let size = |number: u64| (number * 7919) % 10_007 + 10;
    let by_size = |wanted: u64| (0..10_000).find(|&number| size(number) == wanted);
    let largest = by_size((0..10_000).map(size).max().unwrap()).unwrap();
    assert_eq!(seen["largest"], format!("https://host{}.test/{largest}.tar.gz", largest % 23));
    assert!(seen["smallest"].as_str().unwrap().starts_with("https://hostile.test/"), "{}", seen["smallest"]);
    assert_eq!(seen["found"], "1 entry, 9 B");
    for text in ["<img src=x onerror=window.hacked=1>--><!--<script>", "</script><img src=x onerror=window.hacked=1>"] {
        assert!(seen["details"].as_str().unwrap().contains(text), "{}", seen["details"]);
    }
    assert_eq!(
        texts(&seen["chain"]),
        ["302https://host8.test/77.tar.gz", "200https://cdn.test/chain?sig=1"],
        "the chain is drawn"
    );
    assert_ne!(seen["light"], seen["dark"]);
    assert_eq!(seen["light"], seen["light again"], "the button turns it");
    assert_eq!(seen["printed rows"], 3000);
}

#[test]
fn the_page_shows_the_last_capture_the_last_replay_and_what_was_changed() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let [first, second, missed] = ["a", "b", "c"].map(|name| origin.url(&format!("/plain/{name}?size=1000")));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{first}'")).expect_code(0);
    work.write("before.toml", work.read("inventory.toml"));
    let private = format!("curl -sS -u me:secret -o /dev/null '{}'", origin.url("/plain/private?size=3&token=hidden"));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{second}'; {private}")).expect_code(0);
    run(work.replaying().args(["--", "sh", "-c", &format!("curl -s -o /dev/null '{first}'; curl -s '{missed}'")]))
        .expect_code(4);
    report(&work, &["--diff", "before.toml", "-o", "report.html"]).expect_code(0);
    let seen = look(&work, "plain/a");
    expect_harmless(&seen);
    assert_eq!(
        texts(&seen["parts"]),
        ["Overview", "What is different from before.toml", "Entries", "Timeline of the last capture", "Last replay"]
    );
    let timeline = texts(&seen["timeline"]).join("\n");
    assert!(timeline.contains("/plain/b?size=1000"), "{timeline}");
    assert!(timeline.contains("/plain/private") && !timeline.contains("hidden"), "{timeline}");
    let replay = seen["replay"].as_str().unwrap();
    assert!(replay.contains(&format!("GET {missed}")) && replay.contains(&second), "{replay}");
    let differences = seen["differences"].as_str().unwrap();
    assert!(differences.contains("+1\nadded, 1000 B") && differences.contains(&second), "{differences}");
}

#[test]
fn a_page_that_cannot_be_made_or_written_is_said_so() {
    let work = Workdir::new();
    report(&work, &["-o", "report.html"]).expect_code(2).expect_stderr(&["inventory.toml"]);
    work.write("inventory.toml", "version = 1\n");
    report(&work, &["-o", "no/such/folder.html"]).expect_code(3).expect_stderr(&["cannot write no/such/folder.html"]);
    report(&work, &["--diff", "absent.toml"]).expect_code(2).expect_stderr(&["absent.toml"]);
    let page = String::from_utf8(report(&work, &[]).expect_code(0).stdout.clone()).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
}
