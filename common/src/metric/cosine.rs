//! Cosine similarity of a model output and its target vector, averaged over the samples.

use super::input::Input;
use super::{Metric, MetricError, Orientation, Outputs};
use crate::dataset::Annotation;

pub(super) struct Cosine {
    input: Input,
}

impl Cosine {
    pub(super) fn new(input: Input) -> Cosine {
        Cosine { input }
    }
}

impl Metric for Cosine {
    fn orientation(&self) -> Orientation {
        Orientation::HigherBetter
    }

    /// `[cosine]`; two zero vectors agree (1), one zero vector has no direction in common with anything (0).
    fn contribution(&self, outputs: &Outputs<'_>, annotation: &Annotation) -> Result<Vec<f64>, MetricError> {
        let (values, targets) = self.input.targets(outputs, annotation)?;
        let (mut product, mut value_square, mut target_square) = (0.0, 0.0, 0.0);
        for (value, target) in values.iter().zip(targets) {
            let (value, target) = (f64::from(*value), f64::from(*target));
            product += value * target;
            value_square += value * value;
            target_square += target * target;
        }
        Ok(vec![match (value_square == 0.0, target_square == 0.0) {
            (true, true) => 1.0,
            (false, false) => product / (value_square.sqrt() * target_square.sqrt()),
            _ => 0.0,
        }])
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        contribution.first().copied()
    }

    fn fold(&self, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        self.input.mean(contributions)
    }
}
