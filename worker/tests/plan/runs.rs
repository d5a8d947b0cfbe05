//! What must not change a result: observing, what ran before, and a group reverted.

use crate::net::{Net, assert_bits, conv, first_output, values};
use holdfast_common::graph::{BinaryKind, OpId, OpKind, TensorId, UnaryKind};
use holdfast_common::scheme::GroupId;
use holdfast_kernels::Isa;
use holdfast_worker::plan::{PackedCache, Plan, PlanError, PortBuffer, Variant};
use std::collections::BTreeSet;

pub const SHAPE: [usize; 4] = [1, 16, 6, 6];

/// stem → relu → depthwise → clip → project → add(stem's relu) → global average → fully connected.
pub fn network() -> Net {
    let mut net = Net::default();
    let x = net.input("x", &SHAPE);
    let product = |net: &mut Net, name: &str, input: TensorId, kind: OpKind, weights: &[usize], out: &[usize]| {
        let seed = name.bytes().map(u64::from).sum();
        let depth: usize = weights.iter().product();
        let scaled: Vec<f32> = values(seed, depth).iter().map(|value| value / 4.0).collect();
        let w = net.constant(&format!("{name}.w"), weights, &scaled);
        let b = net.constant(&format!("{name}.b"), &weights[..1], &values(seed + 1, weights[0]));
        net.one(name, kind, &[input, w, b], out)
    };
    let three = |group| OpKind::Conv(conv([3, 3], [1, 1], [1, 1], [1, 1, 1, 1], group));
    let stem = product(&mut net, "stem", x, three(1), &[16, 16, 3, 3], &SHAPE);
    let relu = net.one("relu", OpKind::Unary(UnaryKind::Relu), &[stem], &SHAPE);
    let deep = product(&mut net, "depthwise", relu, three(16), &[16, 1, 3, 3], &SHAPE);
    let clip = net.one("clip", OpKind::Unary(UnaryKind::Clip { min: 0.0, max: 3.0 }), &[deep], &SHAPE);
    let one = OpKind::Conv(conv([1, 1], [1, 1], [1, 1], [0; 4], 1));
    let project = product(&mut net, "project", clip, one, &[16, 16, 1, 1], &SHAPE);
    let add = net.one("add", OpKind::Binary(BinaryKind::Add), &[project, relu], &SHAPE);
    let mean = net.one("mean", OpKind::GlobalAveragePool, &[add], &[1, 16, 1, 1]);
    let flat = net.one("flat", OpKind::Reshape, &[mean], &[1, 16]);
    let gemm = OpKind::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let y = product(&mut net, "classify", flat, gemm, &[10, 16], &[1, 10]);
    net.output(y);

    net.group(&["stem"]);
    net.activation(x, &[("stem", 0)], (0.008, 128));
    net.weights("stem", 0, &[0.002; 16]);
    net.group(&["depthwise"]);
    net.activation(relu, &[("depthwise", 0)], (0.02, 0));
    net.weights("depthwise", 0, &[0.002; 16]);
    net.group(&["project", "add"]);
    net.activation(clip, &[("project", 0)], (3.0 / 255.0, 0));
    net.weights("project", 0, &[0.002; 16]);
    net.activation(project, &[("add", 0)], (0.03, 120));
    net.activation(relu, &[("add", 1)], (0.02, 0));
    net.group(&["mean"]);
    net.activation(add, &[("mean", 0)], (0.04, 90));
    net.group(&["classify"]);
    net.activation(mean, &[("flat", 0)], (0.01, 50));
    net.weights("classify", 0, &[0.002; 10]);
    net
}

pub fn sample(seed: u64) -> Vec<Vec<f32>> {
    vec![values(seed, SHAPE.iter().product())]
}

fn none() -> BTreeSet<GroupId> {
    BTreeSet::new()
}

fn every_group(net: &Net) -> BTreeSet<GroupId> {
    net.scheme.group_ids().collect()
}

fn operations(net: &Net, names: &[&str]) -> BTreeSet<OpId> {
    names.iter().map(|name| net.graph.find_op(name).unwrap()).collect()
}

#[test]
fn every_instruction_set_gives_the_same_bits_in_every_precision() {
    let net = network();
    for reverted in [none(), every_group(&net), BTreeSet::from([GroupId(1)]), BTreeSet::from([GroupId(0), GroupId(2)])]
    {
        let expected = first_output(&net, &net.plan(Isa::Scalar, &reverted).unwrap(), &sample(1));
        for isa in Isa::available() {
            let found = first_output(&net, &net.plan(isa, &reverted).unwrap(), &sample(1));
            assert_bits(&found, &expected, &format!("{}, {reverted:?} reverted", isa.name()));
        }
    }
}

#[test]
fn observing_any_tensor_changes_no_bit_of_the_outputs() {
    let net = network();
    let data: Vec<TensorId> =
        (0..net.graph.tensors.len()).map(TensorId).filter(|id| net.graph.tensor(*id).constant.is_none()).collect();
    for reverted in [none(), BTreeSet::from([GroupId(1)]), every_group(&net)] {
        let expected = first_output(&net, &net.plan(Isa::best(), &reverted).unwrap(), &sample(2));
        let mut choices: Vec<BTreeSet<TensorId>> = data.iter().map(|id| BTreeSet::from([*id])).collect();
        choices.push(data.iter().copied().collect());
        for observed in choices {
            let plan = net.observing(Isa::best(), &reverted, &observed).unwrap();
            assert_bits(&first_output(&net, &plan, &sample(2)), &expected, &format!("{observed:?} observed"));
        }
    }
}

#[test]
fn an_observed_tensor_shows_what_its_operation_computes_before_it_is_quantized() {
    let net = network();
    let find = |name: &str| net.graph.find_tensor(name).unwrap();
    let (stem, relu, flat) = (find("stem:"), find("relu:"), find("classify:"));
    let plan = net.observing(Isa::best(), &none(), &BTreeSet::from([stem, relu, flat])).unwrap();
    let mut buffers = sample(3);
    plan.run(
        |port, buffer| {
            let PortBuffer::F32(buffer) = buffer else { panic!("a float input") };
            port.placement.scatter(buffers.swap_remove(0).into_iter(), buffer);
            Ok::<(), PlanError>(())
        },
        |finished| {
            let read = |tensor| finished.observed(tensor).map(|(placement, values)| placement.gather(values)).unwrap();
            let (before, after) = (read(stem), read(relu));
            assert!(before.iter().any(|value| *value < 0.0), "nothing to clamp");
            let clamped: Vec<f32> = before.iter().map(|value| if *value > 0.0 { *value } else { 0.0 }).collect();
            assert_bits(&after, &clamped, "relu");
            let logits: Vec<f32> = finished.outputs()[0].iter().copied().collect();
            assert_bits(&read(flat), &logits, "an output observed");
            Ok(())
        },
    )
    .unwrap();
}

#[test]
fn a_reverted_group_computes_on_floats_and_the_others_on_codes() {
    let net = network();
    let int8 = |reverted: &BTreeSet<GroupId>| net.plan(Isa::best(), reverted).unwrap().int8_operations();
    assert_eq!(int8(&none()), operations(&net, &["stem", "depthwise", "project", "add", "mean", "classify"]));
    assert_eq!(int8(&BTreeSet::from([GroupId(1)])), operations(&net, &["stem", "project", "add", "mean", "classify"]));
    assert_eq!(int8(&BTreeSet::from([GroupId(2)])), operations(&net, &["stem", "depthwise", "mean", "classify"]));
    assert_eq!(int8(&every_group(&net)), BTreeSet::new());
}

#[test]
fn a_scheme_with_every_group_reverted_is_the_baseline() {
    let mut net = network();
    net.scheme.biases.insert("stem".to_owned(), vec![9.0; 16]);
    let reverted = net.plan(Isa::best(), &every_group(&net)).unwrap();
    let baseline =
        Plan::new(&net.graph, Variant::Baseline, Isa::best(), &PackedCache::default(), &BTreeSet::new()).unwrap();
    for seed in 4..8 {
        let expected = first_output(&net, &baseline, &sample(seed));
        assert_bits(&first_output(&net, &reverted, &sample(seed)), &expected, "all reverted");
    }
}

#[test]
fn plans_that_share_packed_weights_do_not_change_each_other() {
    let net = network();
    let cache = PackedCache::default();
    let digest = net.scheme.digest().unwrap();
    let plan = |reverted: &BTreeSet<GroupId>, cache: &PackedCache| {
        let variant = Variant::Quantized { scheme: &net.scheme, digest, reverted };
        Plan::new(&net.graph, variant, Isa::best(), cache, &BTreeSet::new()).unwrap()
    };
    for reverted in [none(), BTreeSet::from([GroupId(2)]), every_group(&net), none()] {
        let alone = first_output(&net, &plan(&reverted, &PackedCache::default()), &sample(9));
        assert_bits(&first_output(&net, &plan(&reverted, &cache), &sample(9)), &alone, &format!("{reverted:?}"));
    }
}

#[test]
fn a_sample_leaves_no_trace_in_the_buffers_that_the_next_one_uses() {
    let net = network();
    for reverted in [none(), BTreeSet::from([GroupId(1)]), every_group(&net)] {
        let plan = net.plan(Isa::best(), &reverted).unwrap();
        let first = first_output(&net, &plan, &sample(10));
        let loud: Vec<f32> = values(11, SHAPE.iter().product()).iter().map(|value| value * 1e6).collect();
        first_output(&net, &plan, &[loud]);
        first_output(&net, &plan, &[vec![f32::NAN; SHAPE.iter().product()]]);
        first_output(&net, &plan, &[vec![f32::INFINITY; SHAPE.iter().product()]]);
        assert_bits(&first_output(&net, &plan, &sample(10)), &first, "the same sample again");
    }
}

#[test]
fn threads_that_share_a_plan_compute_the_same() {
    let net = network();
    let plan = net.plan(Isa::best(), &none()).unwrap();
    let expected: Vec<Vec<f32>> = (20..24).map(|seed| first_output(&net, &plan, &sample(seed))).collect();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for (seed, expected) in (20..24).zip(&expected) {
                    assert_bits(&first_output(&net, &plan, &sample(seed)), expected, "in a thread");
                }
            });
        }
    });
}
