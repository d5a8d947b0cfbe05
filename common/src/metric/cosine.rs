//! Cosine similarity of a model output and its target vector, averaged over the samples.

use super::definition::Definition;
use super::input::Input;
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// No computed cosine is larger: sums of n rounded products are off by n roundings at most, and outputs have fewer than
/// 2³⁰ elements.
const MOST: f64 = 1.0 + 1.0 / (1 << 20) as f64;

/// Cosine similarity of output and target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cosine {}

impl Definition for Cosine {
    const WORDS: &'static [&'static str] = &["cosine_similarity", "cosine"];
    const ORIENTATION: Orientation = Orientation::HigherBetter;

    fn read(_word: &str, _parameters: &mut Parameters<'_>) -> Result<Cosine, DeclarationError> {
        Ok(Cosine {})
    }

    fn truth(&self) -> Truth {
        Truth::Values
    }

    /// `[cosine]`; two zero vectors agree (1), one zero vector has no direction in common with anything (0).
    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        let (values, targets) = input.targets(outputs, annotation)?;
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
    fn best_contribution(&self, _known: &[f64]) -> Option<Vec<f64>> {
        Some(vec![MOST])
    }

    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        input.mean(contributions)
    }
}
