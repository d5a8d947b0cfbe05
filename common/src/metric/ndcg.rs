//! Normalized discounted cumulative gain of one relevant item a sample: how high it ranks among the `top_k`.

use super::definition::Definition;
use super::input::{Input, ahead};
use super::parameters::{DeclarationError, Parameters};
use super::{MetricError, Orientation, Outputs};
use crate::dataset::{Annotation, Truth};
use serde::{Deserialize, Serialize};

/// Normalized discounted cumulative gain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ndcg {
    /// Ranks that gain something.
    pub top_k: usize,
}

impl Definition for Ndcg {
    const WORDS: &'static [&'static str] = &["ndcg"];
    const ORIENTATION: Orientation = Orientation::HigherBetter;

    fn read(_word: &str, parameters: &mut Parameters<'_>) -> Result<Ndcg, DeclarationError> {
        Ok(Ndcg { top_k: parameters.count("top_k", 1)?.unwrap_or(10) })
    }

    fn default_name(&self) -> String {
        format!("ndcg@{}", self.top_k)
    }

    fn truth(&self) -> Truth {
        Truth::Label
    }

    /// `[1 / log₂ (rank + 1)]`, 0 beyond `top_k`. Of equal scores the item of lower index ranks first.
    fn contribution(
        &self,
        input: &Input,
        outputs: &Outputs<'_>,
        annotation: &Annotation,
    ) -> Result<Vec<f64>, MetricError> {
        let scores = input.scores(outputs)?;
        let rank = 1 + ahead(&scores, input.label(annotation, scores.len())?);
        Ok(vec![if rank <= self.top_k { 1.0 / libm::log2(rank as f64 + 1.0) } else { 0.0 }])
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        contribution.first().copied()
    }
    fn best_contribution(&self, _known: &[f64]) -> Option<Vec<f64>> {
        Some(vec![1.0])
    }

    fn fold(&self, input: &Input, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        input.mean(contributions)
    }
}
