//! The compiled inventory: `buildproxy index`, and what reads it.

use std::fs;

use crate::common::{Awkward, Serving, Workdir, http1::Http1, in_empty_network, pattern, run, serving::text_entry};

fn inventory() -> String {
    let other = "[[entry]]\nurl = \"http://files.test/other\"\nsystems = [\"other-os\"]\nstatus = 404\n";
    let chain = "[[entry]]\nurl = \"http://files.test/latest\"\nredirects = [{ status = 302, location = \"/a?token=7\" }]\nstatus = 204\n";
    let head = "version = 1\n[match]\nignore-query = [\"_\"]\n";
    format!("{head}{}{chain}{other}", text_entry("http://files.test/a", "compiled"))
}

#[track_caller]
fn compile(work: &Workdir, more: &[&str]) {
    let outcome = run(work.buildproxy("index").args(["-o", "inventory.index"]).args(more)).expect_code(0);
    assert_eq!(outcome.stdout, b"", "{outcome}");
}

#[test]
fn a_build_is_replayed_from_a_compiled_inventory() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let script =
        format!("curl -sSf -o got '{}'; curl -sSLf '{}'", origin.tls_url("/plain/a"), origin.tls_url("/redirect/3"));
    let captured = work.capture_sh(&origin, &script).expect_code(0);
    compile(&work, &[]);
    fs::remove_file(work.path("got")).unwrap();
    let mut replay = work.replaying();
    replay.args(["-i", "inventory.index", "--", "sh", "-euc", &script]);
    let replayed = run(&mut in_empty_network(&replay)).expect_code(0);
    assert_eq!(replayed.stdout, captured.stdout);
    assert_eq!(work.read("got"), pattern(1000));
}

#[test]
fn every_command_reads_it_in_place_of_the_inventory() {
    let work = Workdir::new();
    work.write("inventory.toml", inventory());
    compile(&work, &[]);
    for subcommand in ["verify", "paths", "fetch"] {
        let of = |file: &str| run(work.buildproxy(subcommand).args(["-i", file]));
        let (compiled, written) = (of("inventory.index"), of("inventory.toml"));
        assert_eq!((compiled.code, &compiled.stdout), (written.code, &written.stdout), "{subcommand}: {compiled}");
        assert_eq!(compiled.code, 0, "{compiled}");
    }
}

#[test]
fn the_same_inventory_gives_the_same_bytes_whatever_it_is_compiled_from() {
    let work = Workdir::new();
    work.write("inventory.toml", inventory());
    compile(&work, &["--system", "other-os"]);
    let first = work.read("inventory.index");
    compile(&work, &["--system", "other-os"]);
    assert_eq!(work.read("inventory.index"), first);
    let again = ["-i", "inventory.index", "-o", "again.index", "--system", "other-os"];
    run(work.buildproxy("index").args(again))
        .expect_code(0)
        .expect_stderr(&["wrote again.index (3 entries, for other-os)"]);
    assert_eq!(work.read("again.index"), first);
}

#[test]
fn an_inventory_for_another_system_is_indexed_anew() {
    let work = Workdir::new();
    work.write("inventory.toml", inventory());
    compile(&work, &["--system", "other-os"]);
    fs::rename(work.path("inventory.index"), work.path("other.index")).unwrap();
    let script = "curl -sS http://files.test/a?_=1; curl -sS http://files.test/other";
    let outcome = run(work.replaying().args(["-i", "other.index", "-v", "--", "sh", "-euc", script])).expect_code(4);
    outcome.expect_stderr(&["compiled for other-os", "this URL was recorded only for other-os"]);
}

#[test]
fn an_inventory_that_is_not_in_pieces_is_compiled_too() {
    let work = Workdir::new();
    work.write("inventory.toml", "version = 1\nentry = [{ url = \"http://files.test/a\", status = 204 }]\n");
    compile(&work, &[]);
    let script = "curl -sSf http://files.test/a";
    run(work.replaying().args(["-i", "inventory.index", "--", "sh", "-euc", script])).expect_code(0);
}

#[test]
fn damage_is_named_with_the_file_and_what_to_do_and_nothing_is_started() {
    let work = Workdir::new();
    work.write("inventory.toml", inventory());
    compile(&work, &[]);
    let good = work.read("inventory.index");
    let changed = |place: usize| {
        let mut bytes = good.clone();
        bytes[place] ^= 1;
        bytes
    };
    for (what, bytes, message) in [
        ("cut", good[..good.len() - 1].to_vec(), "it was cut, or something was added"),
        ("cut in the header", good[..20].to_vec(), "it was cut, or something was added"),
        ("longer", [&good[..], b"\n"].concat(), "it was cut, or something was added"),
        ("a changed text", changed(100), "its checksum is wrong"),
        ("a changed number", changed(good.len() - 9), "its checksum is wrong"),
        ("another version", changed(8), "version 0, and this buildproxy reads version 1"),
    ] {
        work.write("inventory.index", bytes);
        for subcommand in ["replay", "verify", "fetch", "paths"] {
            let mut command = work.buildproxy(subcommand);
            command.args(["-i", "inventory.index"]);
            if subcommand == "replay" {
                command.args(["--", "touch", "started"]);
            }
            let outcome = run(&mut command).expect_code(2);
            outcome.expect_stderr(&["inventory.index: ", message, "hint: run `buildproxy index` again"]);
            assert!(!work.path("started").exists(), "{what}: the command was started");
        }
    }
}

#[test]
fn the_inventory_itself_is_never_overwritten() {
    let work = Workdir::new();
    work.write("inventory.toml", inventory());
    let outcome = run(work.buildproxy("index").args(["-o", "./inventory.toml"])).expect_code(2);
    outcome.expect_stderr(&["is the inventory itself"]);
    assert_eq!(work.read("inventory.toml"), inventory().as_bytes());
    compile(&work, &[]);
    let before = work.read("inventory.index");
    let outcome =
        run(work.buildproxy("capture").args(["-i", "inventory.index", "--", "touch", "started"])).expect_code(2);
    outcome.expect_stderr(&["inventory.index is no TOML, and captures are written as TOML"]);
    assert!(!work.path("started").exists());
    assert_eq!(work.read("inventory.index"), before);
    run(work.buildproxy("index").args(["-o", "no/folder.index"]))
        .expect_code(3)
        .expect_stderr(&["cannot write no/folder.index"]);
    run(work.buildproxy("index").args(["-i", "absent.toml", "-o", "x"])).expect_code(2).expect_stderr(&["absent.toml"]);
}

#[test]
fn an_entry_that_is_none_makes_the_run_fail() {
    let work = Workdir::new();
    work.write("inventory.toml", inventory());
    compile(&work, &[]);
    // Somebody changes the text and makes the checksum right again.
    let mut bytes = work.read("inventory.index");
    let first = bytes.windows(9).position(|window| window == b"[[entry]]").unwrap();
    bytes[first + 2..first + 7].copy_from_slice(b"antry");
    let checksum = xxhash_rust::xxh3::xxh3_64(&[&bytes[..32], &bytes[40..]].concat());
    bytes[32..40].copy_from_slice(&checksum.to_le_bytes());
    work.write("inventory.index", bytes);
    let script = "curl -sS -w '%{http_code}' http://files.test/a";
    for more in [&[][..], &["--allow-misses"]] {
        let mut replay = work.replaying();
        replay.args(["-i", "inventory.index"]).args(more).args(["--", "sh", "-euc", script]);
        let outcome = run(&mut replay).expect_code(4);
        let told = String::from_utf8_lossy(&outcome.stdout);
        assert!(told.contains("run `buildproxy index` again") && told.ends_with("500"), "{outcome}");
        outcome.expect_stderr(&["it has no entry where that for http://files.test/a should be", "1 broken body"]);
    }
}

/// As many entries, all different, and what they are asked for by.
fn large(count: usize) -> (String, Vec<String>) {
    let url = |n: usize| format!("http://files-{}.test/some/folder/of/packages/{n}/package-{n}.tar.gz", n % 7);
    let fields = "[entry.headers]\ncontent-type = \"application/gzip\"\netag = '\"5f3-1\"'\n\
                  last-modified = \"Mon, 02 Nov 2026 10:00:00 GMT\"\n";
    let urls: Vec<String> = (0..count).map(url).collect();
    let entry = |(n, url): (usize, &String)| text_entry(url, &n.to_string()) + fields;
    (urls.iter().enumerate().map(entry).collect(), urls)
}

/// The memory of a server that was asked for all of so many entries, or for something else, in bytes.
fn resident(count: usize, is_used: bool) -> usize {
    let (inventory, urls) = large(count);
    let serving = Serving::start(&inventory);
    // A miss looks at every URL there is.
    run(serving.curl().args(["-o", "/dev/null", "http://files-0.test/"])).expect_code(0);
    let mut client = Http1(serving.connect());
    for (n, url) in urls.iter().enumerate().filter(|_| is_used) {
        let answer = client.ask(&format!("GET {url} HTTP/1.1\nHost: files.test"));
        assert_eq!((answer.status, answer.text()), (200, n.to_string().as_str()), "{url}");
    }
    let pid = serving.server.pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap()
}

#[test]
fn memory_is_the_text_and_little_more_whether_it_is_used_or_not() {
    const ENTRIES: usize = 20_000;
    for is_used in [false, true] {
        let (small, whole) = (resident(10, is_used), resident(ENTRIES, is_used));
        let beyond_the_text = (whole - small).saturating_sub(large(ENTRIES).0.len()) / ENTRIES;
        println!("{beyond_the_text} bytes an entry beyond the text, used: {is_used}");
        assert!(beyond_the_text < 400, "{beyond_the_text} bytes an entry, used: {is_used}");
    }
}
