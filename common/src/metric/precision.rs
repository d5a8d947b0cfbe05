//! Macro precision: how many predictions of a class are right, averaged over the classes.

use super::input::Input;
use super::{Metric, MetricError, Orientation, Outputs, confusion};
use crate::dataset::Annotation;

pub(super) struct Precision {
    input: Input,
}

impl Precision {
    pub(super) fn new(input: Input) -> Precision {
        Precision { input }
    }
}

impl Metric for Precision {
    fn orientation(&self) -> Orientation {
        Orientation::HigherBetter
    }

    fn contribution(&self, outputs: &Outputs<'_>, annotation: &Annotation) -> Result<Vec<f64>, MetricError> {
        confusion::contribution(&self.input, outputs, annotation)
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        confusion::is_hit(contribution)
    }

    fn fold(&self, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        let confusion = confusion::count(&self.input, contributions)?;
        Ok(confusion::macro_average(&confusion, |class| (class.hits, class.predicted)))
    }
}
