//! Inventories, archives and lock files that are too deep, too long, or too large in their numbers.

use std::fs::File;

use crate::{
    common::{Workdir, run, shown::times},
    shows,
};

/// Texts that are no inventory, each with what it is.
fn texts(depth: usize) -> Vec<(&'static str, String)> {
    let entry = |rest: &str| format!("version = 1\n[[entry]]\nurl = \"http://h.test/\"\n{rest}\n");
    let body = |rest: &str| entry(&format!("body = {{ {rest} }}"));
    let in_json = |rest: &str| format!("{{\"version\": 1, \"entry\": [{{\"url\": \"http://h.test/\", {rest}}}]}}");
    vec![
        ("arrays in arrays", entry(&format!("systems = {}", "[".repeat(depth)))),
        ("arrays in arrays that end", entry(&format!("systems = {}{}", "[".repeat(depth), "]".repeat(depth)))),
        ("tables in tables", entry(&format!("body = {}", "{ a = ".repeat(depth)))),
        ("keys in keys", entry(&format!("{}a = 1", "a.".repeat(depth)))),
        ("headings in headings", format!("version = 1\n[{}a]\n", "a.".repeat(depth))),
        ("an open string", entry(&format!("systems = \"{}", "\\\\".repeat(depth)))),
        ("brackets of JSON", in_json(&format!("\"systems\": {}", "[".repeat(depth)))),
        ("braces of JSON", in_json(&format!("\"body\": {}", "{\"a\":".repeat(depth)))),
        ("an open JSON", "{\"version\": 1, \"entry\": [".to_owned() + &"{\"url\": \"http://h.test/\"},".repeat(depth)),
        ("a large number", body("size = 99999999999999999999999999999999")),
        ("a long number", body(&format!("size = {}", "9".repeat(depth)))),
        ("a float", body("size = 1e400")),
        ("a negative size", body("size = -1")),
        ("a long status", entry(&format!("status = {}", "2".repeat(depth)))),
        ("a large number of JSON", in_json("\"status\": 1e999999999")),
        ("a long number of JSON", in_json(&format!("\"status\": {}", "2".repeat(depth)))),
        ("a long key", entry(&format!("{} = 1", "k".repeat(depth)))),
        ("a long method", entry(&format!("method = \"{} \"", "M".repeat(depth)))),
        (
            "a regular expression that grows",
            format!("version = 1\n[match]\nrewrite = [{{ from = \"{}\", to = \"\" }}]\n", "(a{999}){999}"),
        ),
        (
            "a deep regular expression",
            format!("version = 1\n[match]\nrewrite = [{{ from = \"{}\", to = \"\" }}]\n", "(".repeat(depth)),
        ),
        ("a deep glob", format!("version = 1\n[match]\nignore-query = [\"{}\"]\n", "{a,".repeat(depth))),
    ]
}

#[test]
fn inventories_of_any_depth_and_number_end_with_a_message() {
    let work = Workdir::new();
    let (mut count, mut most) = (0, 0);
    for (what, text) in texts(20_000) {
        work.write("inventory.toml", &text);
        for arguments in [&["verify"][..], &["replay", "--", "true"]] {
            let mut command = work.buildproxy(arguments[0]);
            let outcome = run(command.args(&arguments[1..]));
            assert!(outcome.code == 2, "{what}: {}", &outcome.to_string().chars().take(3000).collect::<String>());
            assert!(
                outcome.stderr.starts_with("error: ") && outcome.stderr.len() < 10_000,
                "{what}: {}",
                outcome.stderr.len()
            );
            most = most.max(outcome.peak_kib);
            count += 1;
        }
    }
    assert!(most < 200 << 10, "{most} KiB");
    shows!(
        HostileInput,
        "20,000 levels, digits and characters of each kind",
        "{count} runs, each exit code 2; at most {} MiB",
        most >> 10
    );
}

#[test]
fn a_file_that_no_inventory_is_as_long_as_is_refused_and_a_long_one_is_read() {
    let work = Workdir::new();
    File::create(work.path("inventory.toml")).unwrap().set_len(600 << 20).unwrap();
    let refused = run(&mut work.buildproxy("paths")).expect_code(2).expect_stderr(&["more than 512 MiB"]);
    assert!(refused.peak_kib < 600 << 10, "{} KiB", refused.peak_kib);
    std::os::unix::fs::symlink("/dev/zero", work.path("zeros")).unwrap();
    for subcommand in ["paths", "verify"] {
        let endless = run(work.buildproxy(subcommand).args(["-i", "zeros"])).expect_code(2);
        assert!(endless.peak_kib < 1200 << 10, "{} KiB", endless.peak_kib);
    }
    let mib = times(5, 100) as usize;
    let mut text = "version = 1\n".to_owned();
    let mut entries = 0;
    while text.len() < mib << 20 {
        text += &format!("[[entry]]\nurl = \"http://h.test/{entries}\"\nstatus = 404\n");
        entries += 1;
    }
    work.write("inventory.toml", &text);
    let long = run(work.buildproxy("export").args(["--to", "fetchurl", "-q"])).expect_code(0);
    assert!(long.peak_kib < (mib as u64) * (12 << 10) + (40 << 10), "{} KiB of {mib} MiB", long.peak_kib);
    shows!(
        HostileInput,
        "files of 600 MiB, without an end, and of very many entries",
        "{entries} entries in {mib} MiB are read with {} MiB; more than 512 MiB is refused",
        long.peak_kib >> 10
    );
}
