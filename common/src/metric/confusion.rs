//! How often each class was predicted, was true, and both: what F1, precision, recall and Matthews correlation share.

use super::input::{Input, best};
use super::{MetricError, Outputs};
use crate::dataset::Annotation;
use std::collections::BTreeMap;

/// One class's share of the confusion matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClassCounts {
    /// Predicted and true.
    pub(super) hits: u64,
    /// Predicted.
    pub(super) predicted: u64,
    /// True.
    pub(super) labelled: u64,
}

/// Counts of every class that was predicted or true at least once.
pub(super) type Confusion = BTreeMap<u32, ClassCounts>;

/// `[predicted class, label]`.
pub(super) fn contribution(
    input: &Input,
    outputs: &Outputs<'_>,
    annotation: &Annotation,
) -> Result<Vec<f64>, MetricError> {
    let scores = input.scores(outputs)?;
    let label = input.label(annotation, scores.len())?;
    Ok(vec![best(&scores) as f64, label as f64])
}

/// Counts contributions.
pub(super) fn count(input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<Confusion, MetricError> {
    let class = |value: f64| {
        let is_class = value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value);
        let refuse = || input.output_error(format!("a stored contribution holds {value}, which is no class index"));
        is_class.then_some(value as u32).ok_or_else(refuse)
    };
    let mut confusion = Confusion::new();
    input.fold_each(contributions, |[predicted, label]| {
        let (predicted, label) = (class(predicted)?, class(label)?);
        confusion.entry(predicted).or_default().predicted += 1;
        let counts = confusion.entry(label).or_default();
        counts.labelled += 1;
        counts.hits += u64::from(predicted == label);
        Ok(())
    })?;
    Ok(confusion)
}

/// Unweighted mean over the classes that occur, in label order; a ratio without denominator counts as 0 (scikit-learn's
/// `average="macro"`, `zero_division=0`).
pub(super) fn macro_average(confusion: &Confusion, ratio: impl Fn(&ClassCounts) -> (u64, u64)) -> f64 {
    let mut sum = 0.0;
    for counts in confusion.values() {
        let (numerator, denominator) = ratio(counts);
        if denominator > 0 {
            sum += numerator as f64 / denominator as f64;
        }
    }
    sum / confusion.len() as f64
}

/// 1 for a right prediction, 0 for a wrong one: what the averaged ratios are for one sample by itself.
pub(super) fn is_hit(contribution: &[f64]) -> Option<f64> {
    match contribution {
        [predicted, label] => Some(if predicted == label { 1.0 } else { 0.0 }),
        _ => None,
    }
}
