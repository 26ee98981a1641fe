//! The table that a run ends with.

use std::{fmt, time::Duration};

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Shown for the record.
    None,
}

impl Goal {
    fn verdict(self, figure: f64) -> &'static str {
        let met = match self {
            Goal::AtLeast(least) => figure >= least,
            Goal::AtMost(most) => figure <= most,
            Goal::None => return "",
        };
        if met { "met" } else { "NOT met" }
    }
}

/// How a figure is written.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// Bigger is better: 0.92
    Ratio,
    /// Smaller is better: ×1.5
    Times,
    /// Per second.
    Rate,
    Milliseconds,
    Microseconds,
    Megabytes,
    /// Four places.
    Fraction,
    Count,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Ratio => format!("{value:.2}"),
            Unit::Times => format!("×{value:.2}"),
            Unit::Rate => format!("{}/s", thousands(value)),
            Unit::Milliseconds => format!("{value:.2} ms"),
            Unit::Microseconds => format!("{value:.1} µs"),
            Unit::Megabytes => format!("{value:.1} MB"),
            Unit::Fraction => format!("{value:.4}"),
            Unit::Count => thousands(value),
        }
    }

    fn show_goal(self, goal: Goal) -> String {
        match goal {
            Goal::AtMost(0.0) => self.show(0.0),
            Goal::AtLeast(least) => format!("≥ {}", self.show(least)),
            Goal::AtMost(most) => format!("≤ {}", self.show(most)),
            Goal::None => String::new(),
        }
    }
}

/// A whole number with commas: 12,345.
pub fn thousands(value: f64) -> String {
    let written = format!("{value:.0}");
    let (sign, digits) = match written.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", written.as_str()),
    };
    let mut grouped = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// One line of the table.
pub struct Row {
    figure: String,
    unit: Unit,
    ours: f64,
    note: String,
    peer: Option<f64>,
    goal: Goal,
}

impl Row {
    pub fn new(figure: impl Into<String>, unit: Unit, ours: f64, goal: Goal) -> Row {
        Row {
            figure: figure.into(),
            unit,
            ours,
            note: String::new(),
            peer: None,
            goal,
        }
    }

    /// The absolute figures behind a ratio.
    pub fn note(mut self, note: impl Into<String>) -> Row {
        self.note = note.into();
        self
    }

    /// The same figure of the plain PL/pgSQL outbox.
    pub fn peer(mut self, peer: f64) -> Row {
        self.peer = Some(peer);
        self
    }

    fn cells(&self) -> [String; 6] {
        [
            self.figure.clone(),
            self.unit.show(self.ours),
            self.peer
                .map_or_else(|| "–".to_owned(), |peer| self.unit.show(peer)),
            self.unit.show_goal(self.goal),
            self.goal.verdict(self.ours).to_owned(),
            self.note.clone(),
        ]
    }
}

const HEAD: [&str; 6] = [
    "figure",
    "ours",
    "plain PL/pgSQL",
    "goal",
    "",
    "absolute figures",
];

/// The lines above the table, and the table.
pub struct Report {
    description: String,
    rows: Vec<Row>,
    took: Duration,
}

impl Report {
    pub fn new(description: String) -> Report {
        Report {
            description,
            rows: Vec::new(),
            took: Duration::ZERO,
        }
    }

    pub fn add(&mut self, row: Row) {
        let cells = row.cells();
        crate::say(&format!("    {}: {} {}", cells[0], cells[1], cells[5]));
        self.rows.push(row);
    }

    pub fn took(&mut self, time: Duration) {
        self.took = time;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 6]> = self.rows.iter().map(Row::cells).collect();
        let widths: [usize; 6] = std::array::from_fn(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells
                .chain([HEAD[column].chars().count()])
                .max()
                .unwrap_or(0)
        });
        writeln!(f, "\n{}\n", self.description)?;
        line(f, &HEAD.map(str::to_owned), &widths)?;
        line(f, &widths.map(|width| "-".repeat(width)), &widths)?;
        for row in &rows {
            line(f, row, &widths)?;
        }
        writeln!(f, "\nmeasured in {:.0} s", self.took.as_secs_f64())
    }
}

/// Figures to the right, words to the left.
fn line(f: &mut fmt::Formatter<'_>, cells: &[String; 6], widths: &[usize; 6]) -> fmt::Result {
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, width))| match column {
            1..=3 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        })
        .collect();
    writeln!(f, "{}", padded.join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        for (value, written) in [
            (0.0, "0"),
            (999.4, "999"),
            (1_000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-1_234.0, "-1,234"),
            (-123.0, "-123"),
        ] {
            assert_eq!(thousands(value), written);
        }
    }

    #[test]
    fn goals() {
        assert_eq!(Goal::AtLeast(0.92).verdict(0.92), "met");
        assert_eq!(Goal::AtLeast(0.92).verdict(0.91), "NOT met");
        assert_eq!(Goal::AtLeast(0.92).verdict(f64::NAN), "NOT met");
        assert_eq!(Goal::AtMost(1.5).verdict(1.5), "met");
        assert_eq!(Goal::AtMost(0.0).verdict(0.1), "NOT met");
        assert_eq!(Goal::None.verdict(7.0), "");
        assert_eq!(Unit::Times.show_goal(Goal::AtMost(1.5)), "≤ ×1.50");
        assert_eq!(Unit::Count.show_goal(Goal::AtMost(0.0)), "0");
    }

    #[test]
    fn table_is_aligned() {
        let mut report = Report::new("on a test".to_owned());
        report.rows.push(
            Row::new("COPY, time", Unit::Times, 1.237, Goal::AtMost(1.5))
                .peer(3.9)
                .note("1.2 s of 1.0 s"),
        );
        report.rows.push(Row::new(
            "drain",
            Unit::Rate,
            54_321.0,
            Goal::AtLeast(60_000.0),
        ));
        let written = report.to_string();
        let lines: Vec<&str> = written.lines().skip(3).collect();
        assert_eq!(
            lines[..4],
            [
                "figure          ours  plain PL/pgSQL        goal           absolute figures",
                "----------  --------  --------------  ----------  -------  ----------------",
                "COPY, time     ×1.24           ×3.90     ≤ ×1.50  met      1.2 s of 1.0 s",
                "drain       54,321/s               –  ≥ 60,000/s  NOT met",
            ]
        );
    }
}
