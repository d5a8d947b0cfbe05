//! Matthews correlation of predicted class and label for any number of classes (Gorodkin 2004), -1 to 1.

use super::definition::Definition;
use super::input::Input;
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs, confusion};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// Matthews correlation of the best class with the label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matthews {}

impl Definition for Matthews {
    const WORDS: &'static [&'static str] = &["mcc", "metthews_correlation_coef", "matthews_correlation_coef"];
    const ORIENTATION: Orientation = Orientation::HigherBetter;

    fn read(_word: &str, _parameters: &mut Parameters<'_>) -> Result<Matthews, DeclarationError> {
        Ok(Matthews {})
    }

    fn truth(&self) -> Truth {
        Truth::Label
    }

    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        confusion::contribution(input, outputs, annotation)
    }

    fn sample_value(&self, _contribution: &[f64]) -> Option<f64> {
        None
    }

    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        let confusion = confusion::count(input, contributions)?;
        Ok(correlation(&confusion))
    }
}

/// Covariance of predictions and labels over the root of their variances; 0 where either does not vary.
///
/// All sums are of integers below 2⁶⁴ samples squared and are kept exact in 128 bits.
fn correlation(confusion: &confusion::Confusion) -> f64 {
    let (mut samples, mut hits, mut product, mut predicted, mut labelled) = (0i128, 0i128, 0i128, 0i128, 0i128);
    for class in confusion.values() {
        let (p, t) = (i128::from(class.predicted), i128::from(class.labelled));
        samples += t;
        hits += i128::from(class.hits);
        product += p * t;
        predicted += p * p;
        labelled += t * t;
    }
    let square = samples * samples;
    let variance = ((square - predicted) as f64).sqrt() * ((square - labelled) as f64).sqrt();
    if variance == 0.0 { 0.0 } else { (hits * samples - product) as f64 / variance }
}
