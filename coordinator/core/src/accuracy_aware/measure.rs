//! Asking the evaluator, counting what was asked, and folding answers into metrics.

use super::Problem;
use crate::error::CoreError;
use crate::evaluator::{Evaluator, Stage};
use crate::observer::Observer;
use crate::record::Counts;
use holdfast_common::evaluation::{Candidate, Evaluation, SampleIndex, SampleResult, Want};
use holdfast_common::metric::Metric;

/// Per-sample metrics: for each constrained metric one value per sample, where the metric has one.
pub(super) type SampleValues = Vec<Vec<Option<f64>>>;

/// A model's metrics on some samples.
pub(super) struct Measured {
    /// One per constrained metric.
    pub(super) values: Vec<f64>,
    /// Per sample, in the order asked.
    pub(super) results: Vec<SampleResult>,
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
        let values = self.values(stage, &results)?;
        Ok(Measured { values, results })
    }

    /// The constrained metrics of these results; they must be finite.
    pub(super) fn values(&self, stage: Stage, results: &[SampleResult]) -> Result<Vec<f64>, CoreError> {
        let mut values = Vec::with_capacity(self.constrained.len());
        for metric in 0..self.constrained.len() {
            let value = self.fold(stage, metric, &mut results.iter().map(|result| self.part(result, metric)))?;
            if !value.is_finite() {
                let metric = self.problem.metrics[self.constrained[metric]].0.name.clone();
                return Err(CoreError::MetricNotFinite { stage, metric, value });
            }
            values.push(value);
        }
        Ok(values)
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
        let fold = |results: &Vec<SampleResult>| {
            self.fold(stage, metric, &mut results.iter().map(|result| self.part(result, metric)))
        };
        answers.iter().map(fold).collect()
    }

    /// Every candidate on samples of its own, all side by side. Only samples are counted; what became of the evaluations
    /// is for the caller to count.
    pub(super) async fn each(
        &mut self,
        stage: Stage,
        asked: Vec<(Candidate, Vec<SampleIndex>)>,
    ) -> Result<Vec<Vec<SampleResult>>, CoreError> {
        let longest = asked.iter().map(|(_, samples)| samples.len()).max().unwrap_or(0);
        self.observer.stage_started(stage, asked.len(), longest);
        self.counts.add_samples(stage, asked.iter().map(|(_, samples)| samples.len()).sum());
        let evaluations: Vec<Evaluation> =
            asked.into_iter().map(|(candidate, samples)| self.evaluation(candidate, samples)).collect();
        let lengths: Vec<usize> = evaluations.iter().map(|evaluation| evaluation.samples.len()).collect();
        let answers = self.evaluator.evaluate(stage, evaluations).await?;
        check(stage, &answers, &lengths, self.problem.metrics.len())?;
        Ok(answers)
    }

    /// The evaluation of a candidate on validation samples.
    pub(super) fn evaluation(&self, candidate: Candidate, samples: Vec<SampleIndex>) -> Evaluation {
        let workload = match candidate.scheme {
            None => self.problem.baseline.unwrap_or(self.problem.validation.workload),
            Some(_) => self.problem.validation.workload,
        };
        Evaluation { workload, candidate, want: Want::Contributions, samples }
    }

    /// All candidates side by side on these samples; all constrained metrics of each, NaN where one has none.
    pub(super) async fn all(
        &mut self,
        stage: Stage,
        candidates: Vec<Candidate>,
        samples: &[SampleIndex],
    ) -> Result<Vec<Vec<f64>>, CoreError> {
        let answers = self.ask(stage, candidates, samples).await?;
        let folded = |results: &Vec<SampleResult>| {
            let fold = |metric| self.fold(stage, metric, &mut results.iter().map(|result| self.part(result, metric)));
            (0..self.constrained.len()).map(fold).collect()
        };
        answers.iter().map(folded).collect()
    }

    /// All candidates side by side on these samples; of each, the mean over samples of the normalised squared distance of
    /// its outputs to those of the float model that the scheme was made for.
    pub(super) async fn distances(
        &mut self,
        stage: Stage,
        candidates: Vec<Candidate>,
        samples: &[SampleIndex],
    ) -> Result<Vec<f64>, CoreError> {
        let answers = self.ask_for(&Want::Distance, stage, candidates, samples).await?;
        let mut means = Vec::with_capacity(answers.len());
        for results in &answers {
            let mut sum = 0.0;
            for result in results {
                let [squared, _] = both_distances(stage, result)?;
                sum += squared;
            }
            means.push(sum / results.len() as f64);
        }
        Ok(means)
    }

    /// Of one candidate, the cosine distance of its outputs to those of the float model that the scheme was made for, for
    /// each of these samples.
    pub(super) async fn cosine_distances(
        &mut self,
        stage: Stage,
        candidate: Candidate,
        samples: &[SampleIndex],
    ) -> Result<Vec<f64>, CoreError> {
        let answers = self.ask_for(&Want::Distance, stage, vec![candidate], samples).await?;
        answers.iter().flatten().map(|result| both_distances(stage, result).map(|[_, cosine]| cosine)).collect()
    }

    async fn ask(
        &mut self,
        stage: Stage,
        candidates: Vec<Candidate>,
        samples: &[SampleIndex],
    ) -> Result<Vec<Vec<SampleResult>>, CoreError> {
        self.ask_for(&Want::Contributions, stage, candidates, samples).await
    }

    async fn ask_for(
        &mut self,
        want: &Want,
        stage: Stage,
        candidates: Vec<Candidate>,
        samples: &[SampleIndex],
    ) -> Result<Vec<Vec<SampleResult>>, CoreError> {
        let expected = candidates.len();
        self.observer.stage_started(stage, expected, samples.len());
        self.counts.add(stage, expected, samples.len(), self.problem.validation.samples.len());
        let evaluation = |candidate| Evaluation { want: want.clone(), ..self.evaluation(candidate, samples.to_vec()) };
        let evaluations = candidates.into_iter().map(evaluation).collect();
        let answers = self.evaluator.evaluate(stage, evaluations).await?;
        let parts = match want {
            Want::Contributions | Want::Predictions => self.problem.metrics.len(),
            Want::Distance | Want::Statistics(_) => 1,
        };
        check(stage, &answers, &vec![samples.len(); expected], parts)?;
        Ok(answers)
    }

    /// A constrained metric over contributions in sample order.
    pub(super) fn fold(
        &self,
        stage: Stage,
        metric: usize,
        contributions: &mut dyn Iterator<Item = &[f64]>,
    ) -> Result<f64, CoreError> {
        self.metric(metric).fold(contributions).map_err(|source| CoreError::Metric { stage, source })
    }

    /// A constrained metric.
    pub(super) fn metric(&self, metric: usize) -> &dyn Metric {
        self.problem.metrics[self.constrained[metric]].1.as_ref()
    }

    /// What a sample contributes to a constrained metric.
    pub(super) fn part<'r>(&self, result: &'r SampleResult, metric: usize) -> &'r [f64] {
        &result.parts[self.constrained[metric]]
    }

    /// Per-sample metrics of these results.
    pub(super) fn sample_values(&self, results: &[SampleResult]) -> SampleValues {
        let of_metric = |metric: usize| {
            results.iter().map(|result| self.metric(metric).sample_value(self.part(result, metric))).collect()
        };
        (0..self.constrained.len()).map(of_metric).collect()
    }
}

/// Whether answers have the shape of what was asked: one list per evaluation, one result per sample, so many parts each.
fn check(stage: Stage, answers: &[Vec<SampleResult>], lengths: &[usize], parts: usize) -> Result<(), CoreError> {
    let refuse = |what, found, expected| Err(CoreError::Answer { stage, what, found, expected });
    if answers.len() != lengths.len() {
        return refuse("evaluations", answers.len(), lengths.len());
    }
    for (results, length) in answers.iter().zip(lengths) {
        if results.len() != *length {
            return refuse("samples", results.len(), *length);
        }
        if let Some(odd) = results.iter().find(|result| result.parts.len() != parts) {
            return refuse("parts of a result", odd.parts.len(), parts);
        }
    }
    Ok(())
}

/// The squared and the cosine distance of one sample.
fn both_distances(stage: Stage, result: &SampleResult) -> Result<[f64; 2], CoreError> {
    let part = result.parts.first().map_or(&[][..], Vec::as_slice);
    let found = part.len();
    part.try_into().map_err(|_| CoreError::Answer { stage, what: "distances", found, expected: 2 })
}
