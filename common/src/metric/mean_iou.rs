//! Mean intersection over union of predicted and true class maps, over all pixels of all samples.

use super::definition::Definition;
use super::input::Input;
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs};
use crate::dataset::{Annotation, ClassMap, Truth};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Mean intersection over union.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeanIou {
    /// How the output becomes a class map.
    pub decision: Decision,
    /// True class of pixels that are not judged.
    pub ignore_label: Option<u32>,
}

/// How an output becomes a class map.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The class of the largest of scores [1, classes, height, width].
    Largest,
    /// The output [1, height, width] is a class map.
    Given,
    /// Class 1 where a score of [1, 1, height, width] is at least this, else class 0.
    Threshold(f64),
}

/// Pixels of a class: predicted and true, predicted, true.
#[derive(Clone, Copy, Default)]
struct Pixels {
    both: u64,
    predicted: u64,
    labelled: u64,
}

type Counts = BTreeMap<u32, Pixels>;

impl Definition for MeanIou {
    const WORDS: &'static [&'static str] = &["mean_iou", "miou"];
    const ORIENTATION: Orientation = Orientation::HigherBetter;
    const IS_SPATIAL: bool = true;

    fn read(_word: &str, parameters: &mut Parameters<'_>) -> Result<MeanIou, DeclarationError> {
        let use_argmax = parameters.boolean("use_argmax")?;
        let threshold = parameters.number("threshold", f64::MIN, f64::MAX)?;
        let ignore_label = match parameters.count("ignore_label", 0)?.map(u32::try_from) {
            None => None,
            Some(Ok(label)) => Some(label),
            Some(Err(_)) => return parameters.refuse("ignore_label", "is too large for a class index"),
        };
        let decision = match (threshold, use_argmax) {
            (Some(_), Some(true)) => return parameters.refuse("threshold", "contradicts \"use_argmax\": true"),
            (Some(threshold), _) => Decision::Threshold(threshold),
            (None, Some(false)) => Decision::Given,
            (None, _) => Decision::Largest,
        };
        Ok(MeanIou { decision, ignore_label })
    }

    fn truth(&self) -> Truth {
        Truth::Mask
    }

    /// `[class, intersection, predicted, true]` of every class of the sample, ascending. Where prediction and truth differ
    /// in size, the prediction is stretched to the truth's, each pixel taking the nearest.
    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        let Annotation::Mask(truth) = annotation else {
            return Err(input.annotation_error(Truth::Mask, annotation));
        };
        let prediction = self.prediction(input, outputs)?;
        let mut counts = Counts::new();
        for (place, class) in truth.classes().enumerate() {
            if Some(class) == self.ignore_label {
                continue;
            }
            if prediction.classes.is_some_and(|classes| class >= classes) {
                let classes = prediction.classes.unwrap_or_default();
                let advice = "name it as `ignore_label` if such pixels are not to be judged";
                return Err(input.output_error(format!(
                    "a true class is {class}, but the model knows 0 to {}; {advice}",
                    classes.saturating_sub(1)
                )));
            }
            let predicted = prediction.at(truth, place);
            counts.entry(predicted).or_default().predicted += 1;
            let pixels = counts.entry(class).or_default();
            pixels.labelled += 1;
            pixels.both += u64::from(predicted == class);
        }
        let numbers = counts.into_iter().flat_map(|(class, Pixels { both, predicted, labelled })| {
            [f64::from(class), both as f64, predicted as f64, labelled as f64]
        });
        Ok(numbers.collect())
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        let mut counts = Counts::new();
        add(&mut counts, contribution)?;
        Some(mean(&counts)).filter(|mean| !mean.is_nan())
    }
    /// Every true pixel found and none else predicted: no class has a smaller union or a larger intersection.
    fn best_contribution(&self, known: &[f64]) -> Option<Vec<f64>> {
        let (classes, rest) = known.as_chunks::<4>();
        let there = classes.iter().filter(|[_, _, _, labelled]| *labelled > 0.0);
        let found = there.flat_map(|&[class, _, _, labelled]| [class, labelled, labelled, labelled]);
        rest.is_empty().then(|| found.collect())
    }

    /// Mean over the classes that are predicted or true somewhere; NaN where no pixel is judged.
    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        let mut counts = Counts::new();
        input.fold_lists(contributions, |contribution| {
            add(&mut counts, contribution).ok_or_else(|| input.broken("no pixel counts"))
        })?;
        Ok(mean(&counts))
    }
}

/// `None` for what no contribution holds.
fn add(counts: &mut Counts, contribution: &[f64]) -> Option<()> {
    let whole = |value: f64| (value.fract() == 0.0 && (0.0..9e15).contains(&value)).then_some(value as u64);
    let (classes, rest) = contribution.as_chunks::<4>();
    for &[class, both, predicted, labelled] in classes {
        let pixels = counts.entry(u32::try_from(whole(class)?).ok()?).or_default();
        pixels.both += whole(both)?;
        pixels.predicted += whole(predicted)?;
        pixels.labelled += whole(labelled)?;
    }
    rest.is_empty().then_some(())
}

fn mean(counts: &Counts) -> f64 {
    let share = |pixels: &Pixels| pixels.both as f64 / (pixels.predicted + pixels.labelled - pixels.both) as f64;
    counts.values().map(share).sum::<f64>() / counts.len() as f64
}

/// A predicted class map, and how many classes there are where that is known.
struct Prediction {
    height: usize,
    width: usize,
    map: Vec<u32>,
    classes: Option<u32>,
}

impl Prediction {
    /// The class at a place of the truth.
    fn at(&self, truth: &ClassMap, place: usize) -> u32 {
        let (height, width) = (truth.height as usize, truth.width as usize);
        let nearest = |index: usize, from: usize, to: usize| (2 * index + 1) * to / (2 * from);
        let row = nearest(place / width, height, self.height);
        self.map[row * self.width + nearest(place % width, width, self.width)]
    }
}

impl MeanIou {
    fn prediction(&self, input: &Input, outputs: &Outputs<'_>) -> Result<Prediction, MetricError> {
        let (array, values) = input.values(outputs)?;
        let shape = array.shape();
        let refuse = |expected: &str| {
            Err(input.output_error(format!("the output has shape {shape:?}; {expected} was expected")))
        };
        let (height, width, map, classes) = match (self.decision, shape) {
            (_, &[.., height, width]) if height == 0 || width == 0 => return refuse("a map of at least one pixel"),
            (Decision::Largest, &[1, classes @ 2..=usize::MAX, height, width]) => {
                let pixels = height * width;
                let mut best = vec![0u32; pixels];
                let mut largest = values[..pixels].to_vec();
                for (class, plane) in values.chunks_exact(pixels).enumerate().skip(1) {
                    for ((best, largest), value) in best.iter_mut().zip(&mut largest).zip(plane) {
                        if value > largest {
                            (*best, *largest) = (class as u32, *value);
                        }
                    }
                }
                (height, width, best, Some(classes as u32))
            }
            (Decision::Largest, _) => return refuse("[1, classes, height, width] with two classes or more"),
            (Decision::Given, &[1, height, width] | &[1, 1, height, width]) => {
                let is_class = |value: &&f32| value.fract() == 0.0 && (0.0..=65535.0).contains(*value);
                if values.iter().filter(is_class).count() != values.len() {
                    return refuse("a class map of whole numbers");
                }
                (height, width, values.iter().map(|&value| value as u32).collect(), None)
            }
            (Decision::Threshold(threshold), &[1, height, width] | &[1, 1, height, width]) => {
                let map = values.iter().map(|&value| u32::from(f64::from(value) >= threshold)).collect();
                (height, width, map, Some(2))
            }
            (Decision::Given | Decision::Threshold(_), _) => return refuse("[1, height, width]"),
        };
        Ok(Prediction { height, width, map, classes })
    }
}
