//! What others do to a capture's files while it runs.

use std::fs;

use crate::{
    common::{Awkward, Workdir, pattern, run},
    shows,
    state::{expect_pattern, left_over, whole},
};

#[test]
fn an_inventory_that_is_broken_meanwhile_is_left_as_it_is_and_nothing_is_lost() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (old, new) = (origin.url("/plain/old?size=900"), origin.url("/plain/new?size=100000"));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{old}'")).expect_code(0);
    let good = work.read("inventory.toml");
    let broken = "<<<<<<< ours\nversion = 1\n";
    let script = format!("curl -sSf -o /dev/null '{new}'; printf '{}' >inventory.toml", broken.replace('\n', "\\n"));
    let outcome = work.capture_sh(&origin, &script).expect_code(3);
    outcome.expect_stderr(&["inventory.toml:1:9", "the next capture takes it over"]);
    assert_eq!(work.read("inventory.toml"), broken.as_bytes());
    // And again, until somebody mends it: that is what the user gave, and nothing is started.
    let refused = work.capture_sh(&origin, "touch started").expect_code(2);
    refused.expect_stderr(&["inventory.toml:1:9"]);
    assert!(!work.path("started").exists());
    work.write("inventory.toml", good);
    work.capture_sh(&origin, "true").expect_code(0).expect_stderr(&["recovered 1 exchange"]);
    let inventory = whole(&work);
    expect_pattern(&inventory, &old, 900);
    expect_pattern(&inventory, &new, 100_000);
    assert_eq!(left_over(&work), [""; 0]);
    shows!(
        Capture,
        "a build that leaves a merge conflict in the inventory; the next capture, once that is resolved",
        "{} entries of {}, none lost",
        inventory.0.len(),
        2
    );
}

#[test]
fn a_store_that_is_removed_meanwhile_costs_only_what_was_in_it() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let [first, second, third] = ["/plain/first?size=100000", "/plain/second?size=1000", "/plain/third?size=200000"]
        .map(|path| origin.url(path));
    let script = format!(
        "curl -sSf -o /dev/null '{first}' -o /dev/null '{second}'; rm -r '{}'; curl -sSf -o got '{third}'",
        work.store().display()
    );
    let outcome = work.capture_sh(&origin, &script).expect_code(3);
    assert_eq!(work.read("got"), pattern(200_000), "the client got it all the same: {outcome}");
    work.capture_sh(&origin, "true");
    let inventory = whole(&work);
    expect_pattern(&inventory, &second, 1000);
    expect_pattern(&inventory, &third, 200_000);
    assert!(inventory.of(&first).is_empty(), "its bytes are gone");
    run(&mut work.buildproxy("verify")).expect_code(0);
    assert_eq!(left_over(&work), [""; 0]);
}

#[test]
fn captures_that_run_at_once_into_one_inventory_all_get_there() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = |run: usize, n: usize| origin.url(&format!("/plain/{run}-{n}?size={}", run * 30_000 + n + 1));
    let (runs, downloads) = (6, 8);
    std::thread::scope(|scope| {
        for number in 0..runs {
            let script = (0..downloads).map(|n| format!("curl -sSf -o /dev/null '{}'\n", url(number, n)));
            let (script, work, origin) = (script.collect::<String>(), &work, &origin);
            scope.spawn(move || work.capture_sh(origin, &script).expect_code(0));
        }
    });
    let inventory = whole(&work);
    for (number, n) in (0..runs).flat_map(|number| (0..downloads).map(move |n| (number, n))) {
        expect_pattern(&inventory, &url(number, n), number * 30_000 + n + 1);
    }
    assert_eq!(inventory.0.len(), runs * downloads);
    let text = fs::read_to_string(work.path("inventory.toml")).unwrap();
    let mut sorted = inventory.urls();
    sorted.sort_unstable();
    assert_eq!((inventory.urls(), left_over(&work)), (sorted, vec![]), "{text}");
    shows!(
        Capture,
        "captures at the same time, of different files, into one inventory and one store",
        "{runs} captures, {} entries, none lost",
        inventory.0.len()
    );
}
