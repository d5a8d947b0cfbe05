//! Asking the evaluator, counting what was asked, and folding answers into metrics.

use super::Problem;
use crate::error::CoreError;
use crate::evaluator::{Evaluator, Stage};
use crate::observer::Observer;
use crate::record::Counts;
use holdfast_common::evaluation::{Candidate, Evaluation, SampleIndex, SampleResult, Want};

/// Per-sample metrics: for each constrained metric one value per sample, where the metric has one.
pub(super) type SampleValues = Vec<Vec<Option<f64>>>;

/// A model's metrics on some samples.
pub(super) struct Measured {
    /// One per constrained metric.
    pub(super) values: Vec<f64>,
    /// Per sample, in the order asked.
    pub(super) samples: SampleValues,
}

/// The constrained metrics over an evaluator.
pub(super) struct Measure<'a, E> {
    pub(super) evaluator: &'a E,
    pub(super) problem: &'a Problem<'a>,
    pub(super) observer: &'a dyn Observer,
    /// Constrained metrics, as indices into the problem's.
    pub(super) constrained: Vec<usize>,
    pub(super) counts: Counts,
}

impl<E: Evaluator> Measure<'_, E> {
    /// One candidate on these samples; its metrics must be finite.
    pub(super) async fn one(
        &mut self,
        stage: Stage,
        candidate: Candidate,
        samples: &[SampleIndex],
    ) -> Result<Measured, CoreError> {
        let answers = self.ask(stage, vec![candidate], samples).await?;
        let results = answers.into_iter().next().unwrap_or_default();
        let mut values = Vec::with_capacity(self.constrained.len());
        for metric in 0..self.constrained.len() {
            let value = self.fold(stage, metric, &results)?;
            if !value.is_finite() {
                let metric = self.problem.metrics[self.constrained[metric]].0.name.clone();
                return Err(CoreError::MetricNotFinite { stage, metric, value });
            }
            values.push(value);
        }
        Ok(Measured { values, samples: self.sample_values(&results) })
    }

    /// All candidates side by side on these samples; one value of one constrained metric each, NaN where it has none.
    pub(super) async fn many(
        &mut self,
        stage: Stage,
        candidates: Vec<Candidate>,
        samples: &[SampleIndex],
        metric: usize,
    ) -> Result<Vec<f64>, CoreError> {
        let answers = self.ask(stage, candidates, samples).await?;
        answers.iter().map(|results| self.fold(stage, metric, results)).collect()
    }

    async fn ask(
        &mut self,
        stage: Stage,
        candidates: Vec<Candidate>,
        samples: &[SampleIndex],
    ) -> Result<Vec<Vec<SampleResult>>, CoreError> {
        let workload = |candidate: &Candidate| match candidate.scheme {
            None => self.problem.baseline.unwrap_or(self.problem.validation.workload),
            Some(_) => self.problem.validation.workload,
        };
        let evaluations: Vec<Evaluation> = candidates
            .into_iter()
            .map(|candidate| Evaluation {
                workload: workload(&candidate),
                candidate,
                want: Want::Contributions,
                samples: samples.to_vec(),
            })
            .collect();
        let expected = evaluations.len();
        self.observer.stage_started(stage, expected, samples.len());
        self.counts.add(stage, expected, samples.len(), self.problem.validation.samples.len());
        let answers = self.evaluator.evaluate(stage, evaluations).await?;
        let refuse = |what, found, expected| Err(CoreError::Answer { stage, what, found, expected });
        if answers.len() != expected {
            return refuse("evaluations", answers.len(), expected);
        }
        for results in &answers {
            if results.len() != samples.len() {
                return refuse("samples", results.len(), samples.len());
            }
            if let Some(odd) = results.iter().find(|result| result.parts.len() != self.problem.metrics.len()) {
                return refuse("metrics", odd.parts.len(), self.problem.metrics.len());
            }
        }
        Ok(answers)
    }

    fn fold(&self, stage: Stage, metric: usize, results: &[SampleResult]) -> Result<f64, CoreError> {
        let index = self.constrained[metric];
        let mut contributions = results.iter().map(|result| result.parts[index].as_slice());
        self.problem.metrics[index].1.fold(&mut contributions).map_err(|source| CoreError::Metric { stage, source })
    }

    fn sample_values(&self, results: &[SampleResult]) -> SampleValues {
        let of_metric = |&index: &usize| {
            let metric = &self.problem.metrics[index].1;
            results.iter().map(|result| metric.sample_value(&result.parts[index])).collect()
        };
        self.constrained.iter().map(of_metric).collect()
    }
}
