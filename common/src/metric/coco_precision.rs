//! COCO's mean average precision: averaged over overlap thresholds and classes, with crowds and area ranges.

use super::definition::Definition;
use super::detection::{CocoRules, Detector, Interpolation, MAX_THRESHOLDS, Records, encode};
use super::input::Input;
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// Which objects count, by their area in pixels of the original image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AreaRange {
    /// All.
    All,
    /// Up to 32².
    Small,
    /// From 32² to 96².
    Medium,
    /// From 96² on.
    Large,
}

impl AreaRange {
    /// Smallest and largest area, both counted.
    fn limits(self) -> [f64; 2] {
        const END: f64 = 1e10;
        match self {
            AreaRange::All => [0.0, END],
            AreaRange::Small => [0.0, 1024.0],
            AreaRange::Medium => [1024.0, 9216.0],
            AreaRange::Large => [9216.0, END],
        }
    }
}

/// Mean average precision by COCO's rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CocoPrecision {
    /// How outputs become boxes.
    pub detector: Detector,
    /// Overlaps from which an object is found; the metric is the mean over them.
    pub thresholds: Vec<f64>,
    /// Detections of one class and image that are looked at.
    pub max_detections: usize,
    /// Objects that count.
    pub area: AreaRange,
}

impl Definition for CocoPrecision {
    const WORDS: &'static [&'static str] = &["coco_precision", "coco_orig_precision", "coco_map"];
    const ORIENTATION: Orientation = Orientation::HigherBetter;
    const IS_SPATIAL: bool = true;

    fn read(_word: &str, parameters: &mut Parameters<'_>) -> Result<CocoPrecision, DeclarationError> {
        let thresholds = read_thresholds(parameters)?;
        let max_detections = parameters.count("max_detections", 1)?.unwrap_or(100);
        let areas = [
            ("all", AreaRange::All),
            ("small", AreaRange::Small),
            ("medium", AreaRange::Medium),
            ("large", AreaRange::Large),
        ];
        let area = parameters.choice("area", &areas)?.unwrap_or(AreaRange::All);
        Ok(CocoPrecision { detector: Detector::read(parameters)?, thresholds, max_detections, area })
    }

    fn default_name(&self) -> String {
        match self.thresholds.as_slice() {
            [only] => format!("coco_precision@{only}"),
            _ => "coco_precision".to_owned(),
        }
    }

    fn truth(&self) -> Truth {
        Truth::Boxes
    }

    fn validate(&self) -> Result<(), String> {
        if self.thresholds.is_empty() || self.thresholds.len() > MAX_THRESHOLDS {
            return Err(format!("{} thresholds; 1 to {MAX_THRESHOLDS} are possible", self.thresholds.len()));
        }
        self.detector.validate()
    }

    /// Match records; see the room's `encode`.
    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        let Annotation::Boxes(truth) = annotation else {
            return Err(input.annotation_error(Truth::Boxes, annotation));
        };
        let detections = self.detector.detect(input, outputs)?;
        let rules =
            CocoRules { thresholds: &self.thresholds, max_detections: self.max_detections, area: self.area.limits() };
        let (counts, matches) = rules.matches(&detections, truth);
        Ok(encode(&counts, &matches))
    }

    /// Average precision over the classes of the image; of an image without objects 1 where nothing is detected, else 0.
    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        Records::of_one(contribution)
            .map(|records| records.sample_value(self.thresholds.len(), Interpolation::Points101))
    }

    /// NaN where no sample has an object.
    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        let records = Records::collect(input, contributions)?;
        Ok(records.mean_average_precision(self.thresholds.len(), Interpolation::Points101))
    }
}

/// `threshold`: one number, a list, or a range such as ".50:.05:.95", which is also what holds where nothing is said.
fn read_thresholds(parameters: &mut Parameters<'_>) -> Result<Vec<f64>, DeclarationError> {
    let value = parameters.value("threshold");
    let text = value.and_then(|value| value.as_str()).unwrap_or(if value.is_none() { ".50:.05:.95" } else { "" });
    let thresholds = match text.split(':').map(|part| part.trim().parse::<f64>().ok()).collect::<Option<Vec<f64>>>() {
        Some(range) if range.len() == 3 => spaced(range[0], range[1], range[2]),
        _ => parameters.numbers("threshold")?.unwrap_or_default(),
    };
    let is_sound = thresholds.iter().all(|threshold| *threshold > 0.0 && *threshold <= 1.0);
    if !is_sound || thresholds.is_empty() || thresholds.len() > MAX_THRESHOLDS {
        let problem = format!(
            "should be overlaps above 0, at most 1 and at most {MAX_THRESHOLDS}: a number, a list, or a range such as \
             \".50:.05:.95\""
        );
        return parameters.refuse("threshold", problem);
    }
    Ok(thresholds)
}

/// From `first` to `last` in equal steps of about `step`, the bits of numpy's `linspace`; empty where that makes no sense.
fn spaced(first: f64, step: f64, last: f64) -> Vec<f64> {
    let steps = ((last - first) / step).round_ties_even();
    if !(1.0..MAX_THRESHOLDS as f64).contains(&steps) {
        return Vec::new();
    }
    let exact = (last - first) / steps;
    let mut thresholds: Vec<f64> = (0..steps as usize).map(|index| index as f64 * exact + first).collect();
    thresholds.push(last);
    thresholds
}
