//! Root mean squared error: the root of the mean over all target elements of all samples.

use super::input::Input;
use super::{Metric, MetricError, Orientation, Outputs, regression};
use crate::dataset::Annotation;

pub(super) struct Rmse {
    input: Input,
}

impl Rmse {
    pub(super) fn new(input: Input) -> Rmse {
        Rmse { input }
    }
}

impl Metric for Rmse {
    fn orientation(&self) -> Orientation {
        Orientation::HigherWorse
    }

    fn contribution(&self, outputs: &Outputs<'_>, annotation: &Annotation) -> Result<Vec<f64>, MetricError> {
        regression::contribution(&self.input, outputs, annotation, |error| error * error)
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        regression::sample_mean(contribution).map(f64::sqrt)
    }

    fn fold(&self, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        Ok(regression::mean(&self.input, contributions)?.sqrt())
    }
}
