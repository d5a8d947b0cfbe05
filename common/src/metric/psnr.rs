//! Peak signal-to-noise ratio of a sample's output and target, in decibels, averaged over the samples.

use super::definition::Definition;
use super::input::Input;
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs, regression};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// What an output equal to its target counts, in decibels: without noise the ratio has no value.
const MOST: f64 = 100.0;

/// Peak signal-to-noise ratio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Psnr {
    /// From the smallest to the largest value a signal can have: 255 for 8-bit pixels, 1 for normalized ones.
    pub data_range: f64,
}

impl Definition for Psnr {
    const WORDS: &'static [&'static str] = &["psnr"];
    const ORIENTATION: Orientation = Orientation::HigherBetter;

    fn read(_word: &str, parameters: &mut Parameters<'_>) -> Result<Psnr, DeclarationError> {
        Ok(Psnr { data_range: parameters.number("data_range", f64::MIN_POSITIVE, f64::MAX)?.unwrap_or(255.0) })
    }

    fn truth(&self) -> Truth {
        Truth::Values
    }

    /// `[decibels]`.
    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        let error = regression::mean_of_one(input, outputs, annotation, |error| error * error)?;
        let decibels = 10.0 * libm::log10(self.data_range * self.data_range / error);
        Ok(vec![decibels.min(MOST)])
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        contribution.first().copied()
    }
    fn best_contribution(&self, _known: &[f64]) -> Option<Vec<f64>> {
        Some(vec![MOST])
    }

    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        input.mean(contributions)
    }
}
