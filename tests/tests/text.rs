//! A text encoder on its labelled data: as many right answers as its reference counts.
//!
//! HOLDFAST_BENCH names the folder with models and data; without it the test says that it does not run.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use holdfast_common::model::Model;
use holdfast_common::onnx::NoExternalData;
use holdfast_kernels::Isa;
use holdfast_tests::arrays::Samples;
use holdfast_worker::plan::{PackedCache, Plan, Variant};
use ndarray::Array1;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Right answers of 1,540 in ONNX Runtime; a tie of logits may fall either way between engines.
const REFERENCE: i64 = 1341;

#[test]
fn an_encoder_with_token_ids_answers_as_often_right_as_its_reference() {
    let Some(bench) = std::env::var_os("HOLDFAST_BENCH").map(PathBuf::from) else {
        println!("skipped: HOLDFAST_BENCH is not set");
        return;
    };
    let file = |name: &str| bench.join("data/banking77").join(name).display().to_string();
    let bytes = std::fs::read(bench.join("models/minilm3_banking77.onnx")).unwrap();
    let model = Model::load(&bytes, &NoExternalData).unwrap();
    let paths = format!("{},{}", file("test_input_ids.npy"), file("test_attention_mask.npy"));
    let samples = Samples::read(&model, &paths).unwrap();
    let labels: Array1<i64> = ndarray_npy::read_npy(file("test_labels.npy")).unwrap();
    let graph = model.graph(samples.shapes()).unwrap();
    let plan = Plan::new(&graph, Variant::Baseline, Isa::best(), &PackedCache::default(), &BTreeSet::new()).unwrap();
    let right = (0..samples.count()).filter(|&index| {
        let data = samples.get(index);
        let logits = plan.run_tensors(&data).unwrap().swap_remove(0);
        let logits = logits.as_f32().unwrap();
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        best as i64 == labels[index]
    });
    let right = right.count() as i64;
    assert!((right - REFERENCE).abs() <= 1, "{right} right answers instead of {REFERENCE}");
}
