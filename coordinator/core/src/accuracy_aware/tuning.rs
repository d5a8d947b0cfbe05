//! Hyperparameter tuning: quantization parameters are tried on the samples that suffered most; the best of them are
//! quantized with on the whole validation set, and kept where the model is better there.

use super::goal::Goal;
use super::measure::{Measure, SampleValues};
use super::ranking::by_degradation;
use super::search::Pool;
use super::trials::{COORDINATES, Trial, compat_biases, compat_ranges, values};
use super::{Entering, publish};
use crate::error::CoreError;
use crate::evaluator::{Evaluator, Stage};
use crate::parameters::{Mode, Parameters, QuantizationParameters};
use crate::quantize::calibration::Calibration;
use crate::record::{TrialRecord, TuningRecord};
use holdfast_common::Digest;
use holdfast_common::evaluation::{Candidate, SampleIndex};
use holdfast_common::metric::Orientation;
use std::collections::{BTreeMap, BTreeSet};

/// Stands in for a value of zero where something is divided by it.
const SMALLEST_VALUE: f64 = 1e-8;

/// Searches for better parameters than those the entering model was quantized with; `None`: there are none.
pub(super) async fn tune<E: Evaluator>(
    measure: &mut Measure<'_, E>,
    parameters: &Parameters,
    goal: &Goal,
    calibration: &Calibration,
    pool: &Pool,
    entering: &Entering,
) -> Result<(TuningRecord, Option<QuantizationParameters>), CoreError> {
    let quantized = pool.reduce(&measure.sample_values(&entering.measured.results));
    let size = parameters.ranking_subset_size;
    let mut chosen = hardest(&goal.orientations, &pool.float, &quantized, size, parameters.mode);
    if chosen.is_empty() {
        chosen = (0..pool.positions.len().min(size)).collect();
    }
    let all = &measure.problem.validation.samples;
    let samples: Vec<SampleIndex> = chosen.into_iter().map(|index| all[pool.positions[index]]).collect();
    let mut tuner = Tuner {
        measure,
        goal,
        calibration,
        mode: parameters.mode,
        known: BTreeMap::new(),
        record: TuningRecord { samples, trials: Vec::new(), adopted: false },
    };
    let winner = match parameters.mode {
        Mode::Compat => tuner.compat(&parameters.quantization).await?,
        Mode::Default => tuner.descend(&entering.parameters).await?,
    };
    Ok((tuner.record, winner))
}

/// Whether a tuned model takes the place of the one before it: its mean drop is smaller. In default mode no metric may
/// pay for that by going further beyond its limit, and a model within all limits is always taken.
pub(super) fn is_better(goal: &Goal, mode: Mode, new: &[f64], old: &[f64]) -> bool {
    let mean = |drops: &[f64]| drops.iter().sum::<f64>() / drops.len() as f64;
    let smaller = mean(new) < mean(old);
    match mode {
        Mode::Compat => smaller,
        Mode::Default => goal.is_met(new) || (smaller && goal.violation(new) <= goal.violation(old)),
    }
}

/// The samples that suffered most in any metric, ascending, at most `size` of them; in compat mode sometimes fewer, or a
/// few more, as POT counts a sample again for every round that brings it.
pub(super) fn hardest(
    orientations: &[Orientation],
    float: &SampleValues,
    quantized: &SampleValues,
    size: usize,
    mode: Mode,
) -> Vec<usize> {
    let metrics = orientations.iter().zip(float.iter().zip(quantized));
    let orders: Vec<Vec<usize>> =
        metrics.map(|(orientation, (float, quantized))| by_degradation(*orientation, float, quantized, mode)).collect();
    let longest = orders.iter().map(Vec::len).max().unwrap_or(0);
    let size = size.min(longest);
    let mut chosen: BTreeSet<usize> = BTreeSet::new();
    match mode {
        Mode::Default => {
            for rank in 0..longest {
                for order in &orders {
                    if chosen.len() < size {
                        chosen.extend(order.get(rank));
                    }
                }
            }
        }
        Mode::Compat => {
            let mut counted = 0;
            while counted < size {
                let share = (size - counted).div_ceil(orders.len());
                let next = orders.iter().flat_map(|order| order.iter().skip(counted).take(share));
                let round: BTreeSet<usize> = next.copied().collect();
                if round.is_empty() {
                    break;
                }
                counted += round.len();
                chosen.extend(round);
            }
        }
    }
    chosen.into_iter().collect()
}

struct Tuner<'t, 'm, E> {
    measure: &'t mut Measure<'m, E>,
    goal: &'t Goal,
    calibration: &'t Calibration,
    mode: Mode,
    /// Metrics on the subset by scheme.
    known: BTreeMap<Digest, Vec<f64>>,
    record: TuningRecord,
}

impl<E: Evaluator> Tuner<'_, '_, E> {
    /// Every coordinate in turn: its best value stays, the unchanged one where none is better.
    async fn descend(&mut self, from: &QuantizationParameters) -> Result<Option<QuantizationParameters>, CoreError> {
        let unchanged = Trial { change: "nothing".to_owned(), parameters: from.clone() };
        let reference = self.values(std::slice::from_ref(&unchanged)).await?.swap_remove(0);
        self.write_down(&unchanged, &reference, 0.0);
        let scale: Vec<f64> = self.goal.baseline.iter().map(|baseline| baseline.abs().max(SMALLEST_VALUE)).collect();
        let (mut best, mut least) = (None, 0.0);
        for coordinate in COORDINATES {
            let trials = values(coordinate, best.as_ref().unwrap_or(from));
            let found = self.values(&trials).await?;
            for (trial, values) in trials.into_iter().zip(&found) {
                let error = self.error(values, &reference, &scale);
                self.write_down(&trial, values, error);
                if error < least {
                    (best, least) = (Some(trial.parameters), error);
                }
            }
        }
        Ok(best)
    }

    /// POT's search: ten ranges, then both bias corrections on top of the best; the first trial is the reference.
    async fn compat(&mut self, from: &QuantizationParameters) -> Result<Option<QuantizationParameters>, CoreError> {
        let mut best: Option<(f64, QuantizationParameters)> = None;
        let mut scale: Option<Vec<f64>> = None;
        let mut trials = compat_ranges(from);
        for _ in 0..2 {
            let found = self.values(&trials).await?;
            for (trial, values) in trials.into_iter().zip(&found) {
                let error = match &scale {
                    Some(reference) => self.error(values, reference, reference),
                    None => 0.0,
                };
                scale.get_or_insert_with(|| values.iter().map(|value| value + SMALLEST_VALUE).collect());
                self.write_down(&trial, values, error);
                if best.as_ref().is_none_or(|(least, _)| error < *least) {
                    best = Some((error, trial.parameters));
                }
            }
            trials = best.as_ref().map_or_else(Vec::new, |(_, parameters)| compat_biases(parameters));
        }
        Ok(best.map(|(_, parameters)| parameters))
    }

    /// How much worse values are than the reference, as the mean share of the scale over all metrics.
    fn error(&self, values: &[f64], reference: &[f64], scale: &[f64]) -> f64 {
        let metrics = self.goal.orientations.iter().zip(values).zip(reference.iter().zip(scale));
        let gains =
            metrics.map(|((orientation, value), (reference, scale))| orientation.sign() * (value - reference) / scale);
        -gains.sum::<f64>() / values.len() as f64
    }

    /// The metrics of all trials on the subset; schemes that were not met before are evaluated side by side.
    async fn values(&mut self, trials: &[Trial]) -> Result<Vec<Vec<f64>>, CoreError> {
        let mut digests = Vec::with_capacity(trials.len());
        let mut new: Vec<Digest> = Vec::new();
        for trial in trials {
            let (_, digest) = publish(self.measure, &trial.parameters, self.calibration, self.mode).await?;
            if !self.known.contains_key(&digest) && !new.contains(&digest) {
                new.push(digest);
            }
            digests.push(digest);
        }
        if !new.is_empty() {
            let candidate = |digest: &Digest| Candidate { scheme: Some(*digest), reverted: Vec::new() };
            let candidates = new.iter().map(candidate).collect();
            let found = self.measure.all(Stage::Tuning, candidates, &self.record.samples).await?;
            self.known.extend(new.into_iter().zip(found));
        }
        Ok(digests.iter().map(|digest| self.known.get(digest).cloned().unwrap_or_default()).collect())
    }

    fn write_down(&mut self, trial: &Trial, values: &[f64], error: f64) {
        let finite = |value: f64| Some(value).filter(|value| value.is_finite());
        let trial = TrialRecord {
            change: trial.change.clone(),
            values: values.iter().copied().map(finite).collect(),
            error: finite(error),
        };
        self.measure.observer.tried(&trial);
        self.record.trials.push(trial);
    }
}
