//! Pascal VOC's mean average precision: one overlap threshold, difficult objects left out.

use super::definition::Definition;
use super::detection::{Detector, Interpolation, Records, VocRules, encode};
use super::input::Input;
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// How precision over recall becomes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Integral {
    /// Area under the curve.
    Max,
    /// Mean at eleven recalls.
    #[serde(rename = "11point")]
    ElevenPoints,
}

/// Mean average precision by Pascal VOC's rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VocMap {
    /// How outputs become boxes.
    pub detector: Detector,
    /// Overlap from which an object is found.
    pub overlap_threshold: f64,
    /// How precision over recall becomes one number.
    pub integral: Integral,
    /// Whether difficult objects count for nothing.
    pub ignore_difficult: bool,
    /// Whether edges are pixels that belong to their box.
    pub include_boundaries: bool,
}

impl VocMap {
    fn interpolation(&self) -> Interpolation {
        match self.integral {
            Integral::Max => Interpolation::Area,
            Integral::ElevenPoints => Interpolation::Points11,
        }
    }
}

impl Definition for VocMap {
    const WORDS: &'static [&'static str] = &["map", "voc_map"];
    const ORIENTATION: Orientation = Orientation::HigherBetter;
    const IS_SPATIAL: bool = true;

    fn read(_word: &str, parameters: &mut Parameters<'_>) -> Result<VocMap, DeclarationError> {
        let overlap_threshold = parameters.number("overlap_threshold", 0.0, 1.0)?.unwrap_or(0.5);
        let integrals = [("max", Integral::Max), ("11point", Integral::ElevenPoints)];
        let integral = parameters.choice("integral", &integrals)?.unwrap_or(Integral::Max);
        let ignore_difficult = parameters.boolean("ignore_difficult")?.unwrap_or(true);
        let include_boundaries = parameters.boolean("include_boundaries")?.unwrap_or(true);
        let detector = Detector::read(parameters)?;
        Ok(VocMap { detector, overlap_threshold, integral, ignore_difficult, include_boundaries })
    }

    fn truth(&self) -> Truth {
        Truth::Boxes
    }

    fn validate(&self) -> Result<(), String> {
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
        let rules = VocRules {
            threshold: self.overlap_threshold,
            ignore_difficult: self.ignore_difficult,
            include_boundaries: self.include_boundaries,
        };
        let (counts, matches) = rules.matches(&self.detector.detect(input, outputs)?, truth);
        Ok(encode(&counts, &matches))
    }

    /// Average precision over the classes of the image; of an image without objects 1 where nothing is detected, else 0.
    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        Records::of_one(contribution).map(|records| records.sample_value(1, self.interpolation()))
    }

    /// NaN where no sample has an object.
    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        Ok(Records::collect(input, contributions)?.mean_average_precision(1, self.interpolation()))
    }
}
