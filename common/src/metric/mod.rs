//! Metrics: what one sample contributes, how contributions fold, which way is better; one file each.

mod accuracy;
mod character_error_rate;
mod coco_precision;
mod confusion;
mod correlation;
mod cosine;
mod definition;
pub mod detection;
mod f1;
mod input;
mod log_loss;
mod log_probability;
mod mae;
mod matthews;
mod mean_iou;
mod mse;
mod ndcg;
mod parameters;
mod pearson;
mod perplexity;
mod precision;
mod psnr;
mod ranks;
mod recall;
mod regression;
mod rmse;
mod roc_auc;
mod spearman;
mod table;
pub mod text;
mod text_errors;
mod voc_map;
mod word_error_rate;

pub use parameters::DeclarationError;
pub use table::{MetricDefinition, build};

use crate::dataset::Annotation;
use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

/// Whether higher or lower values of a metric are better (POT: `higher-better`, `higher-worse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Orientation {
    /// Accuracy-like.
    #[serde(rename = "higher-better")]
    HigherBetter,
    /// Error-like.
    #[serde(rename = "higher-worse")]
    HigherWorse,
}

impl Orientation {
    /// +1 where higher is better, −1 where it is worse.
    pub fn sign(self) -> f64 {
        match self {
            Orientation::HigherBetter => 1.0,
            Orientation::HigherWorse => -1.0,
        }
    }
}

/// One metric as declared: its name in reports and its definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricSpec {
    /// The name the configuration refers to it by.
    pub name: String,
    /// Which output of the model it reads; `None` is the first.
    pub output: Option<String>,
    /// What it computes.
    pub definition: MetricDefinition,
}

/// The model outputs of one sample, without the batch axis removed: shapes begin with 1.
pub struct Outputs<'a> {
    /// Output names, in model order.
    pub names: &'a [String],
    /// Values, in model order.
    pub values: &'a [ArrayD<f32>],
}

/// A metric cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum MetricError {
    /// The sample's annotation is of another kind.
    #[error("metric `{metric}` needs {expected}, but the sample carries {found}")]
    Annotation {
        /// Metric name.
        metric: String,
        /// What it needs.
        expected: &'static str,
        /// What there is.
        found: &'static str,
    },
    /// The model output has another shape or name than the metric can read.
    #[error("metric `{metric}`: {problem}")]
    Output {
        /// Metric name.
        metric: String,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A parameter of the metric makes no sense.
    #[error("metric `{metric}`: {problem}")]
    Definition {
        /// Metric name.
        metric: String,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// Nothing to fold.
    #[error("metric `{metric}` has no samples to fold")]
    Empty {
        /// Metric name.
        metric: String,
    },
    /// A contribution has another length than the metric writes; the memo store or a worker is broken.
    #[error("metric `{metric}`: a contribution of {found} numbers where {expected} were expected")]
    Contribution {
        /// Metric name.
        metric: String,
        /// Expected length.
        expected: usize,
        /// Found length.
        found: usize,
    },
}

/// A metric: contributions are computed by workers, folded by the coordinator in sample order.
pub trait Metric: Send + Sync {
    /// Which way is better.
    fn orientation(&self) -> Orientation;

    /// What one sample contributes.
    fn contribution(&self, outputs: &Outputs<'_>, annotation: &Annotation) -> Result<Vec<f64>, MetricError>;

    /// `[class, confidence]`: the class of the largest score of the output the metric reads, the first of equal ones, and
    /// its probability.
    ///
    /// Scores of 0 or more that sum to 1 within a thousandth are taken for probabilities, others for logits, whose softmax
    /// is taken.
    ///
    /// # Errors
    ///
    /// [`MetricError::Output`] where the output is no vector of finite scores.
    fn prediction(&self, outputs: &Outputs<'_>) -> Result<Vec<f64>, MetricError>;

    /// The metric of one sample by itself; `None` where that means nothing.
    fn sample_value(&self, contribution: &[f64]) -> Option<f64>;

    /// The best that any model could contribute for a sample, told by what one model contributed for it; `None` where
    /// there is no such bound. Where there is one, a fold never gets worse when a contribution is replaced by its bound,
    /// so that a fold over some samples and the bounds of the others tells how good the metric can still become.
    fn best_contribution(&self, _known: &[f64]) -> Option<Vec<f64>> {
        None
    }

    /// How far the sample is from being judged otherwise, in the unit of the output: positive where it is right, negative
    /// where it is wrong; `None` where samples are not right or wrong.
    fn margin(&self, _contribution: &[f64]) -> Option<f64> {
        None
    }

    /// Folds contributions, given in sample order, in f64 from left to right.
    fn fold(&self, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError>;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]
mod tests {
    use super::*;
    use ndarray::IxDyn;

    pub(super) fn metric(definition: MetricDefinition) -> Box<dyn Metric> {
        build(&MetricSpec { name: "quality".to_owned(), output: None, definition }).unwrap()
    }

    /// A metric without parameters, by its word.
    pub(super) fn declared(word: &str) -> MetricDefinition {
        MetricDefinition::from_parameters(word, &serde_json::Map::new()).unwrap()
    }

    pub(super) fn contribution(
        metric: &dyn Metric,
        shape: &[usize],
        values: &[f32],
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        let values = [ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap()];
        metric.contribution(&Outputs { names: &["scores".to_owned()], values: &values }, annotation)
    }

    /// Labels 0 0 0 1 1 2, predictions 0 0 1 1 2 2: the confusion matrix is [2 1 0; 0 1 1; 0 0 1].
    fn classified(definition: MetricDefinition) -> f64 {
        let metric = metric(definition);
        let pairs = [(0, 0), (0, 0), (1, 0), (1, 1), (2, 1), (2, 2)];
        let contributions: Vec<Vec<f64>> = pairs
            .iter()
            .map(|&(predicted, label)| {
                let mut scores = [0.0; 3];
                scores[predicted] = 1.0;
                contribution(&*metric, &[1, 3], &scores, &Annotation::Label(label)).unwrap()
            })
            .collect();
        metric.fold(&mut contributions.iter().map(Vec::as_slice)).unwrap()
    }

    #[test]
    fn confusion_metrics_give_the_values_worked_out_by_hand() {
        let close = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-15, "{value} {expected}");
        close(classified(declared("precision")), (1.0 + 0.5 + 0.5) / 3.0);
        close(classified(declared("recall")), (2.0 / 3.0 + 0.5 + 1.0) / 3.0);
        close(classified(declared("f1")), (0.8 + 0.5 + 2.0 / 3.0) / 3.0);
        // hits 4 of 6; Σ predicted·labelled = 2·3 + 2·2 + 2·1 = 12; Σ predicted² = 12; Σ labelled² = 14.
        close(classified(declared("mcc")), 12.0 / (24f64.sqrt() * 22f64.sqrt()));
    }

    #[test]
    fn a_prediction_that_never_varies_correlates_with_nothing() {
        let matthews = metric(declared("mcc"));
        let contributions: [&[f64]; 3] = [&[0.0, 0.0], &[0.0, 1.0], &[0.0, 2.0]];
        assert_eq!(matthews.fold(&mut contributions.into_iter()).unwrap(), 0.0);
        let broken: [&[f64]; 1] = [&[0.5, 1.0]];
        assert!(matthews.fold(&mut broken.into_iter()).is_err());
    }

    #[test]
    fn regression_metrics_give_the_values_worked_out_by_hand() {
        let value = |definition: MetricDefinition| {
            let metric = metric(definition);
            let samples = [([1.0, 2.0], [0.0, 4.0]), ([3.0, -4.0], [3.0, -4.0])];
            let contributions: Vec<Vec<f64>> = samples
                .iter()
                .map(|(x, y)| contribution(&*metric, &[1, 2], x, &Annotation::Values(y.to_vec())).unwrap())
                .collect();
            metric.fold(&mut contributions.iter().map(Vec::as_slice)).unwrap()
        };
        assert_eq!(value(declared("mse")), 1.25);
        assert_eq!(value(declared("rmse")), 1.25f64.sqrt());
        assert_eq!(value(declared("mae")), 0.75);
        let cosine = (8.0 / (5f64.sqrt() * 4.0) + 1.0) / 2.0;
        assert!((value(declared("cosine_similarity")) - cosine).abs() < 1e-15);
    }

    #[test]
    fn zero_vectors_agree_with_each_other_only() {
        let cosine = metric(declared("cosine_similarity"));
        let of =
            |x: [f32; 2], y: [f32; 2]| contribution(&*cosine, &[1, 2], &x, &Annotation::Values(y.to_vec())).unwrap();
        assert_eq!(of([0.0; 2], [0.0; 2]), [1.0]);
        assert_eq!(of([0.0; 2], [1.0, 0.0]), [0.0]);
    }

    #[test]
    fn errors_are_worse_when_higher_and_shares_better() {
        for (definition, orientation) in [
            (MetricDefinition::accuracy(1), Orientation::HigherBetter),
            (declared("f1"), Orientation::HigherBetter),
            (declared("mse"), Orientation::HigherWorse),
            (declared("rmse"), Orientation::HigherWorse),
            (declared("mae"), Orientation::HigherWorse),
            (declared("cosine_similarity"), Orientation::HigherBetter),
        ] {
            assert_eq!(metric(definition).orientation(), orientation);
        }
    }

    #[test]
    fn a_metric_reads_the_output_it_names() {
        let names = ["a".to_owned(), "b".to_owned()];
        let values = [[1.0, 0.0], [0.0, 1.0]].map(|row| ArrayD::from_shape_vec(IxDyn(&[1, 2]), row.to_vec()).unwrap());
        let outputs = Outputs { names: &names, values: &values };
        let named = |output: &str| {
            let definition = MetricDefinition::accuracy(1);
            build(&MetricSpec { name: "top1".to_owned(), output: Some(output.to_owned()), definition }).unwrap()
        };
        assert_eq!(named("b").contribution(&outputs, &Annotation::Label(1)).unwrap()[0], 1.0);
        let refusal = named("c").contribution(&outputs, &Annotation::Label(1)).unwrap_err().to_string();
        assert!(refusal.contains("no output `c`; it has `a`, `b`"), "{refusal}");
    }

    #[test]
    fn targets_of_another_length_are_refused() {
        let mse = metric(declared("mse"));
        let refusal = contribution(&*mse, &[1, 2], &[0.0; 2], &Annotation::Values(vec![0.0; 3])).unwrap_err();
        assert!(refusal.to_string().contains("3 target values"), "{refusal}");
        assert!(contribution(&*mse, &[1, 2], &[0.0; 2], &Annotation::Label(0)).is_err());
    }
}
