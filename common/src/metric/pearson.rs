//! Pearson's correlation of predicted and true numbers, one of each a sample.

use super::correlation;
use super::definition::Definition;
use super::input::Input;
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// Pearson's correlation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pearson {}

impl Definition for Pearson {
    const WORDS: &'static [&'static str] = &["pearson_correlation_coef", "pearson"];
    const ORIENTATION: Orientation = Orientation::HigherBetter;

    fn read(_word: &str, _parameters: &mut Parameters<'_>) -> Result<Pearson, DeclarationError> {
        Ok(Pearson {})
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
        correlation::contribution(input, outputs, annotation)
    }

    fn sample_value(&self, _contribution: &[f64]) -> Option<f64> {
        None
    }

    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        let (predictions, targets) = correlation::collect(input, contributions)?;
        Ok(correlation::pearson(&predictions, &targets))
    }
}
