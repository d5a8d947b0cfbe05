//! Attributes of operations by ONNX name, and by OpenVINO's where that differs.

use holdfast_common::graph::{
    ConvAttributes, CoordinateMode, Graph, NearestMode, OpId, OpKind, PoolAttributes, ResizeMode, UnaryKind,
};
use serde_json::{Value, json};

type Attributes = Vec<(&'static str, Value)>;

/// All attributes of an operation, as the graph has resolved them.
pub(super) fn attributes(graph: &Graph, id: OpId) -> Attributes {
    match &graph.op(id).kind {
        OpKind::Conv(of) => convolution(of),
        OpKind::ConvTranspose(of) => {
            let mut all = convolution(of);
            all.push(("output_padding", json!(of.output_padding)));
            all
        }
        OpKind::MaxPool(of) => pool(of),
        OpKind::AveragePool(of) => {
            let mut all = pool(of);
            all.push(("count_include_pad", json!(of.count_include_pad)));
            all.push(("exclude-pad", json!(!of.count_include_pad)));
            all
        }
        OpKind::Gemm { alpha, beta, trans_a, trans_b } => vec![
            ("alpha", json!(alpha)),
            ("beta", json!(beta)),
            ("transA", json!(trans_a)),
            ("transB", json!(trans_b)),
            ("transpose_a", json!(trans_a)),
            ("transpose_b", json!(trans_b)),
        ],
        OpKind::MatMul => vec![("transpose_a", json!(false)), ("transpose_b", json!(false))],
        OpKind::Unary(kind) => unary(*kind),
        OpKind::Reduce { axes, keep_dims, .. } => {
            vec![("axes", json!(axes)), ("keepdims", json!(keep_dims)), ("keep_dims", json!(keep_dims))]
        }
        OpKind::Softmax { axis, .. } | OpKind::Concat { axis } | OpKind::Split { axis } | OpKind::Gather { axis } => {
            vec![("axis", json!(axis))]
        }
        OpKind::LayerNormalization { axis, epsilon } => vec![("axis", json!(axis)), ("epsilon", json!(epsilon))],
        OpKind::Transpose { permutation } => vec![("perm", json!(permutation))],
        OpKind::Slice { starts, steps } => vec![("starts", json!(starts)), ("steps", json!(steps))],
        OpKind::Pad { begin, end, value } => vec![
            ("pads", json!([begin.as_slice(), end.as_slice()].concat())),
            ("pads_begin", json!(begin)),
            ("pads_end", json!(end)),
            ("value", json!(value)),
        ],
        OpKind::Tile { repeats } => vec![("repeats", json!(repeats))],
        OpKind::Resize { mode, coordinates, scales } => resize(*mode, *coordinates, scales),
        OpKind::DepthToSpace { block, column_row_depth } => vec![
            ("blocksize", json!(block)),
            ("block_size", json!(block)),
            ("mode", json!(if *column_row_depth { "CRD" } else { "DCR" })),
        ],
        OpKind::ArgMax { axis, keep_dims } => vec![("axis", json!(axis)), ("keepdims", json!(keep_dims))],
        OpKind::Binary(_)
        | OpKind::GlobalAveragePool
        | OpKind::GlobalMaxPool
        | OpKind::ScaleShift
        | OpKind::Reshape
        | OpKind::Expand
        | OpKind::Cast
        | OpKind::Where => Vec::new(),
    }
}

/// Whether a wanted value is the operation's. Flags may be 0 and 1, axes may count from the end, numbers are compared
/// as the model stores them, and words without regard to case.
pub(super) fn same(name: &str, wanted: &Value, value: &Value, rank: usize) -> bool {
    match (wanted, value) {
        (Value::Array(wanted), Value::Array(values)) => {
            wanted.len() == values.len() && wanted.iter().zip(values).all(|(a, b)| same(name, a, b, rank))
        }
        (Value::Bool(wanted), Value::Bool(value)) => wanted == value,
        (Value::Number(wanted), Value::Bool(value)) => wanted.as_u64() == Some(u64::from(*value)),
        (Value::Number(wanted), Value::Number(value)) => {
            let (Some(mut wanted), Some(value)) = (wanted.as_f64(), value.as_f64()) else { return false };
            if matches!(name, "axis" | "axes") && wanted < 0.0 {
                wanted += rank as f64;
            }
            wanted as f32 == value as f32
        }
        (Value::String(wanted), Value::String(value)) => wanted.eq_ignore_ascii_case(value),
        _ => false,
    }
}

fn window(kernel: &[usize], strides: &[usize], dilations: &[usize], begin: &[usize], end: &[usize]) -> Attributes {
    vec![
        ("kernel_shape", json!(kernel)),
        ("strides", json!(strides)),
        ("dilations", json!(dilations)),
        ("pads", json!([begin, end].concat())),
        ("pads_begin", json!(begin)),
        ("pads_end", json!(end)),
    ]
}

fn convolution(of: &ConvAttributes) -> Attributes {
    let mut all = window(&of.kernel, &of.strides, &of.dilations, &of.pads_begin, &of.pads_end);
    all.push(("group", json!(of.group)));
    all
}

fn pool(of: &PoolAttributes) -> Attributes {
    let mut all = window(&of.kernel, &of.strides, &of.dilations, &of.pads_begin, &of.pads_end);
    all.push(("kernel", json!(of.kernel)));
    all
}

fn unary(kind: UnaryKind) -> Attributes {
    match kind {
        UnaryKind::Clip { min, max } => vec![("min", json!(min)), ("max", json!(max))],
        UnaryKind::LeakyRelu { alpha } | UnaryKind::Elu { alpha } => vec![("alpha", json!(alpha))],
        UnaryKind::HardSigmoid { alpha, beta } => vec![("alpha", json!(alpha)), ("beta", json!(beta))],
        UnaryKind::Gelu { tanh } => vec![("approximate", json!(if tanh { "tanh" } else { "none" }))],
        _ => Vec::new(),
    }
}

fn resize(mode: ResizeMode, coordinates: CoordinateMode, scales: &[f32]) -> Attributes {
    let mut all = vec![
        ("scales", json!(scales)),
        (
            "mode",
            json!(match mode {
                ResizeMode::Nearest(_) => "nearest",
                ResizeMode::Linear => "linear",
                ResizeMode::Cubic { .. } => "cubic",
            }),
        ),
        (
            "coordinate_transformation_mode",
            json!(match coordinates {
                CoordinateMode::HalfPixel => "half_pixel",
                CoordinateMode::PytorchHalfPixel => "pytorch_half_pixel",
                CoordinateMode::AlignCorners => "align_corners",
                CoordinateMode::Asymmetric => "asymmetric",
            }),
        ),
    ];
    match mode {
        ResizeMode::Nearest(rounding) => all.push((
            "nearest_mode",
            json!(match rounding {
                NearestMode::RoundPreferFloor => "round_prefer_floor",
                NearestMode::RoundPreferCeil => "round_prefer_ceil",
                NearestMode::Floor => "floor",
                NearestMode::Ceil => "ceil",
            }),
        )),
        ResizeMode::Cubic { coefficient } => all.push(("cubic_coeff_a", json!(coefficient))),
        ResizeMode::Linear => {}
    }
    all
}
