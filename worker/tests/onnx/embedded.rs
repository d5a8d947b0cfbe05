//! An exported model read back computes, bit for bit, what its scheme says.

use holdfast_common::graph::TensorData;
use holdfast_common::model::Model;
use holdfast_common::onnx::schema::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, data_type,
};
use holdfast_common::onnx::{NoExternalData, encode_tensor};
use holdfast_common::scheme::{
    CodeType, GroupId, QuantParams, Quantizer, QuantizerGroup, QuantizerId, QuantizerSite, Scheme,
};
use holdfast_kernels::Isa;
use holdfast_worker::plan::{PackedCache, Plan, Variant};
use ndarray::{ArrayD, IxDyn};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// Reproducible values in −1…1.
fn values(seed: u32, shape: &[usize]) -> ArrayD<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    ArrayD::from_shape_simple_fn(IxDyn(shape), &mut next)
}

fn node(operator: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        name: Some(format!("{output}_op")),
        op_type: Some(operator.to_owned()),
        attribute: attributes,
        ..NodeProto::default()
    }
}

fn port(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim =
        |&extent: &i64| DimensionProto { value: Some(DimensionValue::DimValue(extent)), ..DimensionProto::default() };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: Some(data_type::FLOAT), shape });
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { tensor_type, denotation: None }),
        doc_string: None,
    }
}

/// Two convolutions around a pool, an addition, a matrix product.
fn model() -> Model {
    let pads = || AttributeProto::ints("pads", &[1, 1, 1, 1]);
    let nodes = vec![
        node("Conv", &["x", "w1", "b1"], "c1", vec![pads()]),
        node("Relu", &["c1"], "r1", Vec::new()),
        node("MaxPool", &["r1"], "p1", vec![AttributeProto::ints("kernel_shape", &[2, 2])]),
        node("Conv", &["p1", "w2", "b2"], "c2", vec![pads()]),
        node("Add", &["c2", "p1"], "a", Vec::new()),
        node("GlobalAveragePool", &["a"], "g", Vec::new()),
        node("Flatten", &["g"], "f", Vec::new()),
        node("Gemm", &["f", "w3", "b3"], "y", vec![AttributeProto::int("transB", 1)]),
    ];
    let constants: [(&str, &[usize]); 6] =
        [("w1", &[4, 3, 3, 3]), ("b1", &[4]), ("w2", &[4, 4, 3, 3]), ("b2", &[4]), ("w3", &[5, 4]), ("b3", &[5])];
    let initializer: Vec<TensorProto> = constants
        .iter()
        .zip(1..)
        .map(|((name, shape), seed)| encode_tensor(name, &TensorData::F32(values(seed, shape))))
        .collect();
    let graph = GraphProto {
        node: nodes,
        name: Some("small".to_owned()),
        initializer,
        input: vec![port("x", &[1, 3, 7, 7])],
        output: vec![port("y", &[1, 5])],
        ..GraphProto::default()
    };
    let proto = ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(13) }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    Model::load(&proto.encode_to_vec(), &NoExternalData).unwrap()
}

fn scheme() -> Scheme {
    let activation = |tensor: &str, readers: &[(&str, usize)], scale: f32, zero_point: i32, code_max: i32| {
        let readers = readers.iter().map(|(name, input)| ((*name).to_owned(), *input)).collect();
        let params = QuantParams {
            code_type: CodeType::U8,
            code_min: 0,
            code_max,
            axis: None,
            scales: vec![scale],
            zero_points: vec![zero_point],
        };
        (QuantizerSite::Activation { tensor: tensor.to_owned(), readers }, params)
    };
    let weights = |tensor: &str, operation: &str, slices: usize| {
        let params = QuantParams {
            code_type: CodeType::I8,
            code_min: -127,
            code_max: 127,
            axis: Some(0),
            scales: (0..slices).map(|slice| 0.007 + slice as f32 * 0.0013).collect(),
            zero_points: vec![0; slices],
        };
        (QuantizerSite::Weight { tensor: tensor.to_owned(), operation: operation.to_owned(), input: 1 }, params)
    };
    let groups = [
        (&["c1_op"][..], vec![activation("x", &[("c1_op", 0)], 0.0071, 131, 255), weights("w1", "c1_op", 4)]),
        (
            &["c2_op", "a_op"],
            vec![
                activation("r1", &[("p1_op", 0)], 0.031, 0, 127),
                weights("w2", "c2_op", 4),
                activation("c2", &[("a_op", 0)], 0.05, 120, 255),
            ],
        ),
        (&["y_op"], vec![activation("f", &[("y_op", 0)], 0.02, 60, 255), weights("w3", "y_op", 5)]),
    ];
    let mut scheme = Scheme::default();
    for (index, (operations, sites)) in groups.into_iter().enumerate() {
        let group = GroupId(index as u32);
        let first = scheme.quantizers.len() as u32;
        let count = sites.len() as u32;
        scheme.quantizers.extend(sites.into_iter().map(|(site, params)| Quantizer { site, params, group }));
        scheme.groups.push(QuantizerGroup {
            name: operations[0].to_owned(),
            quantizers: (first..first + count).map(QuantizerId).collect(),
            operations: operations.iter().map(|name| (*name).to_owned()).collect(),
            macs: 0,
        });
    }
    scheme.biases.insert("c1_op".to_owned(), vec![0.25, -3.0, 1e-4, 40.0]);
    scheme
}

fn outputs(model: &Model, scheme: Option<&Scheme>, reverted: &BTreeSet<GroupId>) -> Vec<Vec<u32>> {
    let graph = model.graph(&BTreeMap::new()).unwrap();
    let variant = match scheme {
        Some(scheme) => Variant::Quantized { scheme, digest: scheme.digest().unwrap(), reverted },
        None => Variant::Baseline,
    };
    let plan = Plan::new(&graph, variant, Isa::best(), &PackedCache::default(), &BTreeSet::new()).unwrap();
    let run = |seed| plan.run_arrays(&[values(seed, &[1, 3, 7, 7])]).unwrap().swap_remove(0);
    (100..120).map(|seed| run(seed).iter().map(|value| value.to_bits()).collect()).collect()
}

#[test]
fn an_exported_model_computes_what_its_scheme_says() {
    let (model, scheme) = (model(), scheme());
    let graph = model.graph(&BTreeMap::new()).unwrap();
    let float = outputs(&model, None, &BTreeSet::new());
    let choices: [&[u32]; 5] = [&[], &[0], &[1], &[2], &[0, 2]];
    for reverted in choices {
        let reverted: BTreeSet<GroupId> = reverted.iter().copied().map(GroupId).collect();
        let exported = model.export_qdq(&scheme, &reverted, &graph).unwrap();
        let read = Model::load(&exported, &NoExternalData).unwrap();
        let embedded = read.embedded_scheme().expect("the export says what it is");
        let expected = outputs(&model, Some(&scheme), &reverted);
        assert_ne!(expected, float, "quantization changes something");
        assert_eq!(outputs(&read, Some(embedded), &BTreeSet::new()), expected, "{reverted:?} reverted");
        // What workers get is the float part alone.
        let sent = Model::load(&read.to_bytes(), &NoExternalData).unwrap();
        assert_eq!(sent.embedded_scheme(), None);
        assert_eq!(outputs(&sent, Some(embedded), &BTreeSet::new()), expected);
    }
    assert_eq!(model.embedded_scheme(), None);
}
