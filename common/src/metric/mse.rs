//! Mean squared error over all target elements of all samples.

use super::definition::Definition;
use super::input::Input;
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs, regression};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// Mean squared error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mse {}

impl Definition for Mse {
    const WORDS: &'static [&'static str] = &["mse"];
    const ORIENTATION: Orientation = Orientation::HigherWorse;

    fn read(_word: &str, _parameters: &mut Parameters<'_>) -> Result<Mse, DeclarationError> {
        Ok(Mse {})
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
        regression::contribution(input, outputs, annotation, |error| error * error)
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
