//! From the words of a configuration to a metric definition.

use super::MetricDefinition;

/// The name is not that of a metric, or does not go with its parameters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricNameError {
    /// No such metric.
    #[error("there is no metric `{name}`; known are {}", MetricDefinition::NAMES.join(", "))]
    Unknown {
        /// The word found.
        name: String,
    },
    /// `accuracy@top…` without a positive number, or with another one than `top_k`.
    #[error("metric `{name}`: {problem}")]
    TopK {
        /// The word found.
        name: String,
        /// What is wrong and what was expected.
        problem: String,
    },
}

impl MetricDefinition {
    /// The name of a metric nobody named, such as `accuracy@top1`; [`MetricDefinition::from_name`] reads it back.
    pub fn default_name(&self) -> String {
        match self {
            MetricDefinition::Accuracy { top_k } => format!("accuracy@top{top_k}"),
            MetricDefinition::F1 => "f1".to_owned(),
            MetricDefinition::Precision => "precision".to_owned(),
            MetricDefinition::Recall => "recall".to_owned(),
            MetricDefinition::Matthews => "mcc".to_owned(),
            MetricDefinition::Mse => "mse".to_owned(),
            MetricDefinition::Rmse => "rmse".to_owned(),
            MetricDefinition::Mae => "mae".to_owned(),
            MetricDefinition::Cosine => "cosine_similarity".to_owned(),
        }
    }

    /// The words metrics are declared by.
    pub const NAMES: [&'static str; 10] =
        ["accuracy", "accuracy@top5", "f1", "precision", "recall", "mcc", "mse", "rmse", "mae", "cosine_similarity"];

    /// Reads a metric's type word, as written in a configuration, and the `top_k` parameter beside it.
    ///
    /// `accuracy@topN` is short for `accuracy` with `top_k` N; without either, N is 1. The accuracy checker's names of
    /// the other metrics are understood as well.
    ///
    /// # Errors
    ///
    /// [`MetricNameError`] for other words, and for a `top_k` that is 0, contradicts the name, or has no meaning.
    pub fn from_name(name: &str, top_k: Option<usize>) -> Result<MetricDefinition, MetricNameError> {
        let refuse = |problem: String| Err(MetricNameError::TopK { name: name.to_owned(), problem });
        let definition = match name {
            "f1" | "f1-score" | "classification_f1-score" => MetricDefinition::F1,
            "precision" => MetricDefinition::Precision,
            "recall" => MetricDefinition::Recall,
            "mcc" | "metthews_correlation_coef" | "matthews_correlation_coef" => MetricDefinition::Matthews,
            "mse" => MetricDefinition::Mse,
            "rmse" => MetricDefinition::Rmse,
            "mae" => MetricDefinition::Mae,
            "cosine_similarity" | "cosine" => MetricDefinition::Cosine,
            _ => {
                let named = match name.strip_prefix("accuracy") {
                    Some("") => None,
                    Some(suffix) => match suffix.strip_prefix("@top").map(str::parse::<usize>) {
                        Some(Ok(k)) => Some(k),
                        _ => return Err(MetricNameError::Unknown { name: name.to_owned() }),
                    },
                    None => return Err(MetricNameError::Unknown { name: name.to_owned() }),
                };
                return match (named, top_k) {
                    (Some(0), _) | (_, Some(0)) => refuse("top_k is 0; it must be at least 1".to_owned()),
                    (Some(a), Some(b)) if a != b => refuse(format!("the name says top {a}, `top_k` says {b}")),
                    (named, top_k) => Ok(MetricDefinition::Accuracy { top_k: named.or(top_k).unwrap_or(1) }),
                };
            }
        };
        match top_k {
            None => Ok(definition),
            Some(_) => refuse("`top_k` goes with `accuracy` only; remove it".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_accuracy_carry_their_k() {
        let accuracy = |top_k| Ok(MetricDefinition::Accuracy { top_k });
        assert_eq!(MetricDefinition::from_name("accuracy", None), accuracy(1));
        assert_eq!(MetricDefinition::from_name("accuracy", Some(3)), accuracy(3));
        assert_eq!(MetricDefinition::from_name("accuracy@top1", None), accuracy(1));
        assert_eq!(MetricDefinition::from_name("accuracy@top5", Some(5)), accuracy(5));
        for (name, top_k) in [("accuracy@top5", Some(1)), ("accuracy@top0", None), ("accuracy", Some(0))] {
            assert!(matches!(MetricDefinition::from_name(name, top_k), Err(MetricNameError::TopK { .. })), "{name}");
        }
        for name in ["accuracy@", "accuracy@top", "accuracy@top-1", "Accuracy", "acc", ""] {
            assert!(matches!(MetricDefinition::from_name(name, None), Err(MetricNameError::Unknown { .. })), "{name}");
        }
        assert!(MetricDefinition::from_name("mse", Some(1)).is_err());
    }

    #[test]
    fn every_advertised_name_is_understood() {
        for name in MetricDefinition::NAMES {
            assert!(MetricDefinition::from_name(name, None).is_ok(), "{name}");
        }
    }
}
