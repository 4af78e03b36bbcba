//! Capturing again, and uniting inventories: the same bytes where nothing changed, and nothing lost where something did.

use std::fs;

use buildproxy::current_system;

use crate::common::{
    Awkward, Workdir, run,
    serving::{inventory, text_entry},
    sri,
};

/// Everything whose recording could differ from run to run.
fn restless_script(origin: &Awkward) -> String {
    let urls: Vec<_> =
        ["/plain/a", "/chunked", "/cached", "/redirect/3", "/missing", "/no-content", "/odd-headers", "/gzip"]
            .iter()
            .flat_map(|path| [origin.url(path), origin.tls_url(path)])
            .chain([origin.url("/restless-headers"), origin.url("/until-close")])
            .map(|url| format!("'{url}'"))
            .collect();
    format!(
        "for url in {}; do curl -sS -L -o /dev/null $url & done; wait; curl -sSf -d q=1 '{echo}'; \
         curl -sSf -H 'Accept: application/json' '{vary}'; curl -sSf -H 'Accept: text/html' '{vary}'",
        urls.join(" "),
        echo = origin.url("/echo"),
        vary = origin.url("/vary")
    )
}

#[test]
fn the_same_capture_gives_the_same_bytes_into_a_fresh_file_and_into_the_existing_one() {
    let (origin, work, again) = (Awkward::start(), Workdir::new(), Workdir::new());
    let script = restless_script(&origin);
    work.capture_sh(&origin, &script).expect_code(0);
    let first = String::from_utf8(work.read("inventory.toml")).unwrap();
    assert!(work.inventory().urls().len() >= 20, "{first}");
    work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(String::from_utf8(work.read("inventory.toml")).unwrap(), first, "into the existing one");
    again.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(String::from_utf8(again.read("inventory.toml")).unwrap(), first, "into a fresh one");
}

#[test]
fn entries_are_sorted_by_url() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let script = format!("for name in c a b; do curl -sSf -o /dev/null '{}'$name; done", origin.url("/plain/"));
    work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(work.inventory().urls(), ["a", "b", "c"].map(|name| origin.url(&format!("/plain/{name}"))));
}

#[test]
fn what_was_not_asked_again_stays() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (old, new) = (origin.url("/plain/old"), origin.url("/plain/new"));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{old}'")).expect_code(0);
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{new}'")).expect_code(0);
    assert_eq!(work.inventory().urls(), [&new, &old]);
}

#[test]
fn what_changed_is_replaced_with_a_notice() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/counter");
    work.capture_sh(&origin, &format!("curl -sSf '{url}'; curl -sSf '{url}'")).expect_code(0);
    assert_eq!(work.inventory().of(&url).len(), 2);
    work.capture_sh(&origin, &format!("curl -sSf '{url}'")).expect_code(0).expect_stderr(&[&url]);
    let inventory = work.inventory();
    assert_eq!(inventory.one(&url).body("hash"), Some(sri(b"count 3\n").as_str()), "the whole sequence is replaced");
}

#[test]
fn a_capture_of_nothing_leaves_the_inventory_alone() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{}'", origin.url("/plain/a"))).expect_code(0);
    let before = work.read("inventory.toml");
    work.capture_sh(&origin, "true").expect_code(0);
    work.capture_sh(&origin, &format!("curl -sS -o /dev/null '{}' || true", origin.url("/truncated"))).expect_code(0);
    assert_eq!(work.read("inventory.toml"), before);
}

#[test]
fn edits_by_hand_survive_the_next_capture() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let script = format!("curl -sSf -o /dev/null '{}'", origin.url("/plain/a?_=1"));
    work.capture_sh(&origin, &script).expect_code(0);
    let text = String::from_utf8(work.read("inventory.toml")).unwrap();
    let edited = text.replace("version = 1\n", "version = 1\n\n[match]\nignore-query = [\"_\"]\n");
    assert_ne!(text, edited);
    work.write("inventory.toml", &edited);
    work.capture_sh(&origin, &script.replace("_=1", "_=2")).expect_code(0);
    assert!(String::from_utf8(work.read("inventory.toml")).unwrap().contains("ignore-query = [\"_\"]"));
    assert_eq!(work.inventory().urls().len(), 1, "the ignored parameter makes no new entry");
}

#[test]
fn files_of_bodies_that_are_committed_come_with_git_attributes() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/gzip-always");
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'")).expect_code(0);
    let file = work.inventory().one(&url).body("file").unwrap().to_owned();
    assert!(file.starts_with("inventory.bodies/"), "{file}");
    assert_eq!(fs::read_to_string(work.path("inventory.bodies/.gitattributes")).unwrap(), "* -text\n");
}

#[test]
fn pruning_keeps_what_was_asked_in_vain_and_everything_where_the_command_failed() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (cut, other) = (origin.url("/truncated"), origin.url("/plain/other"));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{other}' -o /dev/null '{}'", origin.url("/plain/cut")))
        .expect_code(0);
    let text = String::from_utf8(work.read("inventory.toml")).unwrap().replace("/plain/cut", "/truncated");
    work.write("inventory.toml", &text);
    let prune = |script: &str| {
        let mut command = work.capturing(&origin.ca.pem);
        run(command.args(["--prune", "--", "sh", "-c", script]))
    };
    prune("exit 7").expect_code(7).expect_stderr(&["nothing is pruned"]);
    prune("true").expect_code(0).expect_stderr(&["nothing is pruned, because the command asked for nothing"]);
    assert_eq!(work.inventory().0.len(), 2);
    prune(&format!("curl -sS -o /dev/null '{cut}'; true"))
        .expect_code(0)
        .expect_stderr(&["/truncated is not recorded"]);
    let inventory = work.inventory();
    assert_eq!((inventory.0.len(), inventory.one(&cut).size()), (1, Some(1000)));
}

#[test]
fn an_inventory_behind_a_link_has_its_bodies_beside_the_file() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    std::fs::create_dir(work.path("sub")).unwrap();
    work.write("sub/real.toml", "version = 1\n");
    std::os::unix::fs::symlink("sub/real.toml", work.path("link.toml")).unwrap();
    let script = format!("curl -sSf -o /dev/null '{}'", origin.url("/gzip-always"));
    let mut command = work.capturing(&origin.ca.pem);
    run(command.args(["-i", "link.toml", "--", "sh", "-euc", &script])).expect_code(0);
    assert!(work.path("link.toml").is_symlink() && work.path("sub/real.bodies").is_dir());
    for path in ["link.toml", "sub/real.toml"] {
        run(work.buildproxy("verify").args(["-i", path])).expect_code(0);
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
    run(work.replaying().args(["--system", other, "--", "sh", "-euc", &again])).expect_code(0);
    assert_eq!(work.read("counted-again"), b"count 2\n");
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

#[test]
fn a_merge_waits_for_a_capture_that_writes_the_inventory() {
    let work = Workdir::new();
    let of = |urls: &[&str]| inventory(&urls.iter().map(|url| text_entry(url, "x")).collect::<Vec<_>>());
    work.write("inventory.toml", of(&["https://a.test/before"]));
    work.write("captured.toml", of(&["https://a.test/before", "https://a.test/captured"]));
    work.write("theirs.toml", of(&["https://a.test/theirs"]));
    // The lock is a capture's until it has written.
    let script = format!(
        "mkdir .buildproxy; exec 9>.buildproxy/lock; flock 9; {} merge theirs.toml 9>&- & sleep 0.3; \
         cp captured.toml inventory.toml; flock -u 9; wait $!",
        env!("CARGO_BIN_EXE_buildproxy")
    );
    run(work.command("bash").args(["-euc", &script])).expect_code(0);
    assert_eq!(work.inventory().urls(), ["https://a.test/before", "https://a.test/captured", "https://a.test/theirs"]);
}

#[test]
fn a_large_file_that_a_merge_brings_along_is_pointed_out_unless_nothing_is_to_be_said() {
    let work = Workdir::new();
    work.write("inventory.toml", inventory(&[]));
    let large = vec![b'x'; 6 << 20];
    fs::create_dir(work.path("theirs.bodies")).unwrap();
    work.write("theirs.bodies/a", &large);
    let body = format!("body = {{ hash = {:?}, size = {}, file = \"theirs.bodies/a\" }}", sri(&large), large.len());
    work.write("theirs.toml", inventory(&[format!("[[entry]]\nurl = \"https://a.test/a\"\n{body}\n")]));
    let merged = run(work.buildproxy("merge").arg("theirs.toml")).expect_code(0);
    merged.expect_stderr(&["https://a.test/a is kept as a file of 6.00 MiB", "move --to store-path"]);
    let again = run(work.buildproxy("merge").args(["-q", "theirs.toml"])).expect_code(0);
    assert_eq!(again.stderr, "");
}
