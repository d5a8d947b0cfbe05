//! Operations that run on floats or integers whole tensor by whole tensor, outside what runtimes quantize.

/// What such an operation computes. The comment of each names its inputs; outputs are one unless it says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub enum GeneralKind {
    /// Normalization of the channels (axis 1) in groups, each over its channels and all later axes; inputs: x,
    /// scale `[C]`, bias `[C]`. InstanceNormalization has as many groups as channels.
    GroupNormalization {
        /// Groups of channels.
        groups: usize,
        /// Added to the variance.
        epsilon: f32,
    },
    /// Local response normalization across channels (axis 1); input: x.
    LocalResponse {
        /// Channels summed over.
        size: usize,
        /// Factor.
        alpha: f32,
        /// Exponent.
        beta: f32,
        /// Offset.
        bias: f32,
    },
    /// Division by the norm along an axis; input: x.
    LpNormalization {
        /// Axis, non-negative.
        axis: usize,
        /// Sum of absolute values instead of Euclidean norm.
        absolute: bool,
    },
    /// 1 at the first greatest element along an axis, 0 elsewhere; input: x.
    Hardmax {
        /// Axis, non-negative.
        axis: usize,
    },
    /// Running sum along an axis; input: x.
    CumSum {
        /// Axis, non-negative.
        axis: usize,
        /// Whether an element's own value is left out.
        exclusive: bool,
        /// Whether it runs from the end.
        reverse: bool,
    },
    /// The second value where the position along the new axis is the index, else the first; inputs: indices, values `[2]`.
    OneHot {
        /// The new axis, non-negative.
        axis: usize,
    },
    /// One selected element along an axis an output element; inputs: x, indices.
    GatherElements {
        /// Axis, non-negative.
        axis: usize,
    },
    /// Slices selected by tuples of indices; inputs: x, indices.
    GatherNd {
        /// Leading axes that both share.
        batch_axes: usize,
    },
    /// The triangle of the last two axes above or below a diagonal, zeros elsewhere; input: x.
    Triangle {
        /// The upper one.
        upper: bool,
        /// Which diagonal, 0 the main one.
        diagonal: i64,
    },
    /// Blocks of space to channels; input: x.
    SpaceToDepth {
        /// Block extent.
        block: usize,
    },
    /// Padding with elements of the input; input: x.
    PadInside {
        /// Before each axis.
        begin: Vec<isize>,
        /// Which elements.
        mode: PadMode,
    },
    /// Whether an element is no number; input: x.
    IsNan,
    /// Whether an element is infinite; input: x.
    IsInfinite {
        /// Positive infinity counts.
        positive: bool,
        /// Negative infinity counts.
        negative: bool,
    },
    /// A recurrent layer; inputs: x `[time, batch, input]`, weights `[directions, gates·hidden, input]`, recurrent
    /// weights `[directions, gates·hidden, hidden]`, bias `[directions, 2·gates·hidden]`, first hidden state and (LSTM)
    /// first cell state `[directions, batch, hidden]`, both zeros where the model has none; outputs: all hidden states
    /// `[time, directions, batch, hidden]`, the last ones, and (LSTM) the last cell states.
    Recurrent {
        /// Which cell.
        cell: RecurrentCell,
        /// Order of time.
        direction: Direction,
    },
    /// Codes of floats; inputs: x, scale, zero point (constants).
    Quantize {
        /// Axis of the scales, where there are several.
        axis: usize,
    },
    /// Floats of codes; inputs: codes, scale, zero point (constants).
    Dequantize {
        /// Axis of the scales, where there are several.
        axis: usize,
    },
}

/// Which elements padding repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadMode {
    /// Mirrored at the outermost elements.
    Reflect,
    /// The outermost element.
    Edge,
    /// From the other side.
    Wrap,
}

/// Recurrent cells; gates are in ONNX's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecurrentCell {
    /// Long short-term memory: input, output, forget and cell gates.
    Lstm,
    /// Gated recurrent unit: update, reset and hidden gates.
    Gru {
        /// Whether the reset gate acts after the recurrent product.
        linear_before_reset: bool,
    },
    /// tanh of the sum.
    Tanh,
    /// Relu of the sum.
    Relu,
}

impl RecurrentCell {
    /// Gates of a cell.
    pub fn gates(self) -> usize {
        match self {
            RecurrentCell::Lstm => 4,
            RecurrentCell::Gru { .. } => 3,
            RecurrentCell::Tanh | RecurrentCell::Relu => 1,
        }
    }
}

/// Order of time in a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first step.
    Forward,
    /// From the last step.
    Reverse,
    /// Both, the forward one first.
    Both,
}

impl GeneralKind {
    /// The ONNX operator name closest to this kind, for people.
    pub fn name(&self) -> &'static str {
        match self {
            GeneralKind::GroupNormalization { .. } => "GroupNormalization",
            GeneralKind::LocalResponse { .. } => "LRN",
            GeneralKind::LpNormalization { .. } => "LpNormalization",
            GeneralKind::Hardmax { .. } => "Hardmax",
            GeneralKind::CumSum { .. } => "CumSum",
            GeneralKind::OneHot { .. } => "OneHot",
            GeneralKind::GatherElements { .. } => "GatherElements",
            GeneralKind::GatherNd { .. } => "GatherND",
            GeneralKind::Triangle { .. } => "Trilu",
            GeneralKind::SpaceToDepth { .. } => "SpaceToDepth",
            GeneralKind::PadInside { .. } => "Pad",
            GeneralKind::IsNan => "IsNaN",
            GeneralKind::IsInfinite { .. } => "IsInf",
            GeneralKind::Recurrent { cell: RecurrentCell::Lstm, .. } => "LSTM",
            GeneralKind::Recurrent { cell: RecurrentCell::Gru { .. }, .. } => "GRU",
            GeneralKind::Recurrent { .. } => "RNN",
            GeneralKind::Quantize { .. } => "QuantizeLinear",
            GeneralKind::Dequantize { .. } => "DequantizeLinear",
        }
    }
}
