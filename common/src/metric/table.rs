//! The metrics there are: each stands here in one line and in its own file.

use super::definition::{Definition, bind, declare};
use super::parameters::{DeclarationError, Parameters};
use super::{Metric, MetricError, MetricSpec};
use crate::dataset::Truth;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

macro_rules! metrics {
    ($($(#[$documentation:meta])* $module:ident :: $variant:ident,)*) => {
        /// The metrics there are, with their parameters.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case", tag = "type")]
        pub enum MetricDefinition {
            $($(#[$documentation])* $variant(super::$module::$variant),)*
        }

        impl MetricDefinition {
            /// The words metrics are declared by, one a metric.
            pub const NAMES: &'static [&'static str] = &[$(super::$module::$variant::WORDS[0],)*];

            /// Reads a metric's type word and the parameters beside it, as written in a configuration.
            ///
            /// `parameters` holds what is not common to all metrics (those are `name` and `output`). Words and
            /// parameters are the accuracy checker's where it has them; `accuracy@topN` is short for `accuracy` with
            /// `top_k` N.
            ///
            /// # Errors
            ///
            /// [`DeclarationError`] names the word or the key that is not understood, and the known ones.
            pub fn from_parameters(
                word: &str,
                parameters: &Map<String, Value>,
            ) -> Result<MetricDefinition, DeclarationError> {
                let parameters = Parameters::new(parameters);
                $(if super::$module::$variant::accepts(word) {
                    return declare::<super::$module::$variant>(word, parameters).map(MetricDefinition::$variant);
                })*
                Err(DeclarationError::Metric { word: word.to_owned(), known: MetricDefinition::NAMES.to_vec() })
            }

            /// The keys a metric's parameters may have; empty for a word that is no metric.
            pub fn parameter_names(word: &str) -> Vec<&'static str> {
                let none = Map::new();
                let mut parameters = Parameters::new(&none);
                // Which keys there are shows in which are asked for; what a missing one leads to does not matter here.
                $(if super::$module::$variant::accepts(word) {
                    let _ = super::$module::$variant::read(word, &mut parameters);
                })*
                parameters.known().to_vec()
            }

            /// The name of a metric nobody named, such as `accuracy@top1`.
            pub fn default_name(&self) -> String {
                match self {
                    $(MetricDefinition::$variant(definition) => definition.default_name(),)*
                }
            }

            /// Whether a type word means this metric, whatever its parameters.
            pub fn is_called(&self, word: &str) -> bool {
                match self {
                    $(MetricDefinition::$variant(_) => super::$module::$variant::accepts(word),)*
                }
            }

            /// The kind of annotation it compares outputs with.
            pub fn truth(&self) -> Truth {
                match self {
                    $(MetricDefinition::$variant(definition) => definition.truth(),)*
                }
            }

            /// Whether it compares places in the image: then preprocessing may stretch the image but cut nothing off.
            pub fn is_spatial(&self) -> bool {
                match self {
                    $(MetricDefinition::$variant(_) => super::$module::$variant::IS_SPATIAL,)*
                }
            }
        }

        /// Builds the metric a specification declares.
        ///
        /// # Errors
        ///
        /// [`MetricError::Definition`] where its parameters make no sense.
        pub fn build(spec: &MetricSpec) -> Result<Box<dyn Metric>, MetricError> {
            match &spec.definition {
                $(MetricDefinition::$variant(definition) => bind(spec, definition),)*
            }
        }
    };
}

metrics! {
    /// Share of samples whose label is among the `top_k` largest scores.
    accuracy::Accuracy,
    /// F1 score of the predicted classes.
    f1::F1,
    /// Precision of the predicted classes.
    precision::Precision,
    /// Recall of the predicted classes.
    recall::Recall,
    /// Matthews correlation of the best class with the label, over all classes.
    matthews::Matthews,
    /// Mean squared error over all target elements of all samples.
    mse::Mse,
    /// Square root of the mean squared error.
    rmse::Rmse,
    /// Mean absolute error over all target elements of all samples.
    mae::Mae,
    /// Cosine similarity of output and target, mean over the samples.
    cosine::Cosine,
    /// Peak signal-to-noise ratio of output and target.
    psnr::Psnr,
    /// Pearson's correlation of predicted and true numbers.
    pearson::Pearson,
    /// Spearman's rank correlation of predicted and true numbers.
    spearman::Spearman,
    /// Cross-entropy of scores and label.
    log_loss::LogLoss,
    /// Area under the ROC curve.
    roc_auc::RocAuc,
    /// Normalized discounted cumulative gain of one relevant item.
    ndcg::Ndcg,
    /// Perplexity of token logits.
    perplexity::Perplexity,
    /// Edits of recognized words.
    word_error_rate::WordErrorRate,
    /// Edits of recognized characters.
    character_error_rate::CharacterErrorRate,
    /// Mean intersection over union of class maps.
    mean_iou::MeanIou,
    /// Mean average precision by COCO's rules.
    coco_precision::CocoPrecision,
    /// Mean average precision by Pascal VOC's rules.
    voc_map::VocMap,
}

impl MetricDefinition {
    /// Accuracy among the `top_k` best classes.
    pub fn accuracy(top_k: usize) -> MetricDefinition {
        MetricDefinition::Accuracy(super::accuracy::Accuracy { top_k })
    }
}
