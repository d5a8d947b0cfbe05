//! The operations a graph can hold, with everything that shapes and constants decide already resolved.

use super::general::GeneralKind;

/// Attributes of a convolution; all spatial lists have one entry per spatial axis (1 or 2 axes).
///
/// Source: ONNX operator specification, Conv and ConvTranspose. `auto_pad` is resolved into `pads`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvAttributes {
    /// Kernel extent.
    pub kernel: Vec<usize>,
    /// Strides.
    pub strides: Vec<usize>,
    /// Dilations.
    pub dilations: Vec<usize>,
    /// Padding before each spatial axis.
    pub pads_begin: Vec<usize>,
    /// Padding after each spatial axis.
    pub pads_end: Vec<usize>,
    /// Groups.
    pub group: usize,
    /// ConvTranspose only: extra extent at the end of each spatial axis.
    pub output_padding: Vec<usize>,
}

/// Attributes of a pooling operation (`ceil_mode` is resolved into the output shape).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolAttributes {
    /// Kernel extent.
    pub kernel: Vec<usize>,
    /// Strides.
    pub strides: Vec<usize>,
    /// Dilations.
    pub dilations: Vec<usize>,
    /// Padding before each spatial axis.
    pub pads_begin: Vec<usize>,
    /// Padding after each spatial axis.
    pub pads_end: Vec<usize>,
    /// Average pooling: whether padded positions count in the divisor.
    pub count_include_pad: bool,
}

/// Element-wise functions of one input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UnaryKind {
    /// max(x, 0).
    Relu,
    /// Clamp to `[min, max]` (Clip; Relu6 is `Clip { 0, 6 }`).
    Clip {
        /// Lower bound, possibly −∞.
        min: f32,
        /// Upper bound, possibly +∞.
        max: f32,
    },
    /// x where positive, `alpha`·x elsewhere.
    LeakyRelu {
        /// Slope for negative values.
        alpha: f32,
    },
    /// x where positive, `alpha`·(eˣ−1) elsewhere.
    Elu {
        /// Factor for negative values.
        alpha: f32,
    },
    /// 1/(1+e⁻ˣ).
    Sigmoid,
    /// max(0, min(1, alpha·x + beta)).
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// x·max(0, min(1, x/6 + 1/2)).
    HardSwish,
    /// Hyperbolic tangent.
    Tanh,
    /// Gauss error function.
    Erf,
    /// Gaussian error linear unit; `tanh` selects the approximation.
    Gelu {
        /// Whether the tanh approximation is meant.
        tanh: bool,
    },
    /// eˣ.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// 1/x.
    Reciprocal,
    /// |x|.
    Abs,
    /// −x.
    Neg,
    /// Largest integer not above x.
    Floor,
    /// Smallest integer not below x.
    Ceil,
    /// Nearest integer, halves to even.
    Round,
    /// ln(1+eˣ).
    Softplus,
    /// Logical complement.
    Not,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// −1, 0 or 1.
    Sign,
    /// `gamma`·x where positive, `gamma`·`alpha`·(eˣ−1) elsewhere.
    Selu {
        /// Factor for negative values.
        alpha: f32,
        /// Factor of everything.
        gamma: f32,
    },
    /// max(0, x) + min(0, `alpha`·(e^(x/`alpha`)−1)).
    Celu {
        /// Factor for negative values.
        alpha: f32,
    },
    /// x where above `alpha`, 0 elsewhere.
    ThresholdedRelu {
        /// Threshold.
        alpha: f32,
    },
    /// x/(1+|x|).
    Softsign,
    /// x·tanh(ln(1+eˣ)).
    Mish,
}

/// Element-wise functions of two inputs with numpy broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryKind {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a · b.
    Mul,
    /// a / b.
    Div,
    /// aᵇ.
    Pow,
    /// Smaller of the two.
    Min,
    /// Larger of the two.
    Max,
    /// a where positive, b·a elsewhere (PRelu).
    Prelu,
    /// a = b.
    Equal,
    /// a < b.
    Less,
    /// a ≤ b.
    LessOrEqual,
    /// a > b.
    Greater,
    /// a ≥ b.
    GreaterOrEqual,
    /// Logical and.
    And,
    /// Logical or.
    Or,
    /// Exactly one of two.
    Xor,
    /// Remainder with the sign of b.
    Mod,
    /// Remainder with the sign of a.
    Remainder,
}

/// Reductions over axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceKind {
    /// Arithmetic mean.
    Mean,
    /// Sum.
    Sum,
    /// Maximum.
    Max,
    /// Minimum.
    Min,
    /// Product.
    Prod,
    /// Euclidean norm.
    L2,
    /// Sum of absolute values.
    L1,
    /// Sum of squares.
    SumSquare,
    /// Logarithm of the sum.
    LogSum,
    /// Logarithm of the sum of exponentials.
    LogSumExp,
}

/// How Resize interpolates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResizeMode {
    /// Nearest neighbour with the given rounding.
    Nearest(NearestMode),
    /// (Bi)linear.
    Linear,
    /// (Bi)cubic with this coefficient.
    Cubic {
        /// `cubic_coeff_a`.
        coefficient: f32,
    },
}

/// Rounding of nearest-neighbour positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NearestMode {
    /// Halves down.
    RoundPreferFloor,
    /// Halves up.
    RoundPreferCeil,
    /// Down.
    Floor,
    /// Up.
    Ceil,
}

/// How Resize maps output to input coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoordinateMode {
    /// (x + ½)/scale − ½.
    HalfPixel,
    /// As half pixel, but 0 where the output extent is 1.
    PytorchHalfPixel,
    /// Corners meet.
    AlignCorners,
    /// x/scale.
    Asymmetric,
}

/// What an operation computes. The comment of each names its inputs; outputs are one unless it says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub enum OpKind {
    /// Convolution; inputs: x `[N, C, spatial…]`, weights `[O, C/group, kernel…]`, optional bias `[O]`.
    Conv(ConvAttributes),
    /// Transposed convolution; inputs: x, weights `[C, O/group, kernel…]`, optional bias `[O]`.
    ConvTranspose(ConvAttributes),
    /// alpha·A'·B' + beta·C; inputs: A, B, optional C.
    Gemm {
        /// Factor of the product.
        alpha: f32,
        /// Factor of C.
        beta: f32,
        /// Whether A is transposed.
        trans_a: bool,
        /// Whether B is transposed.
        trans_b: bool,
    },
    /// numpy's matmul; inputs: A, B.
    MatMul,
    /// Element-wise function; input: x.
    Unary(UnaryKind),
    /// Element-wise function with broadcasting; inputs: a, b (Sum, Max, Min of several inputs become chains).
    Binary(BinaryKind),
    /// Maximum pooling; input: x.
    MaxPool(PoolAttributes),
    /// Average pooling; input: x.
    AveragePool(PoolAttributes),
    /// Mean over all spatial axes, kept as extent 1; input: x.
    GlobalAveragePool,
    /// Maximum over all spatial axes, kept as extent 1; input: x.
    GlobalMaxPool,
    /// Reduction; input: x.
    Reduce {
        /// Which.
        kind: ReduceKind,
        /// Axes, ascending, non-negative.
        axes: Vec<usize>,
        /// Whether reduced axes stay with extent 1.
        keep_dims: bool,
    },
    /// Softmax along one axis (opset < 13 forms are rewritten); input: x.
    Softmax {
        /// Axis, non-negative.
        axis: usize,
        /// Whether the logarithm is taken (LogSoftmax).
        log: bool,
    },
    /// Batch normalization that could not be folded, as per-channel x·scale + shift; inputs: x, scale `[C]`, shift `[C]`.
    ScaleShift,
    /// Layer normalization over the trailing axes from `axis`; inputs: x, gamma, optional beta.
    LayerNormalization {
        /// First normalized axis.
        axis: usize,
        /// Added to the variance.
        epsilon: f32,
    },
    /// New shape, same elements (Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout); the output's shape says which; input: x.
    Reshape,
    /// Permutation of axes; input: x.
    Transpose {
        /// Output axis i is input axis `permutation[i]`.
        permutation: Vec<usize>,
    },
    /// Concatenation; inputs: any number.
    Concat {
        /// Axis, non-negative.
        axis: usize,
    },
    /// Split along an axis into the outputs' shapes; input: x; outputs: several.
    Split {
        /// Axis, non-negative.
        axis: usize,
    },
    /// Strided slice, one entry per input axis; input: x.
    Slice {
        /// First index of every axis, resolved and in range.
        starts: Vec<usize>,
        /// Step of every axis, not zero; negative steps walk down from `starts`.
        steps: Vec<isize>,
    },
    /// Constant padding, one entry per axis; negative amounts crop; input: x.
    Pad {
        /// Before each axis.
        begin: Vec<isize>,
        /// After each axis.
        end: Vec<isize>,
        /// Value of new elements.
        value: f32,
    },
    /// Selection along an axis; inputs: x, indices (constant or data).
    Gather {
        /// Axis, non-negative.
        axis: usize,
    },
    /// Broadcast to the output's shape; input: x.
    Expand,
    /// Repetition along every axis; input: x.
    Tile {
        /// How often, per axis.
        repeats: Vec<usize>,
    },
    /// Spatial resampling of the last two axes; input: x.
    Resize {
        /// Interpolation.
        mode: ResizeMode,
        /// Coordinate mapping.
        coordinates: CoordinateMode,
        /// Output extent over input extent per spatial axis, as the model states it.
        scales: Vec<f32>,
    },
    /// Blocks of channels to space; input: x.
    DepthToSpace {
        /// Block extent.
        block: usize,
        /// CRD order instead of DCR.
        column_row_depth: bool,
    },
    /// Type conversion to the output's type; input: x.
    Cast,
    /// Index of the largest element along an axis; input: x.
    ArgMax {
        /// Axis, non-negative.
        axis: usize,
        /// Whether the axis stays with extent 1.
        keep_dims: bool,
        /// The smallest instead (ArgMin).
        least: bool,
        /// The last among equal ones instead of the first.
        last: bool,
    },
    /// Choice per element; inputs: condition, a, b.
    Where,
    /// An operation of whole tensors outside what runtimes quantize.
    General(GeneralKind),
}

impl OpKind {
    /// Whether every output element is one of the input's elements (or a padding value): such operations run on codes
    /// as they run on floats, and a quantizer before one quantizes what comes after it.
    pub fn only_moves_values(&self) -> bool {
        matches!(
            self,
            OpKind::MaxPool(_)
                | OpKind::GlobalMaxPool
                | OpKind::Reduce { kind: ReduceKind::Max | ReduceKind::Min, .. }
                | OpKind::Reshape
                | OpKind::Transpose { .. }
                | OpKind::Concat { .. }
                | OpKind::Split { .. }
                | OpKind::Slice { .. }
                | OpKind::Pad { .. }
                | OpKind::Gather { .. }
                | OpKind::Expand
                | OpKind::Tile { .. }
                | OpKind::DepthToSpace { .. }
        )
    }

    /// The ONNX operator name closest to this kind, for people.
    pub fn name(&self) -> &'static str {
        match self {
            OpKind::Conv(_) => "Conv",
            OpKind::ConvTranspose(_) => "ConvTranspose",
            OpKind::Gemm { .. } => "Gemm",
            OpKind::MatMul => "MatMul",
            OpKind::Unary(kind) => match kind {
                UnaryKind::Relu => "Relu",
                UnaryKind::Clip { .. } => "Clip",
                UnaryKind::LeakyRelu { .. } => "LeakyRelu",
                UnaryKind::Elu { .. } => "Elu",
                UnaryKind::Sigmoid => "Sigmoid",
                UnaryKind::HardSigmoid { .. } => "HardSigmoid",
                UnaryKind::HardSwish => "HardSwish",
                UnaryKind::Tanh => "Tanh",
                UnaryKind::Erf => "Erf",
                UnaryKind::Gelu { .. } => "Gelu",
                UnaryKind::Exp => "Exp",
                UnaryKind::Log => "Log",
                UnaryKind::Sqrt => "Sqrt",
                UnaryKind::Reciprocal => "Reciprocal",
                UnaryKind::Abs => "Abs",
                UnaryKind::Neg => "Neg",
                UnaryKind::Floor => "Floor",
                UnaryKind::Ceil => "Ceil",
                UnaryKind::Round => "Round",
                UnaryKind::Softplus => "Softplus",
                UnaryKind::Not => "Not",
                UnaryKind::Sin => "Sin",
                UnaryKind::Cos => "Cos",
                UnaryKind::Sign => "Sign",
                UnaryKind::Selu { .. } => "Selu",
                UnaryKind::Celu { .. } => "Celu",
                UnaryKind::ThresholdedRelu { .. } => "ThresholdedRelu",
                UnaryKind::Softsign => "Softsign",
                UnaryKind::Mish => "Mish",
            },
            OpKind::Binary(kind) => match kind {
                BinaryKind::Add => "Add",
                BinaryKind::Sub => "Sub",
                BinaryKind::Mul => "Mul",
                BinaryKind::Div => "Div",
                BinaryKind::Pow => "Pow",
                BinaryKind::Min => "Min",
                BinaryKind::Max => "Max",
                BinaryKind::Prelu => "PRelu",
                BinaryKind::Equal => "Equal",
                BinaryKind::Less => "Less",
                BinaryKind::LessOrEqual => "LessOrEqual",
                BinaryKind::Greater => "Greater",
                BinaryKind::GreaterOrEqual => "GreaterOrEqual",
                BinaryKind::And => "And",
                BinaryKind::Or => "Or",
                BinaryKind::Xor => "Xor",
                BinaryKind::Mod | BinaryKind::Remainder => "Mod",
            },
            OpKind::MaxPool(_) => "MaxPool",
            OpKind::AveragePool(_) => "AveragePool",
            OpKind::GlobalAveragePool => "GlobalAveragePool",
            OpKind::GlobalMaxPool => "GlobalMaxPool",
            OpKind::Reduce { kind, .. } => match kind {
                ReduceKind::Mean => "ReduceMean",
                ReduceKind::Sum => "ReduceSum",
                ReduceKind::Max => "ReduceMax",
                ReduceKind::Min => "ReduceMin",
                ReduceKind::Prod => "ReduceProd",
                ReduceKind::L2 => "ReduceL2",
                ReduceKind::L1 => "ReduceL1",
                ReduceKind::SumSquare => "ReduceSumSquare",
                ReduceKind::LogSum => "ReduceLogSum",
                ReduceKind::LogSumExp => "ReduceLogSumExp",
            },
            OpKind::Softmax { log: false, .. } => "Softmax",
            OpKind::Softmax { log: true, .. } => "LogSoftmax",
            OpKind::ScaleShift => "BatchNormalization",
            OpKind::LayerNormalization { .. } => "LayerNormalization",
            OpKind::Reshape => "Reshape",
            OpKind::Transpose { .. } => "Transpose",
            OpKind::Concat { .. } => "Concat",
            OpKind::Split { .. } => "Split",
            OpKind::Slice { .. } => "Slice",
            OpKind::Pad { .. } => "Pad",
            OpKind::Gather { .. } => "Gather",
            OpKind::Expand => "Expand",
            OpKind::Tile { .. } => "Tile",
            OpKind::Resize { .. } => "Resize",
            OpKind::DepthToSpace { .. } => "DepthToSpace",
            OpKind::Cast => "Cast",
            OpKind::ArgMax { least: false, .. } => "ArgMax",
            OpKind::ArgMax { least: true, .. } => "ArgMin",
            OpKind::Where => "Where",
            OpKind::General(kind) => kind.name(),
        }
    }
}
