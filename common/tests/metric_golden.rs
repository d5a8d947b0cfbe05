//! Every metric against the reference implementations: `golden/metrics.py` says which, and writes what is compared here.

#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use holdfast_common::dataset::Annotation;
use holdfast_common::metric::{MetricDefinition, MetricSpec, Outputs, build};
use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct Golden {
    data: Vec<Samples>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Samples {
    outputs: Vec<Vec<Output>>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    parameters: Map<String, Value>,
    data: usize,
    value: f64,
    tolerance: f64,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/metrics.json")).unwrap()
}

impl Case {
    fn spec(&self) -> MetricSpec {
        let definition = MetricDefinition::from_parameters(&self.kind, &self.parameters)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        MetricSpec { name: self.name.clone(), output: None, definition }
    }

    /// What the samples contribute under a specification.
    fn contributions(&self, golden: &Golden, spec: &MetricSpec) -> Vec<Vec<f64>> {
        let metric = build(spec).unwrap();
        let samples = &golden.data[self.data];
        let contribution = |(outputs, annotation): (&Vec<Output>, &Annotation)| {
            let names: Vec<String> = outputs.iter().map(|output| output.name.clone()).collect();
            let array = |output: &Output| ArrayD::from_shape_vec(IxDyn(&output.shape), output.values.clone()).unwrap();
            let values: Vec<ArrayD<f32>> = outputs.iter().map(array).collect();
            metric
                .contribution(&Outputs { names: &names, values: &values }, annotation)
                .unwrap_or_else(|error| panic!("{}: {error}", self.name))
        };
        samples.outputs.iter().zip(&samples.annotations).map(contribution).collect()
    }
}

fn fold(spec: &MetricSpec, contributions: &[Vec<f64>]) -> f64 {
    build(spec).unwrap().fold(&mut contributions.iter().map(Vec::as_slice)).unwrap()
}

#[test]
fn every_metric_gives_the_value_of_its_reference() {
    let mut wrong = Vec::new();
    let golden = golden();
    for case in &golden.cases {
        let spec = case.spec();
        let value = fold(&spec, &case.contributions(&golden, &spec));
        if (value - case.value).abs() > case.tolerance || value.is_nan() {
            wrong.push(format!("{}: {value}, the reference gives {}", case.name, case.value));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_metric_is_compared_with_a_reference() {
    let cases = golden().cases;
    for name in MetricDefinition::NAMES {
        assert!(cases.iter().any(|case| case.kind == *name), "{name} has no case");
    }
}

#[test]
fn a_definition_survives_its_text() {
    let golden = golden();
    for case in &golden.cases {
        let spec = case.spec();
        let read: MetricSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(read, spec);
        assert!(spec.definition.is_called(&case.kind), "{}", case.name);
    }
}

#[test]
fn the_metric_of_one_sample_is_that_sample_folded_alone() {
    // Where a sample has nothing that counts, there is no fold to compare with.
    let alone =
        ["mse", "mae", "rmse", "psnr", "cosine_similarity", "accuracy", "log_loss", "ndcg", "perplexity", "cer"];
    let more = ["wer", "mean_iou", "map", "coco_precision"];
    let golden = golden();
    for case in golden.cases.iter().filter(|case| alone.iter().chain(&more).any(|kind| *kind == case.kind)) {
        let spec = case.spec();
        let metric = build(&spec).unwrap();
        let mut compared = 0;
        for contribution in case.contributions(&golden, &spec) {
            let folded = fold(&spec, std::slice::from_ref(&contribution));
            let Some(value) = metric.sample_value(&contribution) else {
                assert!(!folded.is_finite(), "{}", case.name);
                continue;
            };
            if folded.is_finite() {
                assert_eq!(value, folded, "{}", case.name);
                compared += 1;
            }
        }
        assert!(compared > 0, "{}", case.name);
    }
}

#[test]
fn a_broken_contribution_is_refused_and_never_folded() {
    let golden = golden();
    for case in &golden.cases {
        let spec = case.spec();
        let metric = build(&spec).unwrap();
        let mut contributions = case.contributions(&golden, &spec);
        let Some(last) = contributions.last_mut() else { continue };
        last.push(f64::NAN);
        let damaged = metric.fold(&mut contributions.iter().map(Vec::as_slice));
        assert!(damaged.is_err(), "{}: {damaged:?}", case.name);
        assert!(metric.fold(&mut std::iter::empty()).is_err(), "{}", case.name);
    }
}
