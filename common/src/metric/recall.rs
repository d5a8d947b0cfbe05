//! Recall: how many samples of a class are found.

use super::confusion::Classes;
use super::definition::Definition;
use super::input::Input;
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// Recall of the predicted classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recall {
    /// Which classes are predicted, and how their scores are averaged.
    #[serde(flatten)]
    pub classes: Classes,
}

impl Definition for Recall {
    const WORDS: &'static [&'static str] = &["recall"];
    const ORIENTATION: Orientation = Orientation::HigherBetter;

    fn read(_word: &str, parameters: &mut Parameters<'_>) -> Result<Recall, DeclarationError> {
        Ok(Recall { classes: Classes::read(parameters)? })
    }

    fn truth(&self) -> Truth {
        self.classes.truth()
    }

    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        self.classes.contribution(input, outputs, annotation)
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        self.classes.sample_value(contribution, |class| (class.hits, class.labelled))
    }
    fn best_contribution(&self, known: &[f64]) -> Option<Vec<f64>> {
        self.classes.best_contribution(known)
    }

    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        self.classes.fold(input, contributions, |class| (class.hits, class.labelled))
    }
}
