//! `capture --only`: refreshing some entries of a build, and asking nobody for the others.

use crate::common::{Awkward, Outcome, Workdir, pattern, run};

fn refresh(origin: &Awkward, work: &Workdir, globs: &[&str], script: &str) -> Outcome {
    let mut command = work.capturing(&origin.ca.pem);
    command.args(globs.iter().flat_map(|glob| ["--only", glob]));
    run(command.args(["--", "sh", "-euc", script]))
}

#[test]
fn one_entry_is_refreshed_and_the_others_are_answered_from_the_inventory() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let [counter, plain, chain] = ["/counter", "/plain/a?size=70000", "/redirect/3"].map(|path| origin.tls_url(path));
    let echo = origin.url("/echo");
    let script = format!(
        "curl -sSf '{counter}'; curl -sSf -o a '{plain}'; curl -sSfL -o chain '{chain}'; curl -sSf -d question '{echo}'"
    );
    let first = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(first.text(), "count 1\nPOST question\n");
    let before = String::from_utf8(work.read("inventory.toml")).unwrap();
    let refreshed = refresh(&origin, &work, &["*/counter"], &script).expect_code(0);
    assert_eq!(refreshed.text(), "count 2\nPOST question\n");
    assert_eq!((work.read("a"), work.read("chain")), (pattern(70_000), pattern(1000)));
    for path in ["/plain/a?size=70000", "/redirect/3", "/echo"] {
        assert_eq!(origin.requests_for(path).len(), 1, "{path} is not asked for again");
    }
    let after = String::from_utf8(work.read("inventory.toml")).unwrap();
    let changed: Vec<_> = before.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
    assert!(changed.len() == 1 && changed[0].0.starts_with("body = "), "{changed:?}");
    assert!(!refreshed.stderr.contains("--only"), "{refreshed}");
    refreshed.expect_stderr(&["captured 1 answer", "replaced GET", &counter]);
    run(&mut work.buildproxy("verify")).expect_code(0);
    drop(origin);
    assert_eq!(work.replay_sh(&script).expect_code(0).text(), "count 2\nPOST question\n");
}

#[test]
fn what_neither_is_named_nor_recorded_is_passed_on_with_a_notice() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let [known, unknown, posted] = ["/plain/known", "/plain/unknown", "/echo"].map(|path| origin.url(path));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{known}'")).expect_code(0);
    let script = format!(
        "curl -sSf -o known '{known}'; curl -sSf -o unknown '{unknown}'; curl -sSf -d secret -H 'Cookie: a=b' '{posted}'"
    );
    let outcome = refresh(&origin, &work, &["https://elsewhere/*"], &script).expect_code(0);
    assert_eq!(outcome.text(), "POST secret\n");
    assert_eq!(work.read("unknown"), pattern(1000));
    let outcome = outcome.expect_stderr(&[
        &format!("GET {unknown} was passed on and is not recorded"),
        &format!("POST {posted} was passed on"),
        "captured nothing",
        "asked for nothing that `--only` names",
    ]);
    assert!(!outcome.stderr.contains(&known) && outcome.stderr.matches("warning").count() == 1, "{outcome}");
    assert_eq!(work.inventory().urls(), [&known]);
}

#[test]
fn a_chain_that_is_named_by_its_first_url_is_recorded_to_its_end() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/redirect/3");
    let script = format!("curl -sSfL -o got '{url}'");
    refresh(&origin, &work, &[&url], &script).expect_code(0);
    assert_eq!(work.inventory().one(&url).hops().len(), 3);
    refresh(&origin, &work, &[&url], &script).expect_code(0);
    assert_eq!(origin.requests_for("/redirect/2").len(), 2, "each time");
    drop(origin);
    work.replay_sh(&script).expect_code(0);
    assert_eq!(work.read("got"), pattern(1000));
}

#[test]
fn what_was_not_asked_anew_is_never_pruned() {
    let work = Workdir::new();
    let mut command = work.buildproxy("capture");
    run(command.args(["--only", "*", "--prune", "--", "true"])).expect_code(2).expect_stderr(&["--prune"]);
    run(work.buildproxy("capture").args(["--only", "[", "--", "true"])).expect_code(2).expect_stderr(&["--only"]);
}
