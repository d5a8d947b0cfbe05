//! Word error rate: edits that turn the recognized words into the true ones, over the number of true words.

use super::definition::Definition;
use super::input::Input;
use super::parameters::{DeclarationError, Parameters};
use super::text::CtcDecoder;
use super::{MetricError, Orientation, Outputs, text_errors};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// Word error rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WordErrorRate {
    /// How outputs become text.
    pub decoder: CtcDecoder,
}

impl Definition for WordErrorRate {
    const WORDS: &'static [&'static str] = &["wer"];
    const ORIENTATION: Orientation = Orientation::HigherWorse;

    fn read(_word: &str, parameters: &mut Parameters<'_>) -> Result<WordErrorRate, DeclarationError> {
        Ok(WordErrorRate { decoder: CtcDecoder::read(parameters)? })
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
        text_errors::contribution(input, &self.decoder, outputs, annotation, |text| {
            text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        })
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
