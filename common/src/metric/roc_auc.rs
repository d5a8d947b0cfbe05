//! Area under the ROC curve: how often a sample of a class is scored above one of another.

use super::definition::Definition;
use super::input::Input;
use super::log_probability::softmax;
use super::parameters::{DeclarationError, Parameters};
use super::ranks::ranks;
use super::{MetricError, Orientation, Outputs};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// Classes there may be: every sample keeps one score of each.
const MAX_CLASSES: usize = 1 << 16;

/// Area under the ROC curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RocAuc {
    /// Whether scores are logits that a softmax makes probabilities: with more than two classes that changes their order.
    pub softmax: bool,
}

impl Definition for RocAuc {
    const WORDS: &'static [&'static str] = &["roc_auc_score", "roc_auc", "auc"];
    const ORIENTATION: Orientation = Orientation::HigherBetter;

    fn read(_word: &str, parameters: &mut Parameters<'_>) -> Result<RocAuc, DeclarationError> {
        parameters.choice("multi_class", &[("ovr", ())])?;
        parameters.choice("average", &[("macro", ())])?;
        Ok(RocAuc { softmax: parameters.boolean("softmax")?.unwrap_or(true) })
    }

    fn truth(&self) -> Truth {
        Truth::Label
    }

    /// `[label, score]` where class 1 is told from class 0 by one score or the difference of two; of more classes
    /// `[label, then the score of each]`.
    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        let (array, scores) = input.values(outputs)?;
        input.refuse_infinite(&scores)?;
        let is_vector = array.shape().iter().filter(|&&length| length != 1).count() <= 1;
        if !is_vector || scores.is_empty() || scores.len() > MAX_CLASSES {
            let shape = array.shape();
            let problem = format!("the output has shape {shape:?}; one score, or one a class, was expected");
            return Err(input.output_error(problem));
        }
        let label = input.label(annotation, scores.len().max(2))? as f64;
        Ok(match scores.as_ref() {
            [score] => vec![label, f64::from(*score)],
            [zero, one] => vec![label, f64::from(*one) - f64::from(*zero)],
            scores if self.softmax => [vec![label], softmax(scores)].concat(),
            scores => std::iter::once(label).chain(scores.iter().map(|&score| f64::from(score))).collect(),
        })
    }

    fn sample_value(&self, _contribution: &[f64]) -> Option<f64> {
        None
    }

    /// Each class against the rest, unweighted mean over the classes; NaN where a class never or always occurs.
    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        let mut labels = Vec::new();
        let mut columns: Vec<Vec<f64>> = Vec::new();
        input.fold_lists(contributions, |contribution| {
            let Some((label, scores)) = contribution.split_first().filter(|(_, scores)| !scores.is_empty()) else {
                return Err(input.broken("no score"));
            };
            if labels.is_empty() {
                columns.resize(scores.len(), Vec::new());
            }
            if columns.len() != scores.len() || scores.iter().any(|score| score.is_nan()) {
                return Err(input.broken("scores unlike the first sample's"));
            }
            labels.push(input.index(*label)?);
            columns.iter_mut().zip(scores).for_each(|(column, score)| column.push(*score));
            Ok(())
        })?;
        if let [scores] = columns.as_slice() {
            return Ok(area(scores, &labels, 1));
        }
        let areas = columns.iter().zip(0..).map(|(scores, class)| area(scores, &labels, class));
        Ok(areas.sum::<f64>() / columns.len() as f64)
    }
}

/// The share of pairs of a sample of the class and one of another that the scores put in order; ties count half.
fn area(scores: &[f64], labels: &[u32], class: u32) -> f64 {
    let (mut rank_sum, mut members) = (0.0, 0.0);
    for (rank, label) in ranks(scores).into_iter().zip(labels) {
        if *label == class {
            rank_sum += rank;
            members += 1.0;
        }
    }
    let others = labels.len() as f64 - members;
    (rank_sum - members * (members + 1.0) / 2.0) / (members * others)
}
