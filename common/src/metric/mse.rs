//! Mean squared error over all target elements of all samples.

use super::input::Input;
use super::{Metric, MetricError, Orientation, Outputs, regression};
use crate::dataset::Annotation;

pub(super) struct Mse {
    input: Input,
}

impl Mse {
    pub(super) fn new(input: Input) -> Mse {
        Mse { input }
    }
}

impl Metric for Mse {
    fn orientation(&self) -> Orientation {
        Orientation::HigherWorse
    }

    fn contribution(&self, outputs: &Outputs<'_>, annotation: &Annotation) -> Result<Vec<f64>, MetricError> {
        regression::contribution(&self.input, outputs, annotation, |error| error * error)
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        regression::sample_mean(contribution)
    }

    fn fold(&self, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        regression::mean(&self.input, contributions)
    }
}
