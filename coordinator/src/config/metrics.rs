//! Metrics of a data set, in accuracy-checker's words.

use super::document::Node;
use super::keys::METRIC;
use holdfast_common::metric::{MetricDefinition, MetricNameError, MetricSpec};

/// Reads a data set's `metrics`, whose names must differ.
pub(super) fn read_metrics(node: &Node<'_>) -> Option<Vec<MetricSpec>> {
    let mut metrics: Vec<MetricSpec> = Vec::new();
    let mut complete = true;
    for element in node.array()? {
        let Some(metric) = read_metric(&element) else {
            complete = false;
            continue;
        };
        if metrics.iter().any(|other| other.name == metric.name) {
            let problem = format!("has the name `{}` of a metric before it", metric.name);
            element.refuse(&problem, Some("give one of them another `name`"));
            complete = false;
        }
        metrics.push(metric);
    }
    complete.then_some(metrics)
}

fn read_metric(node: &Node<'_>) -> Option<MetricSpec> {
    let metric = node.section(&METRIC)?;
    let kind_node = metric.required("type")?;
    let kind = kind_node.string()?;
    let top_k = metric.optional("top_k", |node| node.count(1));
    let definition = top_k.and_then(|top_k| match MetricDefinition::from_name(&kind, top_k) {
        Ok(definition) => Some(definition),
        Err(MetricNameError::Unknown { .. }) => {
            kind_node.refuse_word(&kind, "is no metric of this release", &MetricDefinition::NAMES);
            None
        }
        Err(error @ MetricNameError::TopK { .. }) => {
            kind_node.refuse("contradicts `top_k`", Some(&error.to_string()));
            None
        }
    });
    let name = metric.optional("name", Node::string);
    let output = metric.optional("output", Node::string);
    metric.without_effect("presenter", "the report shows every metric");
    metric.without_effect("reference", "the float model is the reference");
    for key in ["threshold", "abs_threshold", "rel_threshold"] {
        metric.without_effect(key, "the goal is set by `maximal_drop`");
    }
    let definition = definition?;
    let name = name?.unwrap_or_else(|| definition.default_name());
    Some(MetricSpec { name, output: output?, definition })
}

/// Whether a metric is of the type that a word names, whatever its parameters.
pub(super) fn is_of_type(metric: &MetricSpec, word: &str) -> bool {
    MetricDefinition::from_name(word, None)
        .is_ok_and(|named| std::mem::discriminant(&named) == std::mem::discriminant(&metric.definition))
}

/// Whether a metric compares outputs with target values, which no folder name can give.
pub fn needs_targets(definition: &MetricDefinition) -> bool {
    match definition {
        MetricDefinition::Accuracy { .. }
        | MetricDefinition::F1
        | MetricDefinition::Precision
        | MetricDefinition::Recall
        | MetricDefinition::Matthews => false,
        MetricDefinition::Mse | MetricDefinition::Rmse | MetricDefinition::Mae | MetricDefinition::Cosine => true,
    }
}
