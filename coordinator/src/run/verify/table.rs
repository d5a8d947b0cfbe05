//! What `holdfast verify` shows: metrics side by side, and how often both engines say the same.

use ndarray::ArrayD;
use std::fmt::{Display, Formatter, Result};
use std::path::PathBuf;

/// One metric.
pub(super) struct Row {
    /// Its name.
    pub(super) metric: String,
    /// What the report says, where it speaks of these samples.
    pub(super) promised: Option<f64>,
    /// What this program's engine gives.
    pub(super) ours: f64,
    /// What the runtime gives.
    pub(super) theirs: f64,
    /// How far the runtime's may be from either.
    pub(super) allowed: f64,
}

impl Row {
    /// The larger of the runtime's distances from what was promised and from what this program gives.
    fn difference(&self) -> f64 {
        let promised = self.promised.map_or(0.0, |promised| (self.theirs - promised).abs());
        promised.max((self.theirs - self.ours).abs())
    }

    /// Nothing is near to what is not a number.
    fn is_kept(&self) -> bool {
        let is_near = |value: f64| (self.theirs - value).abs() <= self.allowed;
        is_near(self.ours) && self.promised.is_none_or(is_near)
    }
}

/// How often both say the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Agreement {
    /// Samples compared.
    pub(super) samples: usize,
    /// Samples whose output is one vector of scores.
    predictions: usize,
    /// Those of them with the same best class.
    equal_predictions: usize,
    /// Samples whose outputs are equal bit for bit.
    equal_outputs: usize,
    /// Sum of the normalised squared errors of the outputs.
    error: f64,
}

impl Agreement {
    /// Counts a sample: the outputs that predictions are read from, whether all outputs are equal, their distance.
    pub(super) fn add(
        &mut self,
        ours: Option<&ArrayD<f32>>,
        theirs: Option<&ArrayD<f32>>,
        equal_outputs: bool,
        error: f64,
    ) {
        self.samples += 1;
        self.equal_outputs += usize::from(equal_outputs);
        self.error += error;
        if let (Some(ours), Some(theirs)) = (ours.and_then(best), theirs.and_then(best)) {
            self.predictions += 1;
            self.equal_predictions += usize::from(ours == theirs);
        }
    }
}

/// The best class of a vector of scores, the first of equal ones; `None` for other outputs.
fn best(scores: &ArrayD<f32>) -> Option<usize> {
    let is_vector = scores.shape().iter().filter(|&&length| length != 1).count() == 1;
    let first_best = |best: (usize, f32), (index, &score): (usize, &f32)| {
        if score > best.1 { (index, score) } else { best }
    };
    is_vector.then(|| scores.iter().enumerate().fold((0, f32::NEG_INFINITY), first_best).0)
}

/// Everything shown.
pub(super) struct Table {
    /// The runtime's name.
    pub(super) runtime: &'static str,
    /// Its name and version.
    pub(super) title: String,
    /// The model.
    pub(super) model: PathBuf,
    /// A row a metric.
    pub(super) rows: Vec<Row>,
    /// Agreement sample by sample.
    pub(super) agreement: Agreement,
    /// What a reader should know besides.
    pub(super) note: Option<&'static str>,
}

impl Table {
    /// Whether every metric is what was promised and measured, as near as is allowed.
    pub(super) fn is_kept(&self) -> bool {
        self.rows.iter().all(Row::is_kept)
    }
}

fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    if trimmed.is_empty() || trimmed == "-0" { "0".to_owned() } else { trimmed.to_owned() }
}

fn share(part: usize, of: usize) -> String {
    format!("{part} of {of} ({:.2} %)", 100.0 * part as f64 / of.max(1) as f64)
}

impl Display for Table {
    fn fmt(&self, text: &mut Formatter<'_>) -> Result {
        let Table { agreement, .. } = self;
        writeln!(text, "{} in {}, {} samples\n", self.model.display(), self.title, agreement.samples)?;
        let mut cells =
            vec![["metric", "promised", "ours", self.runtime, "difference", "allowed", ""].map(str::to_owned)];
        cells.extend(self.rows.iter().map(|row| {
            let promised = row.promised.map_or_else(|| "–".to_owned(), number);
            let verdict = if row.is_kept() { "kept" } else { "NOT KEPT" }.to_owned();
            let [ours, theirs] = [row.ours, row.theirs].map(number);
            [row.metric.clone(), promised, ours, theirs, number(row.difference()), number(row.allowed), verdict]
        }));
        let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..7).map(width).collect();
        for row in &cells {
            let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(text, "{}", line.join("  ").trim_end())?;
        }
        writeln!(text)?;
        if agreement.predictions > 0 {
            writeln!(text, "equal predictions: {}", share(agreement.equal_predictions, agreement.predictions))?;
        }
        let mean = agreement.error / agreement.samples.max(1) as f64;
        let equal = share(agreement.equal_outputs, agreement.samples);
        writeln!(text, "equal outputs, bit for bit: {equal}; mean normalised squared error {mean:.3e}")?;
        if let Some(note) = self.note {
            writeln!(text, "note: {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    fn table(promised: Option<f64>, ours: f64, theirs: f64) -> Table {
        let mut agreement = Agreement::default();
        let (a, b) = (arr1(&[1.0, 2.0]).into_dyn(), arr1(&[3.0, 2.0]).into_dyn());
        agreement.add(Some(&a), Some(&a), true, 0.0);
        agreement.add(Some(&a), Some(&b), false, 0.5);
        let row = Row { metric: "top1".to_owned(), promised, ours, theirs, allowed: 0.01 };
        let model = PathBuf::from("net.onnx");
        Table { runtime: "other", title: "other 1.0".to_owned(), model, rows: vec![row], agreement, note: None }
    }

    #[test]
    fn a_promise_is_kept_where_the_runtime_is_near_to_both() {
        for (promised, ours, theirs, is_kept) in [
            (Some(0.5), 0.5, 0.505, true),
            (Some(0.5), 0.5, 0.52, false),
            (Some(0.5), 0.52, 0.52, false),
            (None, 0.52, 0.52, true),
            (None, 0.5, f64::NAN, false),
        ] {
            assert_eq!(table(promised, ours, theirs).is_kept(), is_kept, "{promised:?} {ours} {theirs}");
        }
    }

    #[test]
    fn what_is_equal_is_counted_sample_by_sample() {
        let text = table(Some(0.5), 0.5, 0.52).to_string();
        assert!(text.contains("equal predictions: 1 of 2 (50.00 %)"), "{text}");
        assert!(text.contains("bit for bit: 1 of 2 (50.00 %); mean normalised squared error 2.500e-1"), "{text}");
        assert!(text.contains("NOT KEPT"), "{text}");
    }
}
