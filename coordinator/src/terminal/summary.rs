//! The table at the end of a run.

use super::progress::duration;
use crate::report::{Outcome, Overview, Timings};
use std::fmt::Write;
use std::path::PathBuf;

/// The summary: metrics from float to final, what was reverted, what it cost, what was written.
pub fn summary(overview: &Overview, timings: &Timings, files: &[PathBuf]) -> String {
    let mut text = String::new();
    let verdict = match overview.outcome {
        Outcome::GoalMet => "goal met",
        Outcome::GoalMissed => "GOAL MISSED, the best model found is saved",
        Outcome::NoGoal => "quantized",
    };
    let _ = writeln!(text, "{} · {} · {verdict}\n", overview.model_name, overview.algorithm);

    let mut rows = vec![["", "float", "all int8", "result", "drop", "limit"].map(str::to_owned)];
    for metric in &overview.metrics {
        rows.push([
            metric.name.clone(),
            number(metric.baseline),
            number(metric.int8),
            number(metric.result),
            number(metric.result_drop),
            metric.limit.map_or("none".to_owned(), number),
        ]);
    }
    table(&mut text, &rows);
    text.push('\n');

    let reverted = overview.operations_reverted.len();
    let facts = [
        (
            "reverted",
            format!(
                "{reverted} of {} operations, in {} of {} groups",
                overview.operations_quantized, overview.groups_reverted, overview.groups
            ),
        ),
        ("asked for", format!("{} evaluations of {} samples in all", overview.evaluations, overview.samples)),
        (
            "computed",
            format!("{} samples; {} came from the memo store", timings.samples_computed, timings.samples_reused),
        ),
        ("wall time", duration(timings.wall_seconds)),
    ];
    for (label, fact) in facts {
        let _ = writeln!(text, "  {label:<11}{fact}");
    }
    for (index, file) in files.iter().enumerate() {
        let label = if index == 0 { "written" } else { "" };
        let _ = writeln!(text, "  {label:<11}{}", file.display());
    }
    text
}

/// First column to the left, numbers to the right.
fn table(text: &mut String, rows: &[[String; 6]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in rows {
        let _ = write!(text, "  {:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
}

/// Six decimals at most, four at least: one sample of ten thousand shows.
fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    match text.strip_suffix("00") {
        Some(shorter) => {
            if shorter == "-0.0000" {
                "0.0000".to_owned()
            } else {
                shorter.to_owned()
            }
        }
        None => text.strip_suffix('0').map_or_else(|| text.clone(), str::to_owned),
    }
}

/// A run with a rolled-back round, for tests.
#[cfg(test)]
pub(crate) fn example_overview() -> Overview {
    use crate::report::{
        AnswerOverview, MetricOverview, QuestionOverview, RankedGroup, RoundOverview, TrialOverview, TuningOverview,
    };
    let round = |group: &str, value: f64, decision: &str, kept: bool| RoundOverview {
        group: group.to_owned(),
        operations: vec![group.to_owned()],
        value,
        drop: 0.985 - value,
        decision: decision.to_owned(),
        kept,
    };
    Overview {
        model_name: "mnist_dwcnn".to_owned(),
        model_digest: holdfast_common::Digest::of(b"model"),
        algorithm: "AccuracyAwareQuantization".to_owned(),
        metrics: vec![
            MetricOverview {
                name: "accuracy@top1".to_owned(),
                baseline: 0.985,
                int8: 0.1,
                result: 0.98425,
                int8_drop: 0.885,
                result_drop: 0.00075,
                limit: Some(0.01),
            },
            MetricOverview {
                name: "top5".to_owned(),
                baseline: 1.0,
                int8: 0.5,
                result: 1.0,
                int8_drop: 0.5,
                result_drop: -0.0,
                limit: None,
            },
        ],
        operations_quantized: 17,
        operations_reverted: vec!["/f/f.4/Conv".to_owned(), "/f/f.1/Conv".to_owned()],
        groups_reverted: 2,
        groups: 16,
        tuning: Some(TuningOverview {
            samples: 300,
            trials: vec![
                TrialOverview { change: "bias correction: full".to_owned(), value: 0.41, error: -0.02 },
                TrialOverview { change: "activations: 0.001 quantiles".to_owned(), value: 0.38, error: f64::NAN },
            ],
            adopted: true,
        }),
        ranking: vec![
            RankedGroup { name: "/f/f.4/Conv".to_owned(), score: 0.9 },
            RankedGroup { name: "/f/f.1/Conv".to_owned(), score: 0.1 },
        ],
        rounds: vec![
            round("/f/f.4/Conv", 0.7, "improved, kept", true),
            round("/f/f.2/Conv", 0.6, "worse, rolled back", false),
            round("/f/f.1/Conv", 0.98425, "goal met", true),
        ],
        questions: vec![
            QuestionOverview {
                purpose: "does the best of the ranking suffice?".to_owned(),
                groups: vec!["/f/f.4/Conv".to_owned()],
                operations: 1,
                samples: 256,
                answer: AnswerOverview::Refuted(0.021),
            },
            QuestionOverview {
                purpose: "is all of it needed?".to_owned(),
                groups: vec!["/f/f.4/Conv".to_owned(), "/f/f.1/Conv".to_owned()],
                operations: 2,
                samples: 2000,
                answer: AnswerOverview::Passed(0.00075),
            },
        ],
        certainty: vec!["accuracy@top1: 3 samples that the float model gets right are wrong now.".to_owned()],
        evaluations: 21,
        samples: 14800,
        outcome: Outcome::GoalMet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_reads_like_this() {
        let timings =
            Timings { wall_seconds: 83.0, samples_computed: 12800, samples_reused: 2000, ..Timings::default() };
        let files = [PathBuf::from("results/mnist_dwcnn.onnx"), PathBuf::from("results/report.json")];
        let expected = "\
mnist_dwcnn · AccuracyAwareQuantization · goal met

                  float  all int8   result     drop   limit
  accuracy@top1  0.9850    0.1000  0.98425  0.00075  0.0100
  top5           1.0000    0.5000   1.0000   0.0000    none

  reverted   2 of 17 operations, in 2 of 16 groups
  asked for  21 evaluations of 14800 samples in all
  computed   12800 samples; 2000 came from the memo store
  wall time  1 min 23 s
  written    results/mnist_dwcnn.onnx
             results/report.json
";
        assert_eq!(summary(&example_overview(), &timings, &files), expected);
    }

    #[test]
    fn a_missed_goal_is_hard_to_overlook() {
        let overview = Overview { outcome: Outcome::GoalMissed, ..example_overview() };
        let text = summary(&overview, &Timings::default(), &[]);
        assert!(text.starts_with("mnist_dwcnn · AccuracyAwareQuantization · GOAL MISSED"), "{text}");
        assert!(!text.contains("written"));
    }
}
