//! What a metric's file says about it, and the parts every metric shares: its name, the output it reads.

use super::input::{Input, best};
use super::log_probability::softmax;
use super::parameters::{DeclarationError, Parameters};
use super::{Metric, MetricError, MetricSpec, Orientation, Outputs};
use crate::dataset::{Annotation, Truth};

/// How far the sum of scores may be from 1 for them to be probabilities.
const SHARES_TOLERANCE: f64 = 1e-3;

/// A metric by its parameters: how it is declared, what one sample contributes, how contributions fold.
pub(super) trait Definition: Clone + Send + Sync + 'static {
    /// The words it is declared by; the first is the one we write, the others are the accuracy checker's and short forms.
    const WORDS: &'static [&'static str];

    /// Which way is better.
    const ORIENTATION: Orientation;

    /// Whether it compares places: then the model must see the whole image, however stretched.
    const IS_SPATIAL: bool = false;

    /// Whether a type word means this metric.
    fn accepts(word: &str) -> bool {
        Self::WORDS.contains(&word)
    }

    /// Reads the parameters that stand beside the type word.
    fn read(word: &str, parameters: &mut Parameters<'_>) -> Result<Self, DeclarationError>;

    /// The name of a metric nobody named.
    fn default_name(&self) -> String {
        Self::WORDS.first().copied().unwrap_or_default().to_owned()
    }

    /// The kind of annotation it compares outputs with.
    fn truth(&self) -> Truth;

    /// Checks parameters that did not come through [`Definition::read`]. The error says what was expected.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    /// What one sample contributes.
    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError>;

    /// The metric of one sample by itself; `None` where that means nothing.
    fn sample_value(&self, contribution: &[f64]) -> Option<f64>;

    /// The best that any model could contribute for a sample, as [`Metric::best_contribution`] says.
    fn best_contribution(&self, _known: &[f64]) -> Option<Vec<f64>> {
        None
    }

    /// How far the sample is from being judged otherwise, as [`Metric::margin`] says.
    fn margin(&self, _contribution: &[f64]) -> Option<f64> {
        None
    }

    /// Folds contributions, given in sample order, in f64 from left to right.
    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError>;
}

/// A definition and the name and output it was declared with.
struct Bound<D> {
    input: Input,
    definition: D,
}

/// Makes a definition ready for use.
pub(super) fn bind<D: Definition>(spec: &MetricSpec, definition: &D) -> Result<Box<dyn Metric>, MetricError> {
    let input = Input::new(spec);
    definition.validate().map_err(|problem| input.definition_error(problem))?;
    Ok(Box::new(Bound { input, definition: definition.clone() }))
}

impl<D: Definition> Metric for Bound<D> {
    fn orientation(&self) -> Orientation {
        D::ORIENTATION
    }

    fn contribution(&self, outputs: &Outputs<'_>, annotation: &Annotation) -> Result<Vec<f64>, MetricError> {
        self.definition.contribution(&self.input, outputs, annotation)
    }

    fn prediction(&self, outputs: &Outputs<'_>) -> Result<Vec<f64>, MetricError> {
        let scores = self.input.scores(outputs)?;
        self.input.refuse_infinite(&scores)?;
        let class = best(&scores);
        let sum: f64 = scores.iter().copied().map(f64::from).sum();
        let are_shares = (sum - 1.0).abs() <= SHARES_TOLERANCE && scores.iter().all(|&score| score >= 0.0);
        let confidence = if are_shares { f64::from(scores[class]) } else { softmax(&scores)[class] };
        Ok(vec![class as f64, confidence])
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        self.definition.sample_value(contribution)
    }

    fn best_contribution(&self, known: &[f64]) -> Option<Vec<f64>> {
        self.definition.best_contribution(known)
    }

    fn margin(&self, contribution: &[f64]) -> Option<f64> {
        self.definition.margin(contribution)
    }

    fn fold(&self, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        self.definition.fold(&self.input, contributions)
    }
}

/// Reads a whole declaration: every parameter must be known.
pub(super) fn declare<D: Definition>(word: &str, mut parameters: Parameters<'_>) -> Result<D, DeclarationError> {
    let definition = D::read(word, &mut parameters)?;
    parameters.finish()?;
    Ok(definition)
}
