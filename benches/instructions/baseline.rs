//! The accepted counts, and what is said where the counts of now differ from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

/// By how much of itself a count may grow.
const TOLERANCE: f64 = 0.05;

/// What stands above the counts in their file.
const HEAD: &str =
    "# Instructions of the hot paths, counted by `benches/instructions.sh` and accepted by its `--accept`.\n\n";

/// What was counted, and with what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Counts {
    /// Everything beside the code that counts depend on.
    pub made_with: BTreeMap<String, String>,
    /// By name of the benchmark.
    pub instructions: BTreeMap<String, u64>,
}

impl Counts {
    /// Reads the text that [`to_text`](Self::to_text) gives.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The text of the file.
    ///
    /// # Errors
    /// None that this data can have.
    pub fn to_text(&self) -> Result<String, toml::ser::Error> {
        Ok(format!("{HEAD}{}", toml::to_string(self)?))
    }
}

/// How the counts of now differ from the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    rows: Vec<Row>,
    /// What the counts were made with, where that is not the same: its name, in the baseline, now.
    made_with: Vec<(String, String, String)>,
}

/// One benchmark in both counts.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    name: String,
    baseline: Option<u64>,
    now: Option<u64>,
}

/// What became of one benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Same,
    Grown,
    Fallen,
    /// Counted now, not in the baseline.
    New,
    /// In the baseline, not counted now.
    Gone,
}

/// Compares `now` with `baseline`.
pub fn compare(baseline: &Counts, now: &Counts) -> Comparison {
    let rows = paired(&baseline.instructions, &now.instructions).map(|(name, baseline, now)| Row {
        name: name.clone(),
        baseline: baseline.copied(),
        now: now.copied(),
    });
    let text = |value: Option<&String>| value.map_or("nothing", String::as_str).to_owned();
    let made_with = paired(&baseline.made_with, &now.made_with)
        .filter(|(_, then, now)| then != now)
        .map(|(name, then, now)| (name.clone(), text(then), text(now)));
    Comparison { rows: rows.collect(), made_with: made_with.collect() }
}

/// Every key of either map, with what each has for it.
fn paired<'a, V>(
    a: &'a BTreeMap<String, V>,
    b: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = (&'a String, Option<&'a V>, Option<&'a V>)> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names.into_iter().map(move |name| (name, a.get(name), b.get(name)))
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        Some(self.now? as f64 / self.baseline? as f64)
    }

    fn verdict(&self) -> Verdict {
        match (self.baseline, self.ratio()) {
            (None, _) => Verdict::New,
            (_, None) => Verdict::Gone,
            (_, Some(ratio)) if ratio > 1.0 + TOLERANCE => Verdict::Grown,
            (_, Some(ratio)) if ratio < 1.0 - TOLERANCE => Verdict::Fallen,
            _ => Verdict::Same,
        }
    }
}

impl Comparison {
    /// Whether a benchmark grew or is on one side alone. Growth counts only where both sides were made with the same.
    pub fn failed(&self) -> bool {
        self.has(Verdict::New) || self.has(Verdict::Gone) || (self.has(Verdict::Grown) && self.made_with.is_empty())
    }

    /// What follows from the table, and what to do.
    pub fn conclusion(&self) -> String {
        let grew = format!("grew by more than {}%", TOLERANCE * 100.0);
        let to_accept =
            "where that is meant, run `benches/instructions.sh --accept` and commit the file that it writes";
        if self.failed() {
            format!("failed: something {grew} or is on one side alone\n\nhint: {to_accept}")
        } else if self.has(Verdict::Grown) {
            format!("something {grew}, but it was not made with the same: nothing follows\n\nhint: {to_accept}")
        } else if self.has(Verdict::Fallen) {
            format!("nothing {grew}, and something fell by more than that\n\nhint: {to_accept}")
        } else {
            format!("nothing {grew}")
        }
    }

    fn has(&self, verdict: Verdict) -> bool {
        self.rows.iter().any(|row| row.verdict() == verdict)
    }
}

/// The table, then what the two sides were not alike made with.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let number = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
        writeln!(f, "{:width$}  {:>12}  {:>12}  {:>6}", "instructions", "baseline", "now", "ratio")?;
        for row in &self.rows {
            let ratio = row.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
            let verdict = match row.verdict() {
                Verdict::Same => "",
                Verdict::Grown => "  GREW",
                Verdict::Fallen => "  fell",
                Verdict::New => "  NOT IN THE BASELINE",
                Verdict::Gone => "  NOT COUNTED",
            };
            let (baseline, now) = (number(row.baseline), number(row.now));
            writeln!(f, "{:width$}  {baseline:>12}  {now:>12}  {ratio:>6}{verdict}", row.name)?;
        }
        for (name, then, now) in &self.made_with {
            writeln!(f, "not the same {name}: {then} made the baseline, {now} these counts")?;
        }
        Ok(())
    }
}
