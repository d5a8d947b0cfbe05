//! Edits of recognized texts: what word and character error rate share.

use super::input::Input;
use super::text::{CtcDecoder, edit_distance};
use super::{MetricError, Outputs};
use crate::dataset::{Annotation, Truth};

/// Words or characters a text may have: the time to compare grows with the square.
const MAX_UNITS: usize = 1 << 14;

/// `[edits, units of the true text]`.
pub(super) fn contribution<T: PartialEq>(
    input: &Input,
    decoder: &CtcDecoder,
    outputs: &Outputs<'_>,
    annotation: &Annotation,
    units: impl Fn(&str) -> Vec<T>,
) -> Result<Vec<f64>, MetricError> {
    let Annotation::Text(truth) = annotation else {
        return Err(input.annotation_error(Truth::Text, annotation));
    };
    let (found, truth) = (units(&decoder.decode(input, outputs)?), units(truth));
    let longest = found.len().max(truth.len());
    if longest > MAX_UNITS {
        let problem = format!("a text has {longest} words or characters; {MAX_UNITS} are possible");
        return Err(input.output_error(problem));
    }
    Ok(vec![edit_distance(&found, &truth) as f64, truth.len() as f64])
}

/// No edits of a text as long.
pub(super) fn without_errors(contribution: &[f64]) -> Option<Vec<f64>> {
    match contribution {
        [_, units] => Some(vec![0.0, *units]),
        _ => None,
    }
}

/// Edits a true unit; of an empty true text there is no rate.
pub(super) fn sample_value(contribution: &[f64]) -> Option<f64> {
    match contribution {
        [edits, units] if *units > 0.0 => Some(edits / units),
        _ => None,
    }
}
