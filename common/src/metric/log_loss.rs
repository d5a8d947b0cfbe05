//! Log loss: the negative logarithm of the probability given to the label, averaged over the samples.

use super::definition::Definition;
use super::input::Input;
use super::log_probability::negative_log_softmax;
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// Cross-entropy of scores and label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLoss {
    /// Whether scores are logits that a softmax makes probabilities.
    pub softmax: bool,
}

impl Definition for LogLoss {
    const WORDS: &'static [&'static str] = &["log_loss", "cross_entropy"];
    const ORIENTATION: Orientation = Orientation::HigherWorse;

    fn read(_word: &str, parameters: &mut Parameters<'_>) -> Result<LogLoss, DeclarationError> {
        Ok(LogLoss { softmax: parameters.boolean("softmax")?.unwrap_or(true) })
    }

    fn truth(&self) -> Truth {
        Truth::Label
    }

    /// `[loss]`. Probabilities are kept above the precision of f64, as scikit-learn keeps them.
    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        let scores = input.scores(outputs)?;
        let label = input.label(annotation, scores.len())?;
        if self.softmax {
            input.refuse_infinite(&scores)?;
            return Ok(vec![negative_log_softmax(&scores, label)]);
        }
        if let Some(odd) = scores.iter().find(|score| !(0.0..=1.0).contains(*score)) {
            let problem = format!("a score is {odd}, which is no probability; remove \"softmax\": false");
            return Err(input.output_error(problem));
        }
        let share = f64::from(scores[label]).clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        Ok(vec![-libm::log(share)])
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        contribution.first().copied()
    }
    fn best_contribution(&self, _known: &[f64]) -> Option<Vec<f64>> {
        Some(vec![0.0])
    }

    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        input.mean(contributions)
    }
}
