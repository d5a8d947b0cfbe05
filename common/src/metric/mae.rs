//! Mean absolute error over all target elements of all samples.

use super::definition::Definition;
use super::input::Input;
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs, regression};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// Mean absolute error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mae {}

impl Definition for Mae {
    const WORDS: &'static [&'static str] = &["mae"];
    const ORIENTATION: Orientation = Orientation::HigherWorse;

    fn read(_word: &str, _parameters: &mut Parameters<'_>) -> Result<Mae, DeclarationError> {
        Ok(Mae {})
    }

    fn truth(&self) -> Truth {
        Truth::Values
    }

    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        regression::contribution(input, outputs, annotation, f64::abs)
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        regression::sample_mean(contribution)
    }
    fn best_contribution(&self, known: &[f64]) -> Option<Vec<f64>> {
        regression::without_errors(known)
    }

    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        input.ratio(contributions)
    }
}
