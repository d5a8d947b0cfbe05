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

#[cfg(test)]
mod tests {
    use super::super::{AnnotationSource, RunRequest, parse};
    use crate::dataset::CocoNumbering;
    use holdfast_common::metric::MetricDefinition;
    use serde_json::{Map, json};
    use std::path::Path;

    const DETECTION: &str = r#"{ "model": { "model": "net.onnx" },
"engine": { "datasets": [ { "data_source": "images", "reader": "opencv_imread",
"annotation_conversion": { "converter": "mscoco_detection", "annotation_file": "instances.json", "has_background": true },
"adapter": { "type": "yolo_v5", "input_size": 64, "conf_threshold": 0.1 },
"postprocessing": [ { "type": "nms", "overlap": 0.45 } ],
"metrics": [ { "type": "coco_precision", "threshold": 0.5 },
{ "name": "voc", "type": "map", "adapter": { "type": "fastestdet" } } ] } ] },
"compression": { "algorithms": [ { "name": "DefaultQuantization", "params": {} } ] } }"#;

    fn read(text: &str) -> Result<RunRequest, String> {
        parse(text, "c.json", Path::new("/base")).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn metrics_share_what_stands_beside_them_unless_they_have_their_own() {
        let request = read(DETECTION).expect("sound");
        let declared = |word: &str, parameters: serde_json::Value| {
            let Some(parameters) = parameters.as_object() else { panic!("an object") };
            MetricDefinition::from_parameters(word, parameters).expect("sound")
        };
        let nms = json!([{ "type": "nms", "overlap": 0.45 }]);
        let yolo = json!({ "type": "yolo_v5", "input_size": [64, 64], "conf_threshold": 0.1 });
        let coco = json!({ "threshold": [0.5], "adapter": yolo, "postprocessing": nms });
        let voc = json!({ "adapter": { "type": "fastestdet" }, "postprocessing": nms });
        let found: Vec<_> = request.validation.metrics.iter().map(|metric| &metric.definition).collect();
        assert_eq!(found, [&declared("coco_precision", coco), &declared("map", voc)]);
        assert_eq!(request.validation.metrics[0].name, "coco_precision@0.5");
        let file = "/base/instances.json".into();
        let boxes = AnnotationSource::Coco { file, numbering: CocoNumbering::AfterBackground };
        assert_eq!(request.validation.annotation, Some(boxes));
    }

    #[test]
    fn mistakes_in_parameters_are_shown_where_they_stand() {
        let cases = [
            (r#""overlap": 0.45"#, r#""overlap": 2"#, "postprocessing[0].overlap` should be a number from 0 to 1"),
            (r#""input_size": 64, "#, "", "`adapter.input_size` should be the model input's height"),
            (
                r#""input_size": 64"#,
                r#""input_size": [64, 0]"#,
                "adapter.input_size` should be the model input's height",
            ),
            (r#""conf_threshold""#, r#""confidence""#, "`adapter.confidence` is no parameter here; known are type"),
            (r#""threshold": 0.5"#, r#""threshold": "0.5:0.95""#, "metrics[0].threshold` should be a list of numbers"),
            (r#""type": "fastestdet""#, r#""type": "yolov9""#, "metrics[1].adapter.type` should be one of"),
            (r#""type": "map""#, r#""type": "mapp""#, "is no metric of this release"),
            (r#""name": "voc","#, r#""name": "voc", "overlap_treshold": 1,"#, "did you mean `overlap_threshold`"),
        ];
        for (from, to, expected) in cases {
            let found = read(&DETECTION.replace(from, to)).expect_err(to);
            assert!(found.contains(expected), "{to}: {found}");
        }
    }

    #[test]
    fn what_no_metric_reads_is_refused() {
        let text = DETECTION.replace(r#""type": "coco_precision", "threshold": 0.5"#, r#""type": "accuracy""#);
        let text = text.replace(r#""type": "map", "adapter": { "type": "fastestdet" }"#, r#""type": "mcc""#);
        let found = read(&text).expect_err("nobody reads the adapter");
        assert!(found.contains("adapter` is read by none of the metrics"), "{found}");
        let empty = text.replace(r#"{ "type": "nms", "overlap": 0.45 }"#, "");
        assert!(!read(&empty).expect_err("the adapter is still there").contains("postprocessing` is read"), "{empty}");
    }

    #[test]
    fn every_parameter_asked_for_is_known() {
        for word in MetricDefinition::NAMES {
            let names = MetricDefinition::parameter_names(word);
            let unknown = json!({ "unheard_of": 1 });
            let unknown = unknown.as_object().cloned().unwrap_or_else(Map::new);
            assert!(!names.contains(&"unheard_of") && !names.contains(&"output"), "{word}");
            assert!(MetricDefinition::from_parameters(word, &unknown).is_err(), "{word}");
        }
    }
}
