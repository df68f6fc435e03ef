//! Prints the figures: a table for people, or with `--json` one document for programs.

use serde_json::{Value, json};

use super::Samples;

/// The command line. Cargo's `--bench` is ignored.
#[derive(Debug, Clone, Copy)]
pub struct Args {
    /// Few rounds and few tenants: shows that the benchmark runs; the figures mean nothing.
    pub quick: bool,
    json: bool,
}

impl Args {
    pub fn read() -> Self {
        let has = |flag: &str| std::env::args().any(|arg| arg == flag);
        Self { quick: has("--quick"), json: has("--json") }
    }
}

/// The goal of a ratio.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }

    fn words(self) -> String {
        match self {
            Self::AtMost(most) => format!("at most {most}"),
            Self::AtLeast(least) => format!("at least {least}"),
        }
    }
}

/// Collects rows and prints them.
pub struct Report {
    args: Args,
    benchmark: &'static str,
    machine: String,
    rows: Vec<Value>,
}

impl Report {
    pub fn begin(args: Args, benchmark: &'static str, machine: String) -> Self {
        let report = Self { args, benchmark, machine, rows: Vec::new() };
        report.say(&format!("{benchmark}, on {}", report.machine));
        report.say(&format!("command: {}", report.command()));
        if args.quick {
            report.say("quick: shows that it runs; the figures mean nothing");
        }
        report
    }

    fn command(&self) -> String {
        let quick = if self.args.quick { " -- --quick" } else { "" };
        format!("cargo bench --bench {}{quick}", self.benchmark)
    }

    /// Prints a heading.
    pub fn section(&mut self, title: &str) {
        self.say(&format!("\n{title}"));
        self.rows.push(json!({ "section": title }));
    }

    /// Prints a sentence about the figures.
    pub fn note(&mut self, text: &str) {
        self.say(&format!("  {text}"));
        self.rows.push(json!({ "note": text }));
    }

    /// Prints a single figure.
    pub fn figure(&mut self, what: &str, figure: f64, unit: &str) {
        self.say(&format!("  {what:48} {} {unit}", number(figure)));
        self.rows.push(json!({ "what": what, "median": figure, "unit": unit }));
    }

    /// Prints the median of several rounds, with the least and the most.
    pub fn measured(&mut self, what: &str, samples: &Samples, unit: &str) {
        let (median, least, most) = (samples.median(), samples.least(), samples.most());
        self.say(&format!(
            "  {what:48} {} {unit:10} ({} to {}, {} rounds)",
            number(median),
            number(least).trim(),
            number(most).trim(),
            samples.0.len()
        ));
        self.rows.push(json!({
            "what": what, "median": median, "least": least, "most": most, "unit": unit,
            "rounds": samples.0.len(),
        }));
    }

    /// Prints a ratio to the baseline of the same rounds, and whether it meets its goal.
    pub fn ratio(&mut self, what: &str, ratio: &Samples, goal: Option<Goal>) {
        let median = ratio.median();
        let verdict = goal.map(|goal| (goal.words(), goal.is_met(median)));
        let words = verdict.as_ref().map_or(String::new(), |(words, met)| {
            format!("  goal: {words}: {}", if *met { "met" } else { "MISSED" })
        });
        self.say(&format!(
            "  {what:48} {median:10.2} times      ({:.2} to {:.2}){words}",
            ratio.least(),
            ratio.most()
        ));
        self.rows.push(json!({
            "what": what, "ratio": median, "least": ratio.least(), "most": ratio.most(),
            "goal": verdict.as_ref().map(|(words, _)| words), "met": verdict.map(|(_, met)| met),
        }));
    }

    pub fn end(self) {
        if self.args.json {
            let document = json!({
                "benchmark": self.benchmark, "machine": self.machine, "command": self.command(),
                "quick": self.args.quick, "rows": self.rows,
            });
            println!("{document:#}");
        }
    }

    fn say(&self, line: &str) {
        if !self.args.json {
            println!("{line}");
        }
    }
}

fn number(figure: f64) -> String {
    match figure.abs() {
        0.0..10.0 => format!("{figure:10.2}"),
        10.0..1000.0 => format!("{figure:10.1}"),
        _ => format!("{figure:10.0}"),
    }
}
