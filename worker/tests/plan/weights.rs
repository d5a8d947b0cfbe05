//! Schemes of weights alone, and plans that only show what is observed: what bias correction asks for.

use crate::net::{Net, assert_bits, conv, first_output, values};
use holdfast_common::graph::{BinaryKind, OpKind, TensorData, TensorId, UnaryKind};
use holdfast_common::quantization::codes::quantize_weights;
use holdfast_common::scheme::{QuantizerSite, Scheme};
use holdfast_kernels::Isa;
use holdfast_worker::plan::{PackedCache, Plan, PlanError, PortBuffer, Variant};
use ndarray::{ArrayD, IxDyn};
use std::collections::BTreeSet;
use std::sync::Arc;

const SHAPE: [usize; 4] = [1, 16, 6, 6];

/// dense → relu → depthwise → add(dense's relu) → mean → fully connected, with schemes for weights and biases only.
fn network() -> Net {
    let mut net = Net::default();
    let x = net.input("x", &SHAPE);
    let product = |net: &mut Net, name: &str, input: TensorId, kind: OpKind, weights: &[usize], out: &[usize]| {
        let seed = name.bytes().map(u64::from).sum();
        let w = net.constant(&format!("{name}.w"), weights, &values(seed, weights.iter().product()));
        let b = net.constant(&format!("{name}.b"), &weights[..1], &values(seed + 1, weights[0]));
        net.one(name, kind, &[input, w, b], out)
    };
    let three = |group| OpKind::Conv(conv([3, 3], [1, 1], [1, 1], [1, 1, 1, 1], group));
    let dense = product(&mut net, "dense", x, three(1), &[16, 16, 3, 3], &SHAPE);
    let relu = net.one("relu", OpKind::Unary(UnaryKind::Relu), &[dense], &SHAPE);
    let deep = product(&mut net, "depthwise", relu, three(16), &[16, 1, 3, 3], &SHAPE);
    let add = net.one("add", OpKind::Binary(BinaryKind::Add), &[deep, relu], &SHAPE);
    let mean = net.one("mean", OpKind::GlobalAveragePool, &[add], &[1, 16, 1, 1]);
    let flat = net.one("flat", OpKind::Reshape, &[mean], &[1, 16]);
    let gemm = OpKind::Gemm { alpha: 0.5, beta: 1.0, trans_a: false, trans_b: true };
    let y = product(&mut net, "classify", flat, gemm, &[10, 16], &[1, 10]);
    net.output(y);
    net.group(&["dense", "depthwise", "classify"]);
    for (name, channels) in [("dense", 16), ("depthwise", 16), ("classify", 10)] {
        net.weights(name, 0, &vec![0.03; channels]);
    }
    net.scheme.biases.insert("dense".to_owned(), values(77, 16));
    net
}

/// The float network with the scheme worked into its constants.
fn edited(net: &Net) -> Net {
    let mut edited = Net { graph: net.graph.clone(), scheme: Scheme::default() };
    let mut set = |name: &str, array: ArrayD<f32>| {
        let id = edited.graph.find_tensor(name).unwrap();
        edited.graph.tensors[id.0].constant = Some(Arc::new(TensorData::F32(array)));
    };
    for quantizer in &net.scheme.quantizers {
        let QuantizerSite::Weight { tensor, .. } = &quantizer.site else { panic!("weights alone") };
        let constant = net.graph.tensor(net.graph.find_tensor(tensor).unwrap()).constant.clone().unwrap();
        let codes = quantize_weights(constant.as_f32().unwrap(), &quantizer.params).unwrap();
        set(tensor, codes.mapv(|code| 0.03 * f32::from(code)));
    }
    let bias = net.scheme.biases["dense"].clone();
    set("dense.b", ArrayD::from_shape_vec(IxDyn(&[16]), bias).unwrap());
    edited
}

fn sample() -> Vec<Vec<f32>> {
    vec![values(5, SHAPE.iter().product())]
}

/// The values of a tensor in a plan for it alone.
fn shown(net: &Net, variant: Variant<'_>, isa: Isa, cache: &PackedCache, tensor: &str) -> (Vec<f32>, Plan) {
    let tensor = net.graph.find_tensor(tensor).unwrap();
    let plan = Plan::observing(&net.graph, variant, isa, cache, &BTreeSet::from([tensor])).unwrap();
    let mut inputs = sample();
    let values = plan.run(
        |port, buffer| {
            let PortBuffer::F32(buffer) = buffer else { panic!("a float input") };
            port.placement.scatter(inputs.swap_remove(0).into_iter(), buffer);
            Ok::<(), PlanError>(())
        },
        |finished| Ok(finished.observed(tensor).map(|(placement, values)| placement.gather(values)).unwrap()),
    );
    (values.unwrap(), plan)
}

#[test]
fn quantized_weights_without_codes_to_multiply_are_the_floats_their_codes_stand_for() {
    let net = network();
    let edited = edited(&net);
    let (none, digest) = (BTreeSet::new(), net.scheme.digest().unwrap());
    for isa in Isa::available() {
        let cache = PackedCache::default();
        for tensor in ["dense:", "depthwise:", "classify:"] {
            let variant = Variant::Quantized { scheme: &net.scheme, digest, reverted: &none };
            let (found, _) = shown(&net, variant, isa, &cache, tensor);
            let (expected, _) = shown(&edited, Variant::Baseline, isa, &PackedCache::default(), tensor);
            assert_bits(&found, &expected, tensor);
            let (float, _) = shown(&net, Variant::Baseline, isa, &cache, tensor);
            assert_ne!(found, float, "the model's own weights stay what they are");
        }
    }
}

#[test]
fn a_plan_for_observed_tensors_ends_where_the_last_of_them_is_computed() {
    let net = network();
    let cache = PackedCache::default();
    let (first, plan) = shown(&net, Variant::Baseline, Isa::best(), &cache, "depthwise:");
    let operations: BTreeSet<&str> = plan
        .instructions()
        .flat_map(|(_, operations)| operations)
        .map(|id| net.graph.op(*id).name.as_str())
        .filter(|name| ["dense", "depthwise", "add", "classify"].contains(name))
        .collect();
    assert_eq!(operations, BTreeSet::from(["dense", "depthwise"]));
    let tensor = net.graph.find_tensor("depthwise:").unwrap();
    let whole = Plan::new(&net.graph, Variant::Baseline, Isa::best(), &cache, &BTreeSet::from([tensor])).unwrap();
    let mut inputs = sample();
    let through = whole.run(
        |port, buffer| {
            let PortBuffer::F32(buffer) = buffer else { panic!("a float input") };
            port.placement.scatter(inputs.swap_remove(0).into_iter(), buffer);
            Ok::<(), PlanError>(())
        },
        |finished| Ok(finished.observed(tensor).map(|(placement, values)| placement.gather(values)).unwrap()),
    );
    assert_bits(&first, &through.unwrap(), "a shorter plan computes the same");
}

#[test]
fn a_bias_of_another_length_is_refused() {
    let mut net = network();
    net.scheme.biases.insert("depthwise".to_owned(), vec![0.0; 3]);
    let found = net.plan(Isa::best(), &BTreeSet::new());
    assert!(matches!(found, Err(PlanError::Scheme { problem }) if problem.contains("3 biases")));
}

/// product → addition of constants that another addition adds too, in int8; the second addition's constants stay.
fn product_and_additions(bias: Option<Vec<f32>>) -> Net {
    let mut net = Net::default();
    let x = net.input("x", &[1, 3, 8]);
    let w = net.constant("w", &[8, 10], &values(11, 80));
    let shared = net.constant("shared", &[10], &values(12, 10));
    let product = net.one("product", OpKind::MatMul, &[x, w], &[1, 3, 10]);
    let sum = net.one("sum", OpKind::Binary(BinaryKind::Add), &[product, shared], &[1, 3, 10]);
    let relu = net.one("relu", OpKind::Unary(UnaryKind::Relu), &[sum], &[1, 3, 10]);
    let y = net.one("again", OpKind::Binary(BinaryKind::Add), &[relu, shared], &[1, 3, 10]);
    net.output(y);
    net.group(&["product"]);
    net.activation(x, &[("product", 0)], (0.01, 128));
    net.weights("product", 1, &[0.01; 10]);
    net.scheme.biases.extend(bias.map(|bias| ("product".to_owned(), bias)));
    net
}

#[test]
fn the_bias_of_a_product_is_what_the_addition_behind_it_adds() {
    let input = [values(5, 24)];
    let (own, other) = (values(12, 10), values(13, 10));
    let plain = product_and_additions(None).run(&input);
    assert_bits(&product_and_additions(Some(own)).run(&input), &plain, "the model's own constants");
    let corrected = product_and_additions(Some(other.clone()));
    assert_ne!(corrected.run(&input), plain);

    let mut edited = product_and_additions(None);
    let moved = edited.constant("moved", &[10], &other);
    let sum = edited.graph.find_op("sum").unwrap();
    edited.graph.ops[sum.0].inputs[1] = moved;
    edited.graph.tensors[moved.0].consumers.push((sum, 1));
    assert_bits(&corrected.run(&input), &edited.run(&input), "the constants of the first addition alone");

    let all = BTreeSet::from([holdfast_common::scheme::GroupId(0)]);
    let reverted = |net: &Net| first_output(net, &net.plan(Isa::best(), &all).unwrap(), &input);
    assert_bits(
        &reverted(&corrected),
        &reverted(&product_and_additions(None)),
        "reverted, it adds what the model does",
    );
    let short = product_and_additions(Some(vec![0.0; 3])).plan(Isa::best(), &BTreeSet::new());
    assert!(matches!(short, Err(PlanError::Scheme { problem }) if problem.contains("3 constants")));
}

#[test]
fn tuned_codes_stand_in_for_the_nearest_ones_on_every_path_until_they_are_reverted() {
    let input = [values(5, 24)];
    let plain = product_and_additions(None);
    let constant = plain.graph.tensor(plain.graph.find_tensor("w").unwrap()).constant.clone().unwrap();
    let nearest = quantize_weights(constant.as_f32().unwrap(), &plain.scheme.quantizers[1].params).unwrap();
    let with = |codes: Vec<i8>| {
        let mut net = product_and_additions(None);
        net.scheme.codes.insert("product".to_owned(), codes);
        net
    };
    let same = with(nearest.iter().copied().collect());
    assert_bits(&same.run(&input), &plain.run(&input), "the nearest codes");

    let moved: Vec<i8> = nearest.iter().enumerate().map(|(at, code)| code - (at % 3) as i8).collect();
    let tuned = with(moved.clone());
    // The same network with weights that are those codes exactly, in int8 and with weights alone quantized.
    let mut edited = product_and_additions(None);
    let id = edited.graph.find_tensor("w").unwrap();
    let array = ArrayD::from_shape_vec(IxDyn(&[8, 10]), moved.iter().map(|code| 0.01 * f32::from(*code)).collect());
    edited.graph.tensors[id.0].constant = Some(Arc::new(TensorData::F32(array.unwrap())));
    assert_ne!(tuned.run(&input), plain.run(&input));
    assert_bits(&tuned.run(&input), &edited.run(&input), "codes");
    edited.scheme.quantizers.remove(0);
    let mut floats = with(moved);
    floats.scheme.quantizers.remove(0);
    assert_bits(&floats.run(&input), &edited.run(&input), "what codes stand for");

    let all = BTreeSet::from([holdfast_common::scheme::GroupId(0)]);
    let reverted = |net: &Net| first_output(net, &net.plan(Isa::best(), &all).unwrap(), &input);
    assert_bits(&reverted(&tuned), &reverted(&plain), "reverted, the weights are the model's");
    let short = with(vec![0; 3]).plan(Isa::best(), &BTreeSet::new());
    assert!(matches!(short, Err(PlanError::Scheme { problem }) if problem.contains("3 codes")));
}
