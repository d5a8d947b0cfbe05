//! Every model of the benchmark pack becomes a graph of the expected size and output shape.

use holdfast_common::graph::Graph;
use holdfast_common::model::Model;
use holdfast_common::onnx::NoExternalData;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// File, input shapes, number of data operations, multiply-accumulates, output shape.
type Case = (&'static str, &'static [(&'static str, &'static [usize])], usize, u64, &'static [usize]);

const CASES: [Case; 10] = [
    ("mnist_dwcnn", &[("image", &[1, 1, 28, 28])], 34, 402_736, &[1, 10]),
    ("mnist_dwcnn_b", &[("image", &[1, 1, 28, 28])], 34, 402_736, &[1, 10]),
    ("mnist_mbv2", &[("image", &[1, 1, 28, 28])], 37, 1_261_280, &[1, 10]),
    ("resnet20_cifar10", &[("input", &[1, 3, 32, 32])], 53, 40_551_040, &[1, 10]),
    ("resnet20_cifar10_hard", &[("input", &[1, 3, 32, 32])], 53, 40_551_040, &[1, 10]),
    ("resnet56_cifar10", &[("input", &[1, 3, 32, 32])], 145, 125_485_696, &[1, 10]),
    ("efficientnet_lite0", &[("input", &[1, 3, 224, 224])], 94, 385_187_552, &[1, 1000]),
    ("kws_ds_cnn", &[("mfcc", &[1, 1, 49, 10])], 21, 2_656_768, &[1, 12]),
    ("fastestdet_coco", &[], 211, 121_491_744, &[1, 85, 22, 22]),
    ("minilm3_banking77", &[("input_ids", &[1, 32]), ("attention_mask", &[1, 32])], 172, 172_258_176, &[1, 77]),
];

fn bench() -> Option<PathBuf> {
    let place = std::env::var_os("HOLDFAST_BENCH").map(PathBuf::from);
    if place.is_none() {
        println!("skipped: HOLDFAST_BENCH is not set");
    }
    place
}

fn load(bench: &std::path::Path, name: &str) -> Model {
    let path = bench.join("models").join(format!("{name}.onnx"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Model::load(&bytes, &NoExternalData).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn graph(model: &Model, shapes: &[(&str, &[usize])]) -> Graph {
    let shapes: BTreeMap<String, Vec<usize>> =
        shapes.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect();
    model.graph(&shapes).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_bench_model_becomes_the_expected_graph() {
    let Some(bench) = bench() else { return };
    for (name, shapes, ops, macs, output) in CASES {
        let graph = graph(&load(&bench, name), shapes);
        let total: u64 = graph.ops().map(|(id, _)| graph.macs(id)).sum();
        let shape = &graph.tensor(graph.outputs[0]).shape;
        assert_eq!((graph.ops.len(), total), (ops, macs), "{name}");
        assert_eq!(shape, output, "{name}");
    }
}

#[test]
fn the_normal_form_of_every_bench_model_is_a_fixed_point() {
    let Some(bench) = bench() else { return };
    for (name, ..) in CASES {
        let model = load(&bench, name);
        let again = Model::load(&model.to_bytes(), &NoExternalData).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(again.digest(), model.digest(), "{name}");
    }
}
