//! Macro F1: the harmonic mean of precision and recall of each class, averaged over the classes.

use super::input::Input;
use super::{Metric, MetricError, Orientation, Outputs, confusion};
use crate::dataset::Annotation;

pub(super) struct F1 {
    input: Input,
}

impl F1 {
    pub(super) fn new(input: Input) -> F1 {
        F1 { input }
    }
}

impl Metric for F1 {
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
        Ok(confusion::macro_average(&confusion, |class| (2 * class.hits, class.predicted + class.labelled)))
    }
}
