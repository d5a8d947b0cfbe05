//! The metrics of a data set: their parameters are read by the metrics themselves, their mistakes shown in the text.

use super::document::Node;
use super::keys::METRIC;
use holdfast_common::metric::{DeclarationError, MetricDefinition, MetricSpec};
use serde_json::Map;

/// Parameters that stand beside `metrics` and go with every metric that knows them.
const SHARED: [&str; 2] = ["adapter", "postprocessing"];

/// What stands beside `metrics` in a data set.
pub(super) struct Shared<'d> {
    pub(super) adapter: Option<Node<'d>>,
    pub(super) postprocessing: Option<Node<'d>>,
}

impl<'d> Shared<'d> {
    fn get(&self, key: &str) -> Option<&Node<'d>> {
        match key {
            "adapter" => self.adapter.as_ref(),
            "postprocessing" => self.postprocessing.as_ref(),
            _ => None,
        }
    }

    /// Refuses what no metric reads.
    pub(super) fn finish(&self, metrics: &[Node<'_>]) {
        let is_read = |key: &str| {
            let kinds = metrics.iter().filter_map(|node| Some(node.json().get("type")?.as_str()?.to_owned()));
            kinds.into_iter().any(|kind| MetricDefinition::parameter_names(&kind).contains(&key))
        };
        for key in SHARED {
            let is_empty = |node: &&Node<'_>| node.is_array() && node.array().is_some_and(|list| list.is_empty());
            if let Some(node) = self.get(key).filter(|node| !is_empty(node))
                && !is_read(key)
            {
                node.refuse("is read by none of the metrics", Some("they take the model's outputs as they are"));
            }
        }
    }
}

/// Reads the list of metrics; their names are distinct.
pub(super) fn read_metrics(node: &Node<'_>, shared: &Shared<'_>) -> Option<Vec<MetricSpec>> {
    let mut metrics: Vec<MetricSpec> = Vec::new();
    let mut complete = true;
    for element in node.array()? {
        let Some(metric) = read_metric(&element, shared) else {
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

fn read_metric(node: &Node<'_>, shared: &Shared<'_>) -> Option<MetricSpec> {
    let metric = node.object()?;
    let kind_node = metric.required("type")?;
    let kind = kind_node.string()?;
    let names = MetricDefinition::parameter_names(&kind);
    let mut parameters = Map::new();
    for name in &names {
        if let Some(value) = metric.get(name).as_ref().or(shared.get(name)) {
            parameters.insert((*name).to_owned(), value.json());
        }
    }
    let name = metric.optional("name", Node::string);
    let output = metric.optional("output", Node::string);
    metric.without_effect("presenter", "the report shows every metric");
    metric.without_effect("reference", "the float model is the reference");
    for key in ["threshold", "abs_threshold", "rel_threshold"] {
        if !names.contains(&key) {
            metric.without_effect(key, "the goal is set by `maximal_drop`");
        }
    }
    let definition = match MetricDefinition::from_parameters(&kind, &parameters) {
        Ok(definition) => Some(definition),
        Err(DeclarationError::Metric { .. }) => {
            kind_node.refuse_word(&kind, "is no metric of this release", MetricDefinition::NAMES);
            // Without the metric nobody knows which keys there are.
            return None;
        }
        Err(error) => {
            show(&error, node, shared);
            None
        }
    };
    metric.refuse_unknown(&METRIC, &names);
    let definition = definition?;
    let name = name?.unwrap_or_else(|| definition.default_name());
    Some(MetricSpec { name, output: output?, definition })
}

/// Shows a mistake at the key it is about, or as close to it as the text goes.
fn show(error: &DeclarationError, metric: &Node<'_>, shared: &Shared<'_>) {
    let path = error.key().unwrap_or_default();
    let first = path.split(['.', '[']).next().unwrap_or_default();
    let own = metric.child(first);
    let mut node = own.as_ref().or(shared.get(first)).unwrap_or(metric).clone();
    let mut rest = path.strip_prefix(first).unwrap_or_default();
    let mut reached = first.to_owned();
    while !rest.is_empty() {
        let step = rest.trim_start_matches(['.', '[']);
        let (key, after) = step.split_at(step.find(['.', '[', ']']).unwrap_or(step.len()));
        let Some(child) = node.child(key) else { break };
        node = child;
        reached = key.to_owned();
        rest = after.trim_start_matches(']');
    }
    let is_there = rest.is_empty() && path.ends_with(&reached) && (own.is_some() || shared.get(first).is_some());
    match error {
        DeclarationError::Value { problem, .. } if is_there => node.refuse(problem, None),
        DeclarationError::Value { .. } | DeclarationError::Key { .. } | DeclarationError::Metric { .. } => {
            node.refuse(&format!("is not understood: {error}"), None);
        }
    }
}
