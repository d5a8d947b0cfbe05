//! What every metric asks first: which output it reads, whether its numbers can be judged, what the annotation says.

use super::{MetricError, MetricSpec, Outputs};
use crate::dataset::{Annotation, Truth};
use ndarray::ArrayD;
use std::borrow::Cow;

/// The metric's name and the output it reads.
#[derive(Clone, Debug)]
pub(super) struct Input {
    metric: String,
    output: Option<String>,
}

impl Input {
    pub(super) fn new(spec: &MetricSpec) -> Input {
        Input { metric: spec.name.clone(), output: spec.output.clone() }
    }

    pub(super) fn output_error(&self, problem: String) -> MetricError {
        MetricError::Output { metric: self.metric.clone(), problem }
    }

    pub(super) fn definition_error(&self, problem: String) -> MetricError {
        MetricError::Definition { metric: self.metric.clone(), problem }
    }

    /// The error of a contribution that no version of this metric writes.
    pub(super) fn broken(&self, holds: &str) -> MetricError {
        self.output_error(format!("a stored contribution holds {holds}; the memo store or a worker is broken"))
    }

    /// A number of a contribution that counts or names something.
    pub(super) fn index(&self, value: f64) -> Result<u32, MetricError> {
        let is_index = value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value);
        is_index.then_some(value as u32).ok_or_else(|| self.broken(&format!("{value} in place of an index")))
    }

    /// The values of the output this metric reads, in row-major order, without NaN.
    pub(super) fn values<'a>(&self, outputs: &Outputs<'a>) -> Result<(&'a ArrayD<f32>, Cow<'a, [f32]>), MetricError> {
        self.values_of(outputs, self.output.as_deref())
    }

    /// The values of the output of this name, or of the first.
    pub(super) fn values_of<'a>(
        &self,
        outputs: &Outputs<'a>,
        name: Option<&str>,
    ) -> Result<(&'a ArrayD<f32>, Cow<'a, [f32]>), MetricError> {
        let position = match name {
            None => 0,
            Some(wanted) => outputs.names.iter().position(|name| name == wanted).ok_or_else(|| {
                self.output_error(format!("the model has no output `{wanted}`; it has {}", quoted(outputs.names)))
            })?,
        };
        let values = outputs.values.get(position);
        let array = values.ok_or_else(|| self.output_error("the model gave no output to read".to_owned()))?;
        let flat = match array.as_slice() {
            Some(slice) => Cow::Borrowed(slice),
            None => Cow::Owned(array.iter().copied().collect()),
        };
        if let Some(index) = flat.iter().position(|value| value.is_nan()) {
            let name = outputs.names.get(position).map_or("?", String::as_str);
            return Err(self.output_error(format!(
                "element {index} of output `{name}` is NaN for this sample; check the sample and its preprocessing, \
                 and that the float model computes it without overflow"
            )));
        }
        Ok((array, flat))
    }

    /// The class scores of one sample: all elements of an output that is one vector, whatever its axes of length 1.
    pub(super) fn scores<'a>(&self, outputs: &Outputs<'a>) -> Result<Cow<'a, [f32]>, MetricError> {
        let (array, flat) = self.values(outputs)?;
        let is_vector = array.shape().iter().filter(|&&length| length != 1).count() == 1;
        if !is_vector || flat.is_empty() {
            return Err(self.output_error(format!(
                "the output has shape {:?}, but one score per class is needed, [1, classes] with at least two classes; \
                 choose another output",
                array.shape()
            )));
        }
        Ok(flat)
    }

    /// The label of a sample, checked against the number of classes the model knows.
    pub(super) fn label(&self, annotation: &Annotation, classes: usize) -> Result<usize, MetricError> {
        let Annotation::Label(label) = annotation else {
            return Err(self.annotation_error(Truth::Label, annotation));
        };
        self.check_label(*label, classes)
    }

    /// The labels of a sample that may have several.
    pub(super) fn labels<'a>(&self, annotation: &'a Annotation, classes: usize) -> Result<&'a [u32], MetricError> {
        let Annotation::Labels(labels) = annotation else {
            return Err(self.annotation_error(Truth::Labels, annotation));
        };
        for label in labels {
            self.check_label(*label, classes)?;
        }
        Ok(labels)
    }

    fn check_label(&self, label: u32, classes: usize) -> Result<usize, MetricError> {
        let label = label as usize;
        if label >= classes {
            return Err(self.output_error(format!(
                "the label is {label}, but the model scores {classes} classes, 0 to {}; the labels may count from 1 or \
                 belong to another model",
                classes - 1
            )));
        }
        Ok(label)
    }

    /// Output and target values of a sample, of equal length.
    pub(super) fn targets<'a, 'b>(
        &self,
        outputs: &Outputs<'a>,
        annotation: &'b Annotation,
    ) -> Result<(Cow<'a, [f32]>, &'b [f32]), MetricError> {
        let (array, flat) = self.values(outputs)?;
        let Annotation::Values(targets) = annotation else {
            return Err(self.annotation_error(Truth::Values, annotation));
        };
        if targets.len() != flat.len() || targets.is_empty() {
            return Err(self.output_error(format!(
                "the output has shape {:?}, {} elements, but the sample carries {} target values; both must have as many",
                array.shape(),
                flat.len(),
                targets.len()
            )));
        }
        self.refuse_infinite(&flat)?;
        Ok((flat, targets))
    }

    /// Refuses infinite numbers, where a metric cannot compute with them.
    pub(super) fn refuse_infinite(&self, values: &[f32]) -> Result<(), MetricError> {
        match values.iter().position(|value| value.is_infinite()) {
            None => Ok(()),
            Some(index) => Err(self.output_error(format!("element {index} of the output is infinite for this sample"))),
        }
    }

    /// The error of an annotation of another kind.
    pub(super) fn annotation_error(&self, expected: Truth, annotation: &Annotation) -> MetricError {
        MetricError::Annotation { metric: self.metric.clone(), expected: expected.name(), found: annotation.kind() }
    }

    /// Hands contributions of any length to `add`; at least one.
    pub(super) fn fold_lists(
        &self,
        contributions: &mut dyn Iterator<Item = &[f64]>,
        mut add: impl FnMut(&[f64]) -> Result<(), MetricError>,
    ) -> Result<(), MetricError> {
        let mut is_empty = true;
        for contribution in contributions {
            add(contribution)?;
            is_empty = false;
        }
        if is_empty { Err(MetricError::Empty { metric: self.metric.clone() }) } else { Ok(()) }
    }

    /// Hands contributions of exactly `N` numbers to `add`; at least one.
    pub(super) fn fold_each<const N: usize>(
        &self,
        contributions: &mut dyn Iterator<Item = &[f64]>,
        mut add: impl FnMut([f64; N]) -> Result<(), MetricError>,
    ) -> Result<(), MetricError> {
        self.fold_lists(contributions, |contribution| {
            let found = contribution.len();
            let contribution = <[f64; N]>::try_from(contribution).map_err(|_| MetricError::Contribution {
                metric: self.metric.clone(),
                expected: N,
                found,
            })?;
            add(contribution)
        })
    }

    /// The sum of the first numbers of pairs over the sum of the second.
    pub(super) fn ratio(&self, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        let (mut numerator, mut denominator) = (0.0, 0.0);
        self.fold_each(contributions, |[one, other]| {
            numerator += one;
            denominator += other;
            Ok(())
        })?;
        Ok(numerator / denominator)
    }

    /// Mean of contributions of one number.
    pub(super) fn mean(&self, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        let (mut sum, mut count) = (0.0, 0.0);
        self.fold_each(contributions, |[value]| {
            sum += value;
            count += 1.0;
            Ok(())
        })?;
        Ok(sum / count)
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// How many classes rank before one; of equal scores the lower index does.
pub(super) fn ahead(scores: &[f32], class: usize) -> usize {
    let score = scores[class];
    scores.iter().enumerate().filter(|&(index, &other)| other > score || (other == score && index < class)).count()
}

/// The position of the largest score; of equal ones the first, as numpy's argmax has it.
pub(super) fn best(scores: &[f32]) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    best
}
