//! The result: one line per figure, with its baseline and its goal.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::measure::median;

/// What a figure should be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The measured figure is at most this.
    AtMost(f64),
    /// The measured figure is at least this.
    AtLeast(f64),
    /// Measured / baseline, run by run, is at most this.
    RatioAtMost(f64),
    /// Shown only.
    None,
}

/// A figure measured beside the one it is compared with.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The group, by which `--only` selects.
    pub row: &'static str,
    /// What was measured.
    pub what: String,
    /// The unit of measured and baseline.
    pub unit: &'static str,
    /// One figure per run.
    pub measured: Vec<f64>,
    /// What the baseline is; empty if there is none.
    pub baseline: String,
    /// One figure per run, same order.
    pub baseline_measured: Vec<f64>,
    /// What it should be.
    pub goal: Goal,
    /// Anything a reader has to know.
    pub note: String,
}

impl Line {
    /// A line without baseline and goal.
    pub fn new(
        row: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        measured: Vec<f64>,
    ) -> Self {
        Self {
            row,
            what: what.into(),
            unit,
            measured,
            baseline: String::new(),
            baseline_measured: Vec::new(),
            goal: Goal::None,
            note: String::new(),
        }
    }

    /// Compares it with `measured` of the same runs.
    #[must_use]
    pub fn beside(mut self, what: impl Into<String>, measured: Vec<f64>) -> Self {
        self.baseline = what.into();
        self.baseline_measured = measured;
        self
    }

    /// Says what it should be.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = goal;
        self
    }

    /// Adds a remark.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Median of measured / baseline, run by run.
    pub fn ratio(&self) -> Option<f64> {
        if self.baseline_measured.is_empty() || self.baseline_measured.len() != self.measured.len()
        {
            return None;
        }
        let ratios: Vec<f64> = self
            .measured
            .iter()
            .zip(&self.baseline_measured)
            .map(|(ours, base)| ours / base)
            .collect();
        Some(median(&ratios))
    }

    /// Whether the goal is met, `None` without a goal.
    pub fn met(&self) -> Option<bool> {
        let value = median(&self.measured);
        match self.goal {
            Goal::AtMost(most) => Some(value <= most),
            Goal::AtLeast(least) => Some(value >= least),
            Goal::RatioAtMost(most) => Some(self.ratio().is_some_and(|ratio| ratio <= most)),
            Goal::None => None,
        }
    }

    fn cells(&self) -> [String; 7] {
        let goal = match self.goal {
            Goal::AtMost(most) => format!("≤ {}", number(most)),
            Goal::AtLeast(least) => format!("≥ {}", number(least)),
            Goal::RatioAtMost(most) => format!("ratio ≤ {}", number(most)),
            Goal::None => "–".to_owned(),
        };
        let baseline = match &self.baseline_measured[..] {
            [] => "–".to_owned(),
            figures => format!("{} {}", spread(figures), self.baseline),
        };
        let met = match self.met() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "–",
        };
        [
            self.what.clone(),
            self.unit.to_owned(),
            spread(&self.measured),
            baseline,
            self.ratio()
                .map_or("–".to_owned(), |ratio| format!("{ratio:.2}")),
            goal,
            met.to_owned(),
        ]
    }
}

/// `median (least–most)`, or the one figure.
fn spread(figures: &[f64]) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match figures.len() {
        0 => "failed".to_owned(),
        1 => number(figures[0]),
        _ => format!(
            "{} ({}–{})",
            number(median(figures)),
            number(least),
            number(most)
        ),
    }
}

/// Three significant digits, thousands grouped.
fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "–".to_owned()
    } else if size >= 1000.0 {
        let digits = format!("{value:.0}");
        let mut grouped = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place) % 3 == 0 && grouped != "-" {
                grouped.push(' ');
            }
            grouped.push(digit);
        }
        grouped
    } else {
        let text = match size {
            100.0.. => format!("{value:.0}"),
            10.0.. => format!("{value:.1}"),
            1.0.. => format!("{value:.2}"),
            _ => format!("{value:.3}"),
        };
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    }
}

/// The lines as a table of text.
pub struct Table<'a>(pub &'a [Line]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "what",
            "unit",
            "measured",
            "baseline of the same run",
            "ratio",
            "goal",
            "met",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.0.iter().map(Line::cells));
        let widths: Vec<usize> = (0..head.len())
            .map(|column| {
                rows.iter()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for (index, row) in rows.iter().enumerate() {
            let mut text = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                write!(text, "{cell:<width$}  ")?;
            }
            writeln!(f, "{}", text.trim_end())?;
            if index == 0 {
                let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                writeln!(f, "{}", rules.join("  "))?;
            }
        }
        for line in self.0.iter().filter(|line| !line.note.is_empty()) {
            writeln!(f, "\n{}: {}", line.what, line.note)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_taken_run_by_run() {
        let line = Line::new("x", "writes", "µs", vec![2.0, 40.0, 3.0])
            .beside("bare", vec![1.0, 20.0, 3.0])
            .goal(Goal::RatioAtMost(2.0));
        assert!((line.ratio().unwrap() - 2.0).abs() < 1e-9);
        assert_eq!(line.met(), Some(true));
        assert_eq!(line.clone().goal(Goal::AtMost(2.9)).met(), Some(false));
        let table = Table(&[line]).to_string();
        assert!(table.contains("3 (2–40)"), "{table}");
        assert!(table.contains("ratio ≤ 2"), "{table}");
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let shown: Vec<String> = [0.01234, 1.5, 25_000.0, 118_000.4, 100.0]
            .map(number)
            .into();
        assert_eq!(shown, ["0.012", "1.5", "25 000", "118 000", "100"]);
    }
}
