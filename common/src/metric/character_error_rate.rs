//! Character error rate: edits that turn the recognized text into the true one, over the true text's length.

use super::definition::Definition;
use super::input::Input;
use super::parameters::{DeclarationError, Parameters};
use super::text::CtcDecoder;
use super::{MetricError, Orientation, Outputs, text_errors};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// Character error rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CharacterErrorRate {
    /// How outputs become text.
    pub decoder: CtcDecoder,
}

impl Definition for CharacterErrorRate {
    const WORDS: &'static [&'static str] = &["cer"];
    const ORIENTATION: Orientation = Orientation::HigherWorse;

    fn read(_word: &str, parameters: &mut Parameters<'_>) -> Result<CharacterErrorRate, DeclarationError> {
        Ok(CharacterErrorRate { decoder: CtcDecoder::read(parameters)? })
    }

    fn truth(&self) -> Truth {
        Truth::Text
    }

    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        text_errors::contribution(input, &self.decoder, outputs, annotation, |text| text.chars().collect::<Vec<_>>())
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        text_errors::sample_value(contribution)
    }
    fn best_contribution(&self, known: &[f64]) -> Option<Vec<f64>> {
        text_errors::without_errors(known)
    }

    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        input.ratio(contributions)
    }
}
