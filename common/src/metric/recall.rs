//! Macro recall: how many samples of a class are found, averaged over the classes.

use super::input::Input;
use super::{Metric, MetricError, Orientation, Outputs, confusion};
use crate::dataset::Annotation;

pub(super) struct Recall {
    input: Input,
}

impl Recall {
    pub(super) fn new(input: Input) -> Recall {
        Recall { input }
    }
}

impl Metric for Recall {
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
        Ok(confusion::macro_average(&confusion, |class| (class.hits, class.labelled)))
    }
}
