//! Perplexity: the exponential of the mean cross-entropy of all tokens of all samples.

use super::definition::Definition;
use super::input::Input;
use super::log_probability::negative_log_softmax;
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// Perplexity of token logits [1, tokens, vocabulary].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Perplexity {
    /// A token that is not judged, such as padding.
    pub ignore_index: i64,
    /// Whether logits at a position predict the token after it: the annotation then is the input itself.
    pub shift: bool,
}

impl Definition for Perplexity {
    const WORDS: &'static [&'static str] = &["perplexity"];
    const ORIENTATION: Orientation = Orientation::HigherWorse;

    fn read(_word: &str, parameters: &mut Parameters<'_>) -> Result<Perplexity, DeclarationError> {
        let ignore_index = parameters.integer("ignore_index")?.unwrap_or(-100);
        Ok(Perplexity { ignore_index, shift: parameters.boolean("shift")?.unwrap_or(false) })
    }

    fn truth(&self) -> Truth {
        Truth::Tokens
    }

    /// `[cross-entropy of all judged tokens, judged tokens]`.
    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        let Annotation::Tokens(tokens) = annotation else {
            return Err(input.annotation_error(Truth::Tokens, annotation));
        };
        let (array, logits) = input.values(outputs)?;
        input.refuse_infinite(&logits)?;
        let &[1, positions, vocabulary @ 1..=usize::MAX] = array.shape() else {
            let shape = array.shape();
            return Err(
                input.output_error(format!("the output has shape {shape:?}; [1, tokens, vocabulary] was expected"))
            );
        };
        if positions != tokens.len() {
            let problem = format!("the output scores {positions} tokens, but the sample carries {}", tokens.len());
            return Err(input.output_error(problem));
        }
        let first = usize::from(self.shift).min(positions);
        let (mut sum, mut count) = (0.0, 0.0);
        for (logits, &token) in logits.chunks_exact(vocabulary).zip(&tokens[first..]) {
            if token == self.ignore_index {
                continue;
            }
            let Some(token) = usize::try_from(token).ok().filter(|&token| token < vocabulary) else {
                let problem = format!("the sample carries token {token}, but the model knows 0 to {}", vocabulary - 1);
                return Err(input.output_error(problem));
            };
            sum += negative_log_softmax(logits, token);
            count += 1.0;
        }
        Ok(vec![sum, count])
    }

    /// Of a sample without judged tokens there is none.
    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        match contribution {
            [sum, count] if *count > 0.0 => Some(libm::exp(sum / count)),
            _ => None,
        }
    }

    /// NaN where no token is judged.
    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        Ok(libm::exp(input.ratio(contributions)?))
    }
}
