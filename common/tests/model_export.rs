//! Exported QDQ models: which nodes and constants stand where.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use holdfast_common::graph::TensorData;
use holdfast_common::model::ModelError;
use holdfast_common::onnx::decode_tensor;
use holdfast_common::onnx::schema::{AttributeProto, ModelProto, NodeProto};
use holdfast_common::scheme::{
    CodeType, GroupId, QuantParams, Quantizer, QuantizerGroup, QuantizerId, QuantizerSite, Scheme,
};
use std::collections::{BTreeMap, BTreeSet};
use support::{Build, decode, floats, operators};

fn activation_params(scale: f32, zero_point: i32) -> QuantParams {
    QuantParams {
        code_type: CodeType::U8,
        code_min: 0,
        code_max: 255,
        axis: None,
        scales: vec![scale],
        zero_points: vec![zero_point],
    }
}

fn weight_params(axis: Option<usize>, scales: &[f32]) -> QuantParams {
    QuantParams {
        code_type: CodeType::I8,
        code_min: -127,
        code_max: 127,
        axis,
        scales: scales.to_vec(),
        zero_points: vec![0; scales.len()],
    }
}

fn activation(tensor: &str, readers: &[(&str, usize)], params: QuantParams, group: u32) -> Quantizer {
    let readers = readers.iter().map(|(name, position)| ((*name).to_owned(), *position)).collect();
    let site = QuantizerSite::Activation { tensor: tensor.to_owned(), readers };
    Quantizer { site, params, group: GroupId(group) }
}

fn weight(tensor: &str, operation: &str, params: QuantParams, group: u32) -> Quantizer {
    let site = QuantizerSite::Weight { tensor: tensor.to_owned(), operation: operation.to_owned(), input: 1 };
    Quantizer { site, params, group: GroupId(group) }
}

/// A scheme whose group i quantizes the i-th list of operations.
fn scheme(quantizers: Vec<Quantizer>, operations: &[&[&str]]) -> Scheme {
    let group = |(index, operations): (usize, &&[&str])| QuantizerGroup {
        name: operations[0].to_owned(),
        quantizers: (0..quantizers.len())
            .filter(|&quantizer| quantizers[quantizer].group.0 as usize == index)
            .map(|quantizer| QuantizerId(quantizer as u32))
            .collect(),
        operations: operations.iter().map(|&name| name.to_owned()).collect(),
        macs: 0,
    };
    let groups = operations.iter().enumerate().map(group).collect();
    Scheme { quantizers, groups, ..Scheme::default() }
}

fn export(build: &Build, scheme: &Scheme, reverted: &[u32]) -> Result<ModelProto, ModelError> {
    let model = build.model();
    let graph = model.graph(&BTreeMap::new())?;
    let reverted: BTreeSet<GroupId> = reverted.iter().copied().map(GroupId).collect();
    let bytes = model.export_qdq(scheme, &reverted, &graph)?;
    assert_eq!(bytes, model.export_qdq(scheme, &reverted, &graph)?, "two exports differ");
    Ok(decode(&bytes))
}

/// An exported model with look-ups.
struct Exported(ModelProto);

impl Exported {
    fn node(&self, output: &str) -> &NodeProto {
        let nodes = &self.0.graph.as_ref().unwrap().node;
        nodes.iter().find(|node| node.output[0] == output).unwrap_or_else(|| panic!("nothing makes `{output}`"))
    }

    /// The node that makes an input of a node.
    fn source(&self, output: &str, position: usize) -> &NodeProto {
        self.node(&self.node(output).input[position])
    }

    fn constant(&self, name: &str) -> Option<TensorData> {
        let initializers = &self.0.graph.as_ref().unwrap().initializer;
        initializers.iter().find(|tensor| tensor.name() == name).map(|tensor| decode_tensor(tensor).unwrap())
    }

    /// Codes, scale and zero point of a DequantizeLinear of constants.
    fn constants(&self, node: &NodeProto) -> [TensorData; 3] {
        [0, 1, 2].map(|position| self.constant(&node.input[position]).unwrap())
    }

    /// The tensor whose codes a DequantizeLinear reads, as far as it is made by a QuantizeLinear.
    fn quantized_tensor(&self, dequantize: &NodeProto) -> &str {
        assert_eq!(dequantize.op_type(), "DequantizeLinear");
        let quantize = self.node(&dequantize.input[0]);
        assert_eq!(quantize.op_type(), "QuantizeLinear");
        assert_eq!(quantize.input[1..], dequantize.input[1..]);
        &quantize.input[0]
    }
}

fn i8s(shape: &[usize], values: &[i8]) -> TensorData {
    TensorData::I8(ndarray::ArrayD::from_shape_vec(shape, values.to_vec()).unwrap())
}

/// x → Gemm `a` → Relu `r` → Gemm `b`, weights `[2, 2]`.
fn two_products() -> Build {
    let trans = || vec![AttributeProto::int("transB", 1)];
    Build::new(11)
        .input("x", &[1, 2])
        .floats("w1", &[2, 2], &[1.0, -0.5, 2.0, 4.0])
        .floats("b1", &[2], &[1.0, -2.0])
        .floats("w2", &[2, 2], &[1.0, 1.0, 1.0, 1.0])
        .node_with("Gemm", &["x", "w1", "b1"], &["a"], trans())
        .node("Relu", &["a"], &["r"])
        .node_with("Gemm", &["r", "w2"], &["b"], trans())
        .output("b")
}

fn two_products_scheme() -> Scheme {
    let quantizers = vec![
        activation("x", &[("a", 0)], activation_params(0.5, 128), 0),
        weight("w1", "a", weight_params(Some(0), &[0.25, 0.5]), 0),
        activation("r", &[("b", 0)], activation_params(0.125, 0), 1),
        weight("w2", "b", weight_params(None, &[0.125]), 1),
    ];
    scheme(quantizers, &[&["a"], &["b"]])
}

#[test]
fn a_quantized_operation_reads_dequantized_input_weights_and_bias() {
    let exported = Exported(export(&two_products(), &two_products_scheme(), &[]).unwrap());
    assert_eq!(exported.quantized_tensor(exported.source("a", 0)), "x");
    assert_eq!(exported.quantized_tensor(exported.source("b", 0)), "r");
    let weights = exported.source("a", 1);
    assert_eq!(weights.attribute, [AttributeProto::int("axis", 0)]);
    let expected = [i8s(&[2, 2], &[4, -2, 4, 8]), floats(&[2], &[0.25, 0.5]), i8s(&[2], &[0, 0])];
    assert_eq!(exported.constants(weights), expected);
    let [codes, scales, zero_points] = exported.constants(exported.source("a", 2));
    assert_eq!(codes, TensorData::I32(ndarray::arr1(&[8, -8]).into_dyn()));
    assert_eq!(scales, floats(&[2], &[0.125, 0.25]));
    assert_eq!(zero_points, TensorData::I32(ndarray::arr1(&[0, 0]).into_dyn()));
    let per_tensor = exported.source("b", 1);
    assert!(per_tensor.attribute.is_empty());
    assert_eq!(exported.constants(per_tensor)[1], floats(&[], &[0.125]));
}

#[test]
fn a_quantized_model_has_operator_set_13_a_note_and_no_float_weights() {
    let proto = export(&two_products(), &two_products_scheme(), &[]).unwrap();
    assert_eq!(proto.opset_import[0].version, Some(13));
    assert_eq!(proto.metadata_props[0].key(), "holdfast.version");
    let exported = Exported(proto);
    assert!(["w1", "w2", "b1"].iter().all(|name| exported.constant(name).is_none()));
}

#[test]
fn a_reverted_group_reads_the_float_tensors_again() {
    let exported = Exported(export(&two_products(), &two_products_scheme(), &[0]).unwrap());
    assert_eq!(exported.node("a").input, ["x", "w1", "b1"]);
    assert_eq!(exported.quantized_tensor(exported.source("b", 0)), "r");
    let float = export(&two_products(), &two_products_scheme(), &[0, 1]).unwrap();
    assert_eq!(operators(&float), ["Gemm", "Relu", "Gemm"]);
}

#[test]
fn a_corrected_bias_counts_only_while_its_operation_is_quantized() {
    let mut scheme = two_products_scheme();
    scheme.biases.insert("a".to_owned(), vec![0.5, 0.25]);
    scheme.biases.insert("b".to_owned(), vec![0.25, 0.0]);
    let exported = Exported(export(&two_products(), &scheme, &[]).unwrap());
    let codes = |op: &str| exported.constants(exported.source(op, 2))[0].clone();
    assert_eq!(codes("a"), TensorData::I32(ndarray::arr1(&[4, 1]).into_dyn()));
    assert_eq!(codes("b"), TensorData::I32(ndarray::arr1(&[16, 0]).into_dyn()), "a bias the model does not have");
    let reverted = Exported(export(&two_products(), &scheme, &[0, 1]).unwrap());
    assert_eq!(reverted.node("a").input[2], "b1");
    assert_eq!(reverted.node("b").input.len(), 2);
}

#[test]
fn a_corrected_bias_of_an_operation_in_no_group_is_a_float_constant() {
    let quantizers = two_products_scheme().quantizers[..2].to_vec();
    let mut scheme = scheme(quantizers, &[&["a"]]);
    scheme.biases.insert("b".to_owned(), vec![0.25, -0.5]);
    for reverted in [&[] as &[u32], &[0]] {
        let exported = Exported(export(&two_products(), &scheme, reverted).unwrap());
        let bias = &exported.node("b").input[2];
        assert_eq!(exported.constant(bias), Some(floats(&[2], &[0.25, -0.5])));
    }
}

#[test]
fn only_the_listed_readers_of_a_tensor_see_its_codes() {
    let build = Build::new(13)
        .input("x", &[1, 2])
        .floats("w", &[2, 2], &[1.0; 4])
        .node("MatMul", &["x", "w"], &["a"])
        .node("MatMul", &["x", "w"], &["b"])
        .node("Add", &["a", "b"], &["y"])
        .output("y");
    let quantizers = vec![
        activation("x", &[("a", 0)], activation_params(0.5, 0), 0),
        weight("w", "a", weight_params(Some(1), &[0.5, 0.25]), 0),
    ];
    let exported = Exported(export(&build, &scheme(quantizers, &[&["a"]]), &[]).unwrap());
    assert_eq!(exported.node("b").input, ["x", "w"]);
    assert_eq!(exported.source("a", 1).attribute, [AttributeProto::int("axis", 1)]);
    assert_eq!(exported.constants(exported.source("a", 1))[0], i8s(&[2, 2], &[2, 4, 2, 4]));
}

/// Two inputs, one of them pooled, are joined; a convolution and another reader follow.
fn joined(reader: &str) -> Build {
    let pool = vec![AttributeProto::ints("kernel_shape", &[2, 2]), AttributeProto::ints("strides", &[2, 2])];
    Build::new(13)
        .input("x", &[1, 1, 4, 4])
        .input("z", &[1, 1, 2, 2])
        .weights("w", &[1, 2, 1, 1])
        .weights("v", &[1, 2, 1, 1])
        .node_with("MaxPool", &["x"], &["p"], pool)
        .node_with("Concat", &["p", "z"], &["c"], vec![AttributeProto::int("axis", 1)])
        .node("Conv", &["c", "w"], &["a"])
        .node(reader, if reader == "Conv" { &["c", "v"] } else { &["c"] }, &["b"])
        .node("Add", &["a", "b"], &["y"])
        .output("y")
}

fn joined_scheme(second: QuantParams) -> Scheme {
    let quantizers = vec![
        activation("x", &[("p", 0)], activation_params(0.5, 7), 0),
        activation("z", &[("c", 1)], second, 0),
        weight("w", "a", weight_params(Some(0), &[0.5]), 0),
        activation("b", &[("y", 1)], activation_params(0.25, 7), 0),
    ];
    scheme(quantizers, &[&["a", "y"]])
}

#[test]
fn codes_pass_through_pooling_and_concatenation() {
    let exported = Exported(export(&joined("Sigmoid"), &joined_scheme(activation_params(0.5, 7)), &[]).unwrap());
    assert_eq!(exported.quantized_tensor(exported.source("p", 0)), "x");
    assert_eq!(exported.quantized_tensor(exported.source("c", 0)), "p");
    assert_eq!(exported.quantized_tensor(exported.source("c", 1)), "z");
    assert_eq!(exported.quantized_tensor(exported.source("a", 0)), "c");
    for position in [0, 1] {
        let [scale, zero_point] = [1, 2].map(|input| exported.constant(&exported.source("c", position).input[input]));
        assert_eq!(scale, Some(floats(&[], &[0.5])));
        assert_eq!(zero_point, Some(TensorData::U8(ndarray::arr0(7).into_dyn())));
    }
}

#[test]
fn joined_tensors_with_different_params_are_refused() {
    let error = export(&joined("Sigmoid"), &joined_scheme(activation_params(0.25, 7)), &[]).unwrap_err().to_string();
    assert!(error.contains("`c` (Concat)") && error.contains("must agree"), "{error}");
}

#[test]
fn a_float_product_between_codes_and_a_quantizer_is_shielded_from_the_runtimes_optimizer() {
    let exported = Exported(export(&joined("Conv"), &joined_scheme(activation_params(0.5, 7)), &[]).unwrap());
    let shield = exported.source("b", 0);
    assert_eq!((shield.op_type(), shield.input.as_slice()), ("Sum", &["c".to_owned()][..]));
    assert_eq!(exported.node("b").input[1], "v");
}

#[test]
fn fewer_codes_than_the_storage_has_are_limited_before_quantization() {
    let mut scheme = two_products_scheme();
    scheme.quantizers[0].params.code_min = 120;
    scheme.quantizers[0].params.code_max = 135;
    let exported = Exported(export(&two_products(), &scheme, &[]).unwrap());
    let high = exported.node(exported.quantized_tensor(exported.source("a", 0)));
    assert_eq!((high.op_type(), exported.constant(&high.input[1])), ("Min", Some(floats(&[], &[3.5]))));
    let low = exported.node(&high.input[0]);
    assert_eq!((low.op_type(), exported.constant(&low.input[1])), ("Max", Some(floats(&[], &[-4.0]))));
    assert_eq!(low.input[0], "x");
}

#[test]
fn schemes_of_another_model_are_refused_with_what_does_not_fit() {
    let refusal = |change: &dyn Fn(&mut Scheme)| {
        let mut scheme = two_products_scheme();
        change(&mut scheme);
        export(&two_products(), &scheme, &[]).unwrap_err().to_string()
    };
    let site =
        |index: usize, site: QuantizerSite| move |scheme: &mut Scheme| scheme.quantizers[index].site = site.clone();
    let tensor = activation("other", &[("a", 0)], activation_params(1.0, 0), 0).site;
    assert!(refusal(&site(0, tensor)).contains("no tensor `other`"));
    let reader = activation("x", &[("b", 0)], activation_params(1.0, 0), 0).site;
    assert!(refusal(&site(0, reader)).contains("input 0 of operation `b` is not tensor `x`"));
    let operation = weight("w1", "c", weight_params(None, &[1.0]), 0).site;
    assert!(refusal(&site(1, operation)).contains("no operation `c`"));
    assert!(refusal(&|scheme| scheme.quantizers[1].params.scales.truncate(1)).contains("2 slices"));
    assert!(refusal(&|scheme| scheme.quantizers[0].params.scales[0] = f32::NAN).contains("scale NaN"));
    let tiny = refusal(&|scheme| scheme.quantizers[1].params.scales[1] = 1e-12);
    assert!(tiny.contains("at `a`") && tiny.contains("channel 1"), "{tiny}");
    assert!(refusal(&|scheme| drop(scheme.biases.insert("a".to_owned(), vec![0.0]))).contains("1 of 2 values"));
}

/// x → MatMul `p` → Add `s` of `b`, which another Add reads too.
fn product_with_addition() -> Build {
    Build::new(13)
        .input("x", &[1, 2])
        .floats("w", &[2, 2], &[1.0, -0.5, 2.0, 4.0])
        .floats("b", &[2], &[1.0, -2.0])
        .node("MatMul", &["x", "w"], &["p"])
        .node("Add", &["p", "b"], &["s"])
        .node("Relu", &["s"], &["r"])
        .node("Add", &["r", "b"], &["y"])
        .output("y")
}

#[test]
fn the_corrected_bias_of_a_matmul_goes_to_the_addition_behind_it_alone() {
    let quantizers = vec![
        activation("x", &[("p", 0)], activation_params(0.5, 128), 0),
        weight("w", "p", weight_params(Some(1), &[0.1, 0.1]), 0),
    ];
    let mut scheme = scheme(quantizers, &[&["p"]]);
    scheme.biases.insert("p".to_owned(), vec![0.75, -2.5]);
    let exported = Exported(export(&product_with_addition(), &scheme, &[]).unwrap());
    assert_eq!(exported.constant(&exported.node("s").input[1]), Some(floats(&[2], &[0.75, -2.5])));
    assert_eq!(exported.node("y").input[1], "b");
    assert_eq!(exported.constant("b"), Some(floats(&[2], &[1.0, -2.0])));
    let reverted = Exported(export(&product_with_addition(), &scheme, &[0]).unwrap());
    assert_eq!(reverted.node("s").input[1], "b");
    scheme.biases.insert("p".to_owned(), vec![0.75]);
    assert!(export(&product_with_addition(), &scheme, &[]).unwrap_err().to_string().contains("another length"));
}

#[test]
fn tuned_codes_are_exported_as_they_are() {
    let quantizers = vec![
        activation("x", &[("p", 0)], activation_params(0.5, 128), 0),
        weight("w", "p", weight_params(Some(1), &[0.1, 0.1]), 0),
    ];
    let mut scheme = scheme(quantizers, &[&["p"]]);
    scheme.codes.insert("p".to_owned(), vec![11, -5, 20, 39]);
    let exported = Exported(export(&product_with_addition(), &scheme, &[]).unwrap());
    let [codes, ..] = exported.constants(exported.source("p", 1));
    assert_eq!(codes, i8s(&[2, 2], &[11, -5, 20, 39]));
    let reverted = Exported(export(&product_with_addition(), &scheme, &[0]).unwrap());
    assert_eq!(reverted.node("p").input[1], "w");
    scheme.codes.insert("p".to_owned(), vec![11]);
    assert!(export(&product_with_addition(), &scheme, &[]).unwrap_err().to_string().contains("1 codes"));
}
