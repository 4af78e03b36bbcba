//! The results: a table for people, JSON for programs, and the bars.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::load::Sample;

/// What a server made of a case.
pub struct Row {
    pub case: String,
    pub server: String,
    pub is_small: bool,
    pub samples: Vec<Sample>,
    /// Why there is nothing, or less than was asked for.
    pub problem: Option<String>,
}

/// A figure that is compared.
#[derive(Debug, Clone, Copy)]
pub enum Figure {
    Rate,
    Cpu,
    Peak,
}

/// What is wanted of a ratio between two servers in one case.
pub struct Bar {
    pub case: &'static str,
    pub ours: &'static str,
    pub rival: &'static str,
    pub figure: Figure,
    pub at_least: bool,
    pub ratio: f64,
}

impl Row {
    fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        let mut values: Vec<f64> = self.samples.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        match values.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => values[count / 2],
            count => (values[count / 2 - 1] + values[count / 2]) / 2.,
        }
    }

    /// How far the rates of the runs lie apart, as a part of their median.
    fn spread(&self) -> f64 {
        let rates = self.samples.iter().map(|sample| sample.rate);
        let (least, most) = (rates.clone().fold(f64::INFINITY, f64::min), rates.fold(0., f64::max));
        (most - least) / self.median(|sample| sample.rate)
    }

    fn figure(&self, figure: Figure) -> f64 {
        match figure {
            Figure::Rate => self.median(|sample| sample.rate),
            Figure::Cpu => self.median(|sample| sample.cpu),
            Figure::Peak => self.median(|sample| sample.peak),
        }
    }

    /// With every sample.
    pub fn json(&self) -> Value {
        let number = |value: f64| if value.is_finite() { json!((value * 1000.).round() / 1000.) } else { Value::Null };
        let sample = |sample: &Sample| {
            json!({
                "rate": number(sample.rate), "cpu": number(sample.cpu), "peak-mib": number(sample.peak),
                "p50-us": number(sample.p50), "p99-us": number(sample.p99),
            })
        };
        json!({
            "case": self.case, "server": self.server,
            "rate-unit": if self.is_small { "answers/s" } else { "MB/s" },
            "cpu-unit": if self.is_small { "us/answer" } else { "s/GiB" },
            "samples": self.samples.iter().map(sample).collect::<Vec<_>>(),
            "problem": self.problem,
        })
    }
}

/// Rows of one case together, medians, one line each.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut case = "";
    for row in rows {
        if row.case != case {
            case = &row.case;
            let units = if row.is_small { ["answers/s", "CPU us each"] } else { ["MB/s", "CPU s/GiB"] };
            let _ = writeln!(
                text,
                "\n{:<44} {:>10} {:>7} {:>12} {:>9} {:>9} {:>9}",
                row.case, units[0], "spread", units[1], "peak MiB", "p50 us", "p99 us"
            );
        }
        if let Some(problem) = &row.problem {
            let _ = writeln!(text, "  {:<42} {problem}", row.server);
        }
        if row.samples.is_empty() {
            continue;
        }
        let shown =
            |value: f64, digits: usize| if value.is_nan() { String::new() } else { format!("{value:.digits$}") };
        let _ = writeln!(
            text,
            "  {:<42} {:>10} {:>6.0}% {:>12} {:>9} {:>9} {:>9}",
            row.server,
            shown(row.figure(Figure::Rate), 0),
            row.spread() * 100.,
            shown(row.figure(Figure::Cpu), if row.is_small { 1 } else { 3 }),
            shown(row.figure(Figure::Peak), 1),
            shown(row.median(|sample| sample.p50), 0),
            shown(row.median(|sample| sample.p99), 0),
        );
    }
    text
}

/// How the bars that these rows can tell of were kept.
pub fn bars(rows: &[Row], bars: &[Bar]) -> String {
    let mut text = String::new();
    for bar in bars {
        let value = |server: &str| {
            let row = rows.iter().find(|row| row.case == bar.case && row.server.starts_with(server));
            row.map(|row| row.figure(bar.figure)).filter(|value| value.is_finite())
        };
        let (Some(ours), Some(rival)) = (value(bar.ours), value(bar.rival)) else { continue };
        let ratio = ours / rival;
        let kept = if bar.at_least { ratio >= bar.ratio } else { ratio <= bar.ratio };
        let _ = writeln!(
            text,
            "{} {:<34} {:<5} {:>7.3} of {:<14} (bar: {} {})",
            if kept { "kept  " } else { "MISSED" },
            bar.case,
            format!("{:?}", bar.figure).to_lowercase(),
            ratio,
            bar.rival,
            if bar.at_least { "at least" } else { "at most" },
            format!("{:.3}", bar.ratio).trim_end_matches('0').trim_end_matches('.'),
        );
    }
    text
}
