//! Statistics of the float model over the calibration samples.

use crate::accuracy_aware::SampleSet;
use crate::error::CoreError;
use crate::evaluator::{Evaluator, Stage};
use holdfast_common::evaluation::{Candidate, Evaluation, SampleResult, StatisticSpec, Want};
use holdfast_common::quantization::statistics::Aggregator;

/// What was observed, by statistic and sample.
///
/// Memory is bounded by the calibration set and the model: 8 bytes a sample and value (a statistic has one, or one a
/// channel) and 24 a sample and statistic. 300 samples with 25,000 channel means and 2,000 other statistics take 80 MB.
#[derive(Clone, Debug)]
pub struct Calibration {
    set: SampleSet,
    specs: Vec<StatisticSpec>,
    /// One per sample, in sample order; parts as `specs`.
    samples: Vec<SampleResult>,
}

impl Calibration {
    /// Asks for all statistics of the float model in one pass. Duplicates in the list are asked for once.
    pub async fn collect<E: Evaluator>(
        evaluator: &E,
        set: &SampleSet,
        wanted: Vec<StatisticSpec>,
    ) -> Result<Calibration, CoreError> {
        Calibration::of_candidate(evaluator, set, Candidate::baseline(), wanted).await
    }

    /// The same of another model.
    pub(super) async fn of_candidate<E: Evaluator>(
        evaluator: &E,
        set: &SampleSet,
        candidate: Candidate,
        wanted: Vec<StatisticSpec>,
    ) -> Result<Calibration, CoreError> {
        let mut specs: Vec<StatisticSpec> = Vec::new();
        for spec in wanted {
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
        if specs.is_empty() {
            return Ok(Calibration { set: set.clone(), specs, samples: Vec::new() });
        }
        let list =
            serde_json::to_vec(&specs).map_err(|source| CoreError::Json { what: "list of statistics", source })?;
        let list = evaluator.publish(list).await?;
        let evaluation = Evaluation {
            workload: set.workload,
            candidate,
            want: Want::Statistics(list),
            samples: set.samples.clone(),
        };
        let mut answers = evaluator.evaluate(Stage::Calibration, vec![evaluation]).await?;
        let refuse = |what, found, expected| CoreError::Answer { stage: Stage::Calibration, what, found, expected };
        let samples = match (answers.pop(), answers.len()) {
            (Some(samples), 0) => samples,
            (_, rest) => return Err(refuse("evaluations", rest + 1, 1)),
        };
        if samples.len() != set.samples.len() {
            return Err(refuse("samples", samples.len(), set.samples.len()));
        }
        if let Some(odd) = samples.iter().find(|sample| sample.parts.len() != specs.len()) {
            return Err(refuse("statistics", odd.parts.len(), specs.len()));
        }
        Ok(Calibration { set: set.clone(), specs, samples })
    }

    /// The samples that were observed.
    pub(super) fn set(&self) -> &SampleSet {
        &self.set
    }

    /// What a statistic was for every sample, in sample order.
    pub(super) fn by_sample(&self, spec: &StatisticSpec) -> Result<impl Iterator<Item = &[f64]>, CoreError> {
        let Some(part) = self.specs.iter().position(|known| known == spec) else {
            let what = "statistics of one kind";
            return Err(CoreError::Answer { stage: Stage::Calibration, what, found: 0, expected: 1 });
        };
        Ok(self.samples.iter().map(move |sample| sample.parts[part].as_slice()))
    }

    /// A statistic aggregated over samples: one value, or one per slice.
    pub fn aggregated(&self, spec: &StatisticSpec, aggregator: Aggregator) -> Result<Vec<f64>, CoreError> {
        self.aggregated_over(spec, aggregator, usize::MAX)
    }

    /// The same over the first so many samples.
    pub(super) fn aggregated_over(
        &self,
        spec: &StatisticSpec,
        aggregator: Aggregator,
        count: usize,
    ) -> Result<Vec<f64>, CoreError> {
        let refuse = |what, found, expected| CoreError::Answer { stage: Stage::Calibration, what, found, expected };
        let Some(part) = self.specs.iter().position(|known| known == spec) else {
            return Err(refuse("statistics of one kind", 0, 1));
        };
        let slices = self.samples.first().map_or(0, |sample| sample.parts[part].len());
        let mut columns = vec![Vec::with_capacity(self.samples.len().min(count)); slices];
        for sample in self.samples.iter().take(count) {
            let values = &sample.parts[part];
            if values.len() != slices {
                return Err(refuse("values of a statistic", values.len(), slices));
            }
            columns.iter_mut().zip(values).for_each(|(column, value)| column.push(*value));
        }
        Ok(columns.iter().filter_map(|column| aggregator.aggregate(column)).collect())
    }
}
