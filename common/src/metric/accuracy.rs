//! Accuracy: the share of samples whose label is among the `top_k` largest scores.

use super::definition::Definition;
use super::input::{Input, ahead};
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// Share of samples whose label is among the `top_k` largest scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// How many of the best scores count.
    pub top_k: usize,
}

impl Definition for Accuracy {
    const WORDS: &'static [&'static str] = &["accuracy", "hit_ratio"];
    const ORIENTATION: Orientation = Orientation::HigherBetter;

    fn accepts(word: &str) -> bool {
        Self::WORDS.contains(&word) || named_k(word).is_some()
    }

    /// `accuracy@topN` is short for `top_k` N; without either, N is 1, and 10 under the name recommender systems use.
    fn read(word: &str, parameters: &mut Parameters<'_>) -> Result<Accuracy, DeclarationError> {
        let declared = parameters.count("top_k", 1)?;
        match (named_k(word), declared) {
            (Some(0), _) => parameters.refuse("type", format!("is \"{word}\"; the number must be at least 1")),
            (Some(named), Some(declared)) if named != declared => {
                parameters.refuse("top_k", format!("is {declared}, but the type says \"{word}\"; remove one"))
            }
            (named, declared) => {
                Ok(Accuracy { top_k: named.or(declared).unwrap_or(if word == "hit_ratio" { 10 } else { 1 }) })
            }
        }
    }

    fn default_name(&self) -> String {
        format!("accuracy@top{}", self.top_k)
    }

    fn truth(&self) -> Truth {
        Truth::Label
    }

    fn validate(&self) -> Result<(), String> {
        if self.top_k == 0 { Err("top_k is 0; it must be at least 1".to_owned()) } else { Ok(()) }
    }

    /// `[1, margin]` for a hit, `[0, margin]` for a miss. Of equal scores the class of lower index ranks first, so that
    /// top 1 is argmax. The margin is the label's score minus the `top_k`-th best other score; it takes no part in the
    /// metric. Where every class is among the `top_k` it is infinite.
    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        let scores = input.scores(outputs)?;
        if self.top_k > scores.len() {
            let classes = scores.len();
            return Err(input.output_error(format!("top_k is {}, but the model has {classes} classes", self.top_k)));
        }
        let label = input.label(annotation, scores.len())?;
        let score = scores[label];
        let mut others: Vec<f32> = scores.iter().enumerate().filter(|&(i, _)| i != label).map(|(_, &s)| s).collect();
        let margin = if self.top_k > others.len() {
            f64::INFINITY
        } else {
            let (_, rival, _) = others.select_nth_unstable_by(self.top_k - 1, |a, b| b.total_cmp(a));
            f64::from(score) - f64::from(*rival)
        };
        // Equal infinite scores have no distance; neither side is ahead by any.
        let margin = if margin.is_nan() { 0.0 } else { margin };
        Ok(vec![if ahead(&scores, label) < self.top_k { 1.0 } else { 0.0 }, margin])
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        contribution.first().copied()
    }

    fn best_contribution(&self, _known: &[f64]) -> Option<Vec<f64>> {
        Some(vec![1.0, f64::INFINITY])
    }

    fn margin(&self, contribution: &[f64]) -> Option<f64> {
        contribution.get(1).copied()
    }

    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        let (mut hits, mut count) = (0.0, 0.0);
        input.fold_each(contributions, |[hit, _margin]| {
            hits += hit;
            count += 1.0;
            Ok(())
        })?;
        Ok(hits / count)
    }
}

/// The N of `accuracy@topN`.
fn named_k(word: &str) -> Option<usize> {
    word.strip_prefix("accuracy@top")?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]
mod tests {
    use crate::dataset::Annotation;
    use crate::metric::tests::{contribution, metric};
    use crate::metric::{MetricDefinition, MetricError};

    #[test]
    fn of_equal_scores_the_lower_class_ranks_first() {
        let top1 = metric(MetricDefinition::accuracy(1));
        let top2 = metric(MetricDefinition::accuracy(2));
        let scores = [0.5, 2.0, 2.0, -1.0, 2.0];
        let hits = |metric: &dyn crate::metric::Metric| {
            (0..5).map(|label| contribution(metric, &[1, 5], &scores, &Annotation::Label(label)).unwrap()[0]).collect()
        };
        let (first, second): (Vec<f64>, Vec<f64>) = (hits(&*top1), hits(&*top2));
        assert_eq!(first, [0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(second, [0.0, 1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn accuracy_is_the_share_of_hits() {
        let top1 = metric(MetricDefinition::accuracy(1));
        let contributions: [&[f64]; 4] = [&[1.0, 0.5], &[0.0, -1.0], &[1.0, 2.0], &[1.0, f64::INFINITY]];
        assert_eq!(top1.fold(&mut contributions.into_iter()).unwrap(), 0.75);
        assert!(matches!(top1.fold(&mut [].into_iter()), Err(MetricError::Empty { .. })));
        let broken: [&[f64]; 1] = [&[1.0]];
        assert!(matches!(top1.fold(&mut broken.into_iter()), Err(MetricError::Contribution { found: 1, .. })));
    }

    #[test]
    fn what_cannot_be_judged_is_refused_with_its_reason() {
        let top1 = metric(MetricDefinition::accuracy(1));
        let label = Annotation::Label(1);
        let message = |shape: &[usize], scores: &[f32], annotation: &Annotation| {
            contribution(&*top1, shape, scores, annotation).unwrap_err().to_string()
        };
        assert!(message(&[1, 3], &[0.0, f32::NAN, 1.0], &label).contains("element 1 of output `scores` is NaN"));
        assert!(message(&[1, 2, 2], &[0.0; 4], &label).contains("shape [1, 2, 2]"));
        assert!(message(&[1, 1], &[0.0], &label).contains("at least two classes"));
        assert!(message(&[1, 3], &[0.0; 3], &Annotation::Label(3)).contains("the label is 3"));
        assert!(message(&[1, 3], &[0.0; 3], &Annotation::None).contains("carries no annotation"));
        let top5 = metric(MetricDefinition::accuracy(5));
        assert!(contribution(&*top5, &[1, 3], &[0.0; 3], &label).is_err());
    }

    #[test]
    fn spatial_axes_of_length_one_do_not_hide_the_classes() {
        let top1 = metric(MetricDefinition::accuracy(1));
        assert_eq!(contribution(&*top1, &[1, 3, 1, 1], &[0.0, 3.0, 1.0], &Annotation::Label(1)).unwrap(), [1.0, 2.0]);
    }

    #[test]
    fn margins_are_distances_to_the_score_that_decides() {
        let margin = |top_k: usize, label: u32, scores: &[f32]| {
            let metric = metric(MetricDefinition::accuracy(top_k));
            let contribution = contribution(&*metric, &[1, scores.len()], scores, &Annotation::Label(label)).unwrap();
            metric.margin(&contribution).unwrap()
        };
        let scores = [3.0, 1.0, 4.0, 1.5];
        assert_eq!([0, 1, 2, 3].map(|label| margin(1, label, &scores)), [-1.0, -3.0, 1.0, -2.5]);
        assert_eq!([0, 1, 2, 3].map(|label| margin(2, label, &scores)), [1.5, -2.0, 2.5, -1.5]);
        assert_eq!(margin(4, 1, &scores), f64::INFINITY, "every class is among the best four");
        assert_eq!(margin(1, 0, &[f32::INFINITY, f32::INFINITY]), 0.0);
    }

    #[test]
    fn bounds_on_unseen_samples_never_make_accuracy_worse() {
        let top1 = metric(MetricDefinition::accuracy(1));
        let best = top1.best_contribution(&[0.0, -1.0]).unwrap();
        let bound = top1.fold(&mut [best.as_slice(), &[0.0, -1.0], &best].into_iter()).unwrap();
        assert_eq!(bound, 2.0 / 3.0);
    }
}
