//! What the benchmark of instruction counts makes of its counts: when it fails, and what it says.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../benches/instructions/baseline.rs"]
mod baseline;

use baseline::{Comparison, Counts, compare};

fn counts(rustc: &str, instructions: &[(&str, u64)]) -> Counts {
    let instructions = instructions.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
    Counts { made_with: [("rustc".to_owned(), rustc.to_owned())].into(), instructions }
}

/// A baseline of 1000 compared with `now`.
fn against_1000(now: u64) -> Comparison {
    compare(&counts("1", &[("a", 1000)]), &counts("1", &[("a", now)]))
}

#[test]
fn what_is_written_reads_back() {
    let counts = counts("rustc 1.0 (x)", &[("look_up/plain", 7), ("a", 1 << 40)]);
    assert_eq!(Counts::parse(&counts.to_text().unwrap()).unwrap(), counts);
    assert!(Counts::parse("").is_err());
    assert!(Counts::parse("[made-with]\n[instructions]\na = -1").is_err());
}

#[test]
fn growth_above_the_tolerance_fails_and_says_how_to_accept_it() {
    let grown = against_1000(1051);
    assert!(grown.failed());
    let text = grown.to_string();
    assert!(text.contains("1000") && text.contains("1051   1.051  GREW"), "{text}");
    let conclusion = grown.conclusion();
    assert!(conclusion.starts_with("failed") && conclusion.contains("--accept"), "{conclusion}");
}

#[test]
fn up_to_the_tolerance_nothing_fails() {
    for now in [950, 1000, 1050] {
        let comparison = against_1000(now);
        assert!(!comparison.failed() && !comparison.conclusion().contains("hint"), "{comparison}");
    }
}

#[test]
fn a_fall_is_said_and_does_not_fail() {
    let fallen = against_1000(949);
    assert!(!fallen.failed());
    assert!(fallen.to_string().contains("0.949  fell"), "{fallen}");
    assert!(fallen.conclusion().contains("something fell"), "{}", fallen.conclusion());
}

#[test]
fn a_benchmark_on_one_side_alone_fails() {
    let (one, two) = (counts("1", &[("a", 1)]), counts("1", &[("a", 1), ("b", 2)]));
    for (baseline, now, said) in [(&one, &two, "NOT IN THE BASELINE"), (&two, &one, "NOT COUNTED")] {
        let comparison = compare(baseline, now);
        assert!(comparison.failed() && comparison.to_string().contains(said), "{comparison}");
    }
}

#[test]
fn counts_of_another_compiler_are_shown_and_fail_nothing() {
    let (then, now) = (counts("1.90", &[("a", 1000)]), counts("1.95", &[("a", 2000)]));
    let comparison = compare(&then, &now);
    assert!(!comparison.failed());
    let text = comparison.to_string();
    assert!(text.contains("GREW") && text.contains("not the same rustc: 1.90 made the baseline, 1.95"), "{text}");
    assert!(comparison.conclusion().contains("nothing follows"), "{}", comparison.conclusion());
    assert!(compare(&then, &counts("1.95", &[])).failed(), "a benchmark that is gone is gone everywhere");
}
