//! What one image adds to average precision, as numbers, and how they fold.

use super::super::MetricError;
use super::super::input::Input;
use std::collections::BTreeMap;

/// Overlap thresholds there may be: a mask of each of two kinds fits a float exactly.
pub(in super::super) const MAX_THRESHOLDS: usize = 24;

/// What became of one detection, one bit an overlap threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct Match {
    /// Class index.
    pub(in super::super) class: u32,
    /// Confidence.
    pub(in super::super) score: f32,
    /// It found an object.
    pub(in super::super) hits: u32,
    /// It counts for nothing: neither right nor wrong.
    pub(in super::super) ignored: u32,
}

/// How precision over recall becomes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Interpolation {
    /// Mean of the precision at recalls 0, 0.01, …, 1 (COCO).
    Points101,
    /// Mean of the precision at recalls 0, 0.1, …, 1 (VOC 2007).
    Points11,
    /// Area under the curve (VOC 2010 and later).
    Area,
}

/// Records of some images, class by class.
#[derive(Default)]
pub(in super::super) struct Records {
    classes: BTreeMap<u32, ClassRecords>,
}

#[derive(Default)]
struct ClassRecords {
    objects: u64,
    matches: Vec<Match>,
}

/// `[classes with objects, then class and objects of each, then class, score, hits, ignored of every detection]`.
pub(in super::super) fn encode(counts: &[(u32, u32)], matches: &[Match]) -> Vec<f64> {
    let mut contribution = Vec::with_capacity(1 + 2 * counts.len() + 4 * matches.len());
    contribution.push(counts.len() as f64);
    contribution.extend(counts.iter().flat_map(|&(class, objects)| [f64::from(class), f64::from(objects)]));
    for found in matches {
        let numbers = [found.class.into(), found.score.into(), found.hits.into(), found.ignored.into()];
        contribution.extend::<[f64; 4]>(numbers);
    }
    contribution
}

/// A number that counts or names something.
fn index(value: f64) -> Option<u32> {
    (value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value)).then_some(value as u32)
}

impl Records {
    /// The records of all images.
    pub(in super::super) fn collect(
        input: &Input,
        contributions: &mut dyn Iterator<Item = &[f64]>,
    ) -> Result<Records, MetricError> {
        let mut records = Records::default();
        input.fold_lists(contributions, |contribution| {
            records.add(contribution).ok_or_else(|| input.broken("no match records"))
        })?;
        Ok(records)
    }

    /// The records of one image; `None` for what [`encode`] never writes.
    pub(in super::super) fn of_one(contribution: &[f64]) -> Option<Records> {
        let mut records = Records::default();
        records.add(contribution)?;
        Some(records)
    }

    fn add(&mut self, contribution: &[f64]) -> Option<()> {
        let (count, rest) = contribution.split_first()?;
        let (counts, matches) = rest.split_at_checked((index(*count)? as usize).checked_mul(2)?)?;
        for &[class, objects] in counts.as_chunks::<2>().0 {
            self.classes.entry(index(class)?).or_default().objects += u64::from(index(objects)?);
        }
        let (matches, odd) = matches.as_chunks::<4>();
        for &[class, score, hits, ignored] in matches {
            let found = Match {
                class: index(class)?,
                score: Some(score as f32).filter(|score| !score.is_nan())?,
                hits: index(hits)?,
                ignored: index(ignored)?,
            };
            self.classes.entry(found.class).or_default().matches.push(found);
        }
        odd.is_empty().then_some(())
    }

    /// Average precision of one image; where it has no object, whether nothing was detected.
    pub(in super::super) fn sample_value(self, thresholds: usize, interpolation: Interpolation) -> f64 {
        if self.classes.values().any(|class| class.objects > 0) {
            return self.mean_average_precision(thresholds, interpolation);
        }
        let is_false = |found: &Match| (0..thresholds).any(|threshold| found.ignored >> threshold & 1 == 0);
        let has_false = self.classes.values().flat_map(|class| &class.matches).any(is_false);
        if has_false { 0.0 } else { 1.0 }
    }

    /// Mean average precision over thresholds and over the classes that have objects; NaN where none has.
    pub(in super::super) fn mean_average_precision(mut self, thresholds: usize, interpolation: Interpolation) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for class in self.classes.values_mut().filter(|class| class.objects > 0) {
            // Images stay in their order where scores are equal.
            class.matches.sort_by(|a, b| b.score.total_cmp(&a.score));
            for threshold in 0..thresholds {
                sum += class.average_precision(threshold, interpolation);
                count += 1.0;
            }
        }
        sum / count
    }
}

impl ClassRecords {
    /// Precision is made to fall only, from the right, before it is read.
    fn average_precision(&self, threshold: usize, interpolation: Interpolation) -> f64 {
        let (mut hits, mut misses) = (0.0, 0.0);
        let mut curve: Vec<(f64, f64)> = Vec::with_capacity(self.matches.len());
        for found in &self.matches {
            if found.ignored >> threshold & 1 == 1 {
                continue;
            }
            if found.hits >> threshold & 1 == 1 {
                hits += 1.0
            } else {
                misses += 1.0
            };
            curve.push((hits / self.objects as f64, hits / (hits + misses)));
        }
        let mut best = 0.0;
        for (_, precision) in curve.iter_mut().rev() {
            best = f64::max(best, *precision);
            *precision = best;
        }
        match interpolation {
            Interpolation::Points101 => mean_at(&curve, 101),
            Interpolation::Points11 => mean_at(&curve, 11),
            Interpolation::Area => {
                let (mut area, mut before) = (0.0, 0.0);
                for (recall, precision) in curve {
                    area += (recall - before) * precision;
                    before = recall;
                }
                area
            }
        }
    }
}

/// The mean of the precision at equally spaced recalls from 0 to 1; 0 beyond what was reached.
fn mean_at(curve: &[(f64, f64)], points: usize) -> f64 {
    let step = 1.0 / (points - 1) as f64;
    let (mut sum, mut position) = (0.0, 0);
    for point in 0..points {
        let wanted = if point == points - 1 { 1.0 } else { point as f64 * step };
        position += curve[position..].iter().take_while(|(recall, _)| *recall < wanted).count();
        let Some((_, precision)) = curve.get(position) else { break };
        sum += precision;
    }
    sum / points as f64
}
