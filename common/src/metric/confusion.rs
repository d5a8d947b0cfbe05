//! How often each class was predicted, was true, and both: what F1, precision, recall and Matthews correlation share.

use super::input::{Input, best};
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Outputs};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};
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
    let mut confusion = Confusion::new();
    input.fold_each(contributions, |[predicted, label]| {
        let (predicted, label) = (input.index(predicted)?, input.index(label)?);
        confusion.entry(predicted).or_default().predicted += 1;
        let counts = confusion.entry(label).or_default();
        counts.labelled += 1;
        counts.hits += u64::from(predicted == label);
        Ok(())
    })?;
    Ok(confusion)
}

/// How the scores of classes become one (scikit-learn's `average`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// Unweighted mean over the classes.
    Macro,
    /// The score of all classes' counts together.
    Micro,
    /// Mean weighted by how often a class is true.
    Weighted,
    /// The score of one class.
    Binary,
}

/// Which classes a sample is predicted to have, and how their scores are averaged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classes {
    /// How the classes' scores become one.
    pub average: Average,
    /// The class that `Average::Binary` scores.
    pub pos_label: u32,
    /// `None`: a sample has one class, the one of the largest score. Otherwise it has all whose score is at least this.
    pub threshold: Option<f64>,
}

impl Classes {
    pub(super) fn read(parameters: &mut Parameters<'_>) -> Result<Classes, DeclarationError> {
        let words = [
            ("macro", Average::Macro),
            ("micro", Average::Micro),
            ("weighted", Average::Weighted),
            ("binary", Average::Binary),
        ];
        let average = parameters.choice("average", &words)?.unwrap_or(Average::Macro);
        let pos_label = parameters.count("pos_label", 0)?;
        let threshold = parameters.number("threshold", f64::MIN, f64::MAX)?;
        if pos_label.is_some() && average != Average::Binary {
            return parameters.refuse("pos_label", "goes with \"average\": \"binary\" only; remove it");
        }
        match u32::try_from(pos_label.unwrap_or(1)) {
            Ok(pos_label) => Ok(Classes { average, pos_label, threshold }),
            Err(_) => parameters.refuse("pos_label", "is too large for a class index"),
        }
    }

    pub(super) fn truth(&self) -> Truth {
        if self.threshold.is_some() { Truth::Labels } else { Truth::Label }
    }

    /// `[predicted class, label]`; of samples with several classes `[classes, then class, 1 (predicted) + 2 (true)]` for
    /// every class that is either.
    pub(super) fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        let Some(threshold) = self.threshold else { return contribution(input, outputs, annotation) };
        let scores = input.scores(outputs)?;
        let labels = input.labels(annotation, scores.len())?;
        let mut contribution = vec![scores.len() as f64];
        for (class, score) in scores.iter().enumerate() {
            let is_predicted = f64::from(*score) >= threshold;
            let is_true = labels.binary_search(&(class as u32)).is_ok();
            if is_predicted || is_true {
                contribution.extend([class as f64, f64::from(u8::from(is_predicted) + 2 * u8::from(is_true))]);
            }
        }
        Ok(contribution)
    }

    /// The ratio of one sample by itself: 1 or 0 where it has one class.
    pub(super) fn sample_value(&self, contribution: &[f64], ratio: impl Fn(&ClassCounts) -> (u64, u64)) -> Option<f64> {
        if self.threshold.is_none() {
            return match contribution {
                [predicted, label] => Some(if predicted == label { 1.0 } else { 0.0 }),
                _ => None,
            };
        }
        let (pairs, _) = contribution.get(1..)?.as_chunks::<2>();
        let mut counts = ClassCounts::default();
        pairs.iter().for_each(|[_, kind]| counts.add(*kind));
        let (numerator, denominator) = ratio(&counts);
        Some(if denominator > 0 { numerator as f64 / denominator as f64 } else { 1.0 })
    }

    /// Every true class predicted and no other: that adds hits, takes wrong predictions away, and leaves what is true, so
    /// that precision, recall and F1 of no class get worse, nor any mean of them. A class that is gone with its last wrong
    /// prediction had a score of 0.
    pub(super) fn best_contribution(&self, known: &[f64]) -> Option<Vec<f64>> {
        if self.threshold.is_none() {
            return match known {
                [_, label] => Some(vec![*label, *label]),
                _ => None,
            };
        }
        let (count, pairs) = known.split_first()?;
        let (pairs, rest) = pairs.as_chunks::<2>();
        let is_true = pairs.iter().filter(|[_, kind]| *kind >= 2.0);
        let found = is_true.flat_map(|[class, _]| [*class, 3.0]);
        rest.is_empty().then(|| std::iter::once(*count).chain(found).collect())
    }

    pub(super) fn fold(
        &self,
        input: &Input,
        contributions: &mut dyn Iterator<Item = &[f64]>,
        ratio: impl Fn(&ClassCounts) -> (u64, u64),
    ) -> Result<f64, MetricError> {
        let confusion = match self.threshold {
            None => count(input, contributions)?,
            Some(_) => count_several(input, contributions)?,
        };
        Ok(self.averaged(&confusion, ratio))
    }

    /// A ratio without denominator counts as 0 (scikit-learn's `zero_division=0`).
    fn averaged(&self, confusion: &Confusion, ratio: impl Fn(&ClassCounts) -> (u64, u64)) -> f64 {
        let value = |counts: &ClassCounts| {
            let (numerator, denominator) = ratio(counts);
            if denominator > 0 { numerator as f64 / denominator as f64 } else { 0.0 }
        };
        match self.average {
            Average::Macro => confusion.values().map(value).sum::<f64>() / confusion.len() as f64,
            Average::Micro => {
                let mut all = ClassCounts::default();
                for counts in confusion.values() {
                    all.hits += counts.hits;
                    all.predicted += counts.predicted;
                    all.labelled += counts.labelled;
                }
                value(&all)
            }
            Average::Weighted => {
                let labelled: u64 = confusion.values().map(|counts| counts.labelled).sum();
                let sum: f64 = confusion.values().map(|counts| value(counts) * counts.labelled as f64).sum();
                if labelled > 0 { sum / labelled as f64 } else { 0.0 }
            }
            Average::Binary => confusion.get(&self.pos_label).map_or(0.0, value),
        }
    }
}

impl ClassCounts {
    /// Adds a class that was predicted (1), true (2) or both (3).
    fn add(&mut self, kind: f64) {
        let (is_predicted, is_true) = (kind == 1.0 || kind == 3.0, kind == 2.0 || kind == 3.0);
        self.predicted += u64::from(is_predicted);
        self.labelled += u64::from(is_true);
        self.hits += u64::from(is_predicted && is_true);
    }
}

/// Counts of every class the model scores, also of those that never occur.
fn count_several(input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<Confusion, MetricError> {
    let mut confusion = Confusion::new();
    let mut classes = 0;
    input.fold_lists(contributions, |contribution| {
        let Some((count, pairs)) = contribution.split_first() else { return Err(input.broken("no number of classes")) };
        let found = input.index(*count)?;
        if found == 0 || (classes != 0 && found != classes) {
            return Err(input.broken("another number of classes than the first"));
        }
        classes = found;
        let (pairs, rest) = pairs.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(input.broken("half a pair of class and kind"));
        }
        for [class, kind] in pairs {
            let class = input.index(*class)?;
            if class >= classes {
                return Err(input.broken("a class beyond the last"));
            }
            confusion.entry(class).or_default().add(*kind);
        }
        Ok(())
    })?;
    // Every class counts in the mean; a model has few enough of them to list.
    for class in 0..classes.min(1 << 20) {
        confusion.entry(class).or_default();
    }
    Ok(confusion)
}
