//! Instructions on whole row-major tensors, outside the fast paths of images: integers, selections, products of two
//! activations.

use super::buffer::{Arena, BufferId};
use super::chain::Slots;
use holdfast_common::graph::{DataType, ReduceKind};
use holdfast_kernels::float::recurrent::{self, Cell, CellWeights};
use holdfast_kernels::float::{self, PackedF32, WeightLayout};
use holdfast_kernels::general::{self, Comparison, IntBinary, IntWidth, Selection, TupleSelection};
use holdfast_kernels::int8::{Epilogue, ProductScratch, ProductShape, ProductU8U8, Requant, RightLayout};
use holdfast_kernels::{ConvGeometry, Isa};

/// One call.
#[derive(Debug, PartialEq)]
pub enum General {
    /// Selection along an axis; inputs: x, indices.
    Gather {
        /// Where it reads.
        selection: Selection,
        /// Number of indices.
        count: usize,
        /// The operation, for messages.
        operation: String,
    },
    /// Choice per element; inputs: condition, a, b, all of this many elements.
    Choose {
        /// Elements.
        len: usize,
    },
    /// Comparison of floats or of integers.
    Compare {
        /// Which.
        comparison: Comparison,
        /// Whether the operands are integers.
        of_integers: bool,
        /// Elements.
        len: usize,
    },
    /// Integer arithmetic.
    IntBinary {
        /// Function.
        function: IntBinary,
        /// Type of the result.
        width: IntWidth,
        /// Elements.
        len: usize,
    },
    /// Integer function of one value.
    IntUnary {
        /// Function.
        function: IntUnary,
        /// Type of the result.
        width: IntWidth,
        /// Elements.
        len: usize,
    },
    /// Conversion of floats to integers.
    FloatToInt {
        /// Type of the result.
        width: IntWidth,
        /// Elements.
        len: usize,
    },
    /// Conversion of integers to floats.
    IntToFloat {
        /// Elements.
        len: usize,
    },
    /// Index of an extreme of contiguous rows.
    ArgExtreme {
        /// Least instead of greatest.
        least: bool,
        /// Last among equals instead of first.
        last: bool,
        /// Rows.
        rows: usize,
        /// Elements a row.
        len: usize,
    },
    /// A function of contiguous rows.
    Rows {
        /// Which.
        function: RowFunction,
        /// Rows.
        rows: usize,
        /// Elements a row.
        len: usize,
    },
    /// Running sums of contiguous rows of integers.
    IntRunningSum {
        /// Own values are left out.
        exclusive: bool,
        /// From the end.
        reverse: bool,
        /// Elements a row.
        len: usize,
        /// Elements.
        total: usize,
    },
    /// Reduction of contiguous rows of integers.
    IntReduce {
        /// Which.
        kind: ReduceKind,
        /// Type of the result.
        width: IntWidth,
        /// Rows.
        rows: usize,
        /// Elements a row.
        len: usize,
    },
    /// Normalization of channels in groups; inputs: x, scale, bias.
    GroupNormalize {
        /// Samples.
        samples: usize,
        /// Channels.
        channels: usize,
        /// Elements of a sample.
        len: usize,
        /// Groups.
        groups: usize,
        /// Added to the variance.
        epsilon: f32,
    },
    /// Local response normalization.
    LocalResponse {
        /// Samples.
        samples: usize,
        /// Window, channels, elements a channel.
        extents: [usize; 3],
        /// Factor, exponent, offset.
        factors: [f32; 3],
    },
    /// One selected element along an axis an output element; inputs: x, indices.
    GatherElements {
        /// Axis.
        axis: usize,
        /// Shape of x.
        shape: Vec<usize>,
        /// Shape of the indices.
        index_shape: Vec<usize>,
        /// The operation, for messages.
        operation: String,
    },
    /// Slices selected by tuples; inputs: x, indices.
    GatherTuples {
        /// Where it reads.
        selection: TupleSelection,
        /// The operation, for messages.
        operation: String,
    },
    /// Positions as rows of two values; inputs: indices, values.
    OneHot {
        /// Before the new axis, the new axis, after it.
        extents: [usize; 3],
    },
    /// Whether floats are no numbers, or infinite.
    Test {
        /// NaN counts.
        nan: bool,
        /// Positive infinity counts.
        positive: bool,
        /// Negative infinity counts.
        negative: bool,
        /// Elements.
        len: usize,
    },
    /// Codes of floats.
    Quantize(Slices),
    /// Floats of codes.
    Dequantize(Slices),
    /// A recurrent layer; inputs: x, weights, recurrent weights, bias, first hidden state, first cell state (LSTM);
    /// output: all hidden states, the last ones, the last cell states (LSTM), one after another.
    Recurrent(Recurrent),
    /// Products of float matrices that are both computed.
    ProductFloat(Products),
    /// Products of matrices of codes that are both computed.
    ProductCodes {
        /// Where the matrices of each product begin.
        places: Vec<ProductPlace>,
        /// Each product.
        product: Box<ProductU8U8>,
        /// What comes out.
        finish: ProductFinish,
    },
}

/// A function of a row of floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFunction {
    /// Running sum.
    RunningSum {
        /// Own values are left out.
        exclusive: bool,
        /// From the end.
        reverse: bool,
    },
    /// Division by a norm.
    LpNormalize {
        /// Sum of absolute values instead of the Euclidean norm.
        absolute: bool,
    },
    /// 1 at the first greatest, 0 elsewhere.
    Hardmax,
}

/// Quant params of slices of a row-major tensor.
#[derive(Debug, PartialEq)]
pub struct Slices {
    /// Elements of a slice that lie together.
    pub inner: usize,
    /// Elements of the tensor.
    pub len: usize,
    /// One a slice.
    pub scales: Vec<f32>,
    /// One a slice.
    pub zero_points: Vec<i64>,
    /// Limits of the codes.
    pub limits: [i64; 2],
}

/// Extents of a recurrent layer.
#[derive(Debug, PartialEq)]
pub struct Recurrent {
    /// Cell.
    pub cell: Cell,
    /// Whether each direction runs from the end.
    pub reversed: Vec<bool>,
    /// Steps.
    pub time: usize,
    /// Samples.
    pub batch: usize,
    /// Values a step.
    pub input: usize,
    /// Units.
    pub hidden: usize,
}

/// An integer function of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntUnary {
    /// Brought into the type.
    Convert,
    /// −x.
    Neg,
    /// |x|.
    Abs,
    /// 1 where x is 0, else 0.
    Not,
}

/// A stack of matrix products of equal extents.
#[derive(Debug, PartialEq)]
pub struct Products {
    /// Extents of each and how its matrices lie.
    pub shape: ProductShape,
    /// Where the matrices of each begin.
    pub places: Vec<ProductPlace>,
}

/// The first elements of the matrices of one product in their buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductPlace {
    /// Of the left matrix.
    pub left: usize,
    /// Of the right matrix.
    pub right: usize,
    /// Of the result.
    pub output: usize,
}

/// What comes out of a product of codes.
#[derive(Debug, PartialEq)]
pub enum ProductFinish {
    /// Codes; one multiplier a column.
    Codes(Requant),
    /// Floats.
    Float {
        /// Product of the operands' scales, once a column.
        scales: Vec<f32>,
    },
}

/// Space that instructions work in: where right operands that are computed are packed, and blocks of chains.
#[derive(Debug)]
pub struct Scratch {
    /// Floats.
    pub floats: PackedF32,
    /// Codes.
    pub codes: ProductScratch,
    /// What lies between the steps of a chain.
    pub blocks: Slots,
}

impl Scratch {
    /// Holds nothing yet.
    pub fn new(isa: Isa) -> Scratch {
        Scratch { floats: PackedF32::empty(isa), codes: ProductScratch::default(), blocks: Slots::new() }
    }
}

impl Products {
    fn floats(&self, isa: Isa, a: &[f32], b: &[f32], scratch: &mut PackedF32, output: &mut [f32]) {
        let ProductShape { rows, depth, columns, left_stride, right, output_stride } = self.shape;
        let geometry = ConvGeometry::matrix(rows, depth, columns, left_stride, output_stride);
        let (layout, stride) = match right {
            (RightLayout::DepthMajor, stride) => (WeightLayout::DepthMajor, stride),
            (RightLayout::ColumnMajor, stride) => (WeightLayout::OutputMajor, stride),
        };
        let bias = vec![0.0; columns];
        let epilogue = float::Epilogue::bias(&bias);
        for place in &self.places {
            let (a, b, output) = (&a[place.left..], &b[place.right..], &mut output[place.output..]);
            float::gemm_f32(isa, &geometry, a, b, layout, stride, scratch, &epilogue, output);
        }
    }
}

/// An index from the data that is out of range.
#[derive(Clone, Debug)]
pub struct IndexFault {
    /// The operation.
    pub operation: String,
    /// The index.
    pub index: i64,
    /// Extent of the axis.
    pub extent: usize,
}

impl General {
    /// The kernel's name, for people who look where the time goes.
    pub fn name(&self) -> &'static str {
        match self {
            General::Gather { .. } => "gather",
            General::Choose { .. } => "choose",
            General::Compare { .. } => "compare",
            General::IntBinary { .. } | General::IntUnary { .. } => "integer",
            General::FloatToInt { .. } | General::IntToFloat { .. } => "convert",
            General::ArgExtreme { .. } => "arg_extreme",
            General::Rows { .. } | General::IntRunningSum { .. } | General::IntReduce { .. } => "rows",
            General::GroupNormalize { .. } => "group_normalize",
            General::LocalResponse { .. } => "local_response",
            General::GatherElements { .. } | General::GatherTuples { .. } => "gather",
            General::OneHot { .. } => "one_hot",
            General::Test { .. } => "test",
            General::Quantize(_) => "quantize_slices",
            General::Dequantize(_) => "dequantize_slices",
            General::Recurrent(_) => "recurrent",
            General::ProductFloat(_) => "product_float",
            General::ProductCodes { .. } => "product_int8",
        }
    }

    /// Whether it computes on codes.
    pub fn is_int8(&self) -> bool {
        matches!(self, General::ProductCodes { .. })
    }

    /// Runs it into a buffer of floats.
    ///
    /// # Errors
    ///
    /// The index that is out of range.
    pub fn write_floats(
        &self,
        isa: Isa,
        arena: &Arena,
        inputs: &[BufferId],
        scratch: &mut Scratch,
        output: &mut [f32],
    ) -> Result<(), IndexFault> {
        let floats = |input: usize| arena.f32(inputs[input]);
        let integers = |input: usize| arena.i64(inputs[input]);
        match self {
            General::Gather { .. } | General::GatherElements { .. } | General::GatherTuples { .. } => {
                return self.gather(floats(0), integers(1), output);
            }
            General::Rows { function, rows, len } => {
                let total = rows * len;
                let pairs = output[..total].chunks_exact_mut((*len).max(1));
                for (to, from) in pairs.zip(floats(0)[..total].chunks_exact((*len).max(1))) {
                    function.run(isa, from, to);
                }
            }
            General::GroupNormalize { samples, channels, len, groups, epsilon } => {
                let (scale, bias) = (&floats(1)[..*channels], &floats(2)[..*channels]);
                for sample in 0..*samples {
                    let (from, to) = (&floats(0)[sample * len..][..*len], &mut output[sample * len..][..*len]);
                    float::group_normalize(isa, *groups, *epsilon, scale, bias, from, to);
                }
            }
            General::LocalResponse { samples, extents: extents @ [_, channels, inner], factors } => {
                let len = channels * inner;
                for sample in 0..*samples {
                    let (from, to) = (&floats(0)[sample * len..][..len], &mut output[sample * len..][..len]);
                    float::local_response(*extents, *factors, from, to);
                }
            }
            General::OneHot { extents } => {
                general::one_hot(*extents, integers(0), [floats(1)[0], floats(1)[1]], output);
            }
            General::Dequantize(slices) => {
                let Slices { inner, len, scales, zero_points, .. } = slices;
                general::dequantize_slices(*inner, scales, zero_points, &integers(0)[..*len], output);
            }
            General::Recurrent(layer) => layer.run(isa, &floats, output),
            General::Choose { len } => {
                general::choose(&integers(0)[..*len], floats(1), floats(2), output);
            }
            General::IntToFloat { len } => {
                for (to, &value) in output.iter_mut().zip(&integers(0)[..*len]) {
                    *to = value as f32;
                }
            }
            General::ProductFloat(products) => {
                products.floats(isa, floats(0), floats(1), &mut scratch.floats, output);
            }
            General::ProductCodes { places, product, finish: ProductFinish::Float { scales } } => {
                let (a, b) = (arena.u8(inputs[0]), arena.u8(inputs[1]));
                let (lo, hi) = (f32::NEG_INFINITY, f32::INFINITY);
                for place in places {
                    let epilogue =
                        Epilogue::F32 { scale: scales, shift: None, lo, hi, output: &mut output[place.output..] };
                    product.run(&a[place.left..], &b[place.right..], &mut scratch.codes, epilogue);
                }
            }
            other => unreachable!("{other:?} writes no floats"),
        }
        Ok(())
    }

    /// Runs it into a buffer of codes.
    ///
    /// # Errors
    ///
    /// The index that is out of range.
    pub fn write_codes(
        &self,
        arena: &Arena,
        inputs: &[BufferId],
        scratch: &mut Scratch,
        output: &mut [u8],
    ) -> Result<(), IndexFault> {
        let codes = |input: usize| arena.u8(inputs[input]);
        match self {
            General::Gather { .. } => self.gather(codes(0), arena.i64(inputs[1]), output),
            General::ProductCodes { places, product, finish: ProductFinish::Codes(requant) } => {
                for place in places {
                    let epilogue = Epilogue::U8 { requant, output: &mut output[place.output..] };
                    product.run(&codes(0)[place.left..], &codes(1)[place.right..], &mut scratch.codes, epilogue);
                }
                Ok(())
            }
            other => unreachable!("{other:?} writes no codes"),
        }
    }

    /// Runs it into a buffer of integers.
    ///
    /// # Errors
    ///
    /// The index that is out of range.
    pub fn write_integers(&self, arena: &Arena, inputs: &[BufferId], output: &mut [i64]) -> Result<(), IndexFault> {
        let floats = |input: usize| arena.f32(inputs[input]);
        let integers = |input: usize| arena.i64(inputs[input]);
        match self {
            General::Gather { .. } | General::GatherElements { .. } | General::GatherTuples { .. } => {
                return self.gather(integers(0), integers(1), output);
            }
            General::IntReduce { kind, width, rows, len } => {
                for (row, to) in output[..*rows].iter_mut().enumerate() {
                    let values = integers(0)[row * len..][..*len].iter().copied();
                    let reduced = match kind {
                        ReduceKind::Max => values.max(),
                        ReduceKind::Min => values.min(),
                        ReduceKind::Prod => Some(values.fold(1i64, i64::wrapping_mul)),
                        ReduceKind::Sum
                        | ReduceKind::Mean
                        | ReduceKind::L1
                        | ReduceKind::L2
                        | ReduceKind::SumSquare
                        | ReduceKind::LogSum
                        | ReduceKind::LogSumExp => Some(values.fold(0i64, i64::wrapping_add)),
                    };
                    *to = width.wrap(reduced.unwrap_or(0));
                }
            }
            General::IntRunningSum { exclusive, reverse, len, total } => {
                let pairs = output[..*total].chunks_exact_mut((*len).max(1));
                for (to, from) in pairs.zip(integers(0)[..*total].chunks_exact((*len).max(1))) {
                    let mut sum = 0i64;
                    for step in 0..*len {
                        let at = if *reverse { len - 1 - step } else { step };
                        let before = sum;
                        sum = sum.wrapping_add(from[at]);
                        to[at] = if *exclusive { before } else { sum };
                    }
                }
            }
            General::OneHot { extents } => {
                general::one_hot(*extents, integers(0), [integers(1)[0], integers(1)[1]], output);
            }
            General::Test { nan, positive, negative, len } => {
                for (to, &value) in output.iter_mut().zip(&floats(0)[..*len]) {
                    let found = (*nan && value.is_nan())
                        || (*positive && value == f32::INFINITY)
                        || (*negative && value == f32::NEG_INFINITY);
                    *to = i64::from(found);
                }
            }
            General::Quantize(slices) => {
                let Slices { inner, len, scales, zero_points, limits } = slices;
                general::quantize_slices(*inner, scales, zero_points, *limits, &floats(0)[..*len], output);
            }
            General::Choose { len } => general::choose(&integers(0)[..*len], integers(1), integers(2), output),
            General::Compare { comparison, of_integers: false, len } => {
                general::compare(*comparison, &floats(0)[..*len], floats(1), output);
            }
            General::Compare { comparison, of_integers: true, len } => {
                general::compare(*comparison, &integers(0)[..*len], integers(1), output);
            }
            General::IntBinary { function, width, len } => {
                general::int_binary(*function, *width, &integers(0)[..*len], integers(1), output);
            }
            General::IntUnary { function, width, len } => {
                for (to, &value) in output.iter_mut().zip(&integers(0)[..*len]) {
                    *to = width.wrap(function.evaluate(value));
                }
            }
            General::FloatToInt { width, len } => {
                for (to, &value) in output.iter_mut().zip(&floats(0)[..*len]) {
                    *to = width.from_float(value);
                }
            }
            General::ArgExtreme { least, last, rows, len } => {
                for (row, to) in output[..*rows].iter_mut().enumerate() {
                    *to = general::arg_extreme(&floats(0)[row * len..][..*len], *least, *last) as i64;
                }
            }
            other => unreachable!("{other:?} writes no integers"),
        }
        Ok(())
    }

    fn gather<T: Copy>(&self, x: &[T], indices: &[i64], output: &mut [T]) -> Result<(), IndexFault> {
        let fault = |operation: &String, index, extent| IndexFault { operation: operation.clone(), index, extent };
        match self {
            General::Gather { selection, count, operation } => {
                general::gather(selection, x, &indices[..*count], output)
                    .map_err(|index| fault(operation, index, selection.extent))
            }
            General::GatherElements { axis, shape, index_shape, operation } => {
                general::gather_elements(*axis, shape, index_shape, x, indices, output)
                    .map_err(|index| fault(operation, index, shape[*axis]))
            }
            General::GatherTuples { selection, operation } => general::gather_tuples(selection, x, indices, output)
                .map_err(|(index, extent)| fault(operation, index, extent)),
            _ => Ok(()),
        }
    }
}

impl RowFunction {
    fn run(self, isa: Isa, from: &[f32], to: &mut [f32]) {
        match self {
            RowFunction::RunningSum { exclusive, reverse } => float::running_sum(exclusive, reverse, from, to),
            RowFunction::LpNormalize { absolute } => float::lp_normalize(isa, absolute, from, to),
            RowFunction::Hardmax => {
                to.fill(0.0);
                if let Some(hot) = to.get_mut(general::arg_extreme(from, false, false)) {
                    *hot = 1.0;
                }
            }
        }
    }
}

impl Recurrent {
    fn run<'a>(&self, isa: Isa, floats: &impl Fn(usize) -> &'a [f32], output: &mut [f32]) {
        let Recurrent { cell, ref reversed, time, batch, input, hidden } = *self;
        let (directions, rows) = (reversed.len(), cell.gates() * hidden);
        let (sequence, states) = output.split_at_mut(time * directions * batch * hidden);
        let mut scratch = Vec::new();
        for (direction, &reversed) in reversed.iter().enumerate() {
            let weights = CellWeights {
                input: &floats(1)[direction * rows * input..][..rows * input],
                recurrent: &floats(2)[direction * rows * hidden..][..rows * hidden],
                bias: &floats(3)[direction * 2 * rows..][..2 * rows],
            };
            for sample in 0..batch {
                let place = (direction * batch + sample) * hidden;
                let mut state = floats(4)[place..][..hidden].to_vec();
                let mut memory = match cell {
                    Cell::Lstm => floats(5)[place..][..hidden].to_vec(),
                    Cell::Gru { .. } | Cell::Tanh | Cell::Relu => Vec::new(),
                };
                for step in 0..time {
                    let step = if reversed { time - 1 - step } else { step };
                    let x = &floats(0)[(step * batch + sample) * input..][..input];
                    recurrent::step(isa, cell, weights, x, &mut state, &mut memory, &mut scratch);
                    let at = ((step * directions + direction) * batch + sample) * hidden;
                    sequence[at..at + hidden].copy_from_slice(&state);
                }
                states[place..place + hidden].copy_from_slice(&state);
                let last_memory = directions * batch * hidden + place;
                states[last_memory..][..memory.len()].copy_from_slice(&memory);
            }
        }
    }
}

impl IntUnary {
    fn evaluate(self, value: i64) -> i64 {
        match self {
            IntUnary::Convert => value,
            IntUnary::Neg => value.wrapping_neg(),
            IntUnary::Abs => value.wrapping_abs(),
            IntUnary::Not => i64::from(value == 0),
        }
    }
}

/// The integers an element type is computed in; `None` for floats.
pub fn int_width(data_type: DataType) -> Option<IntWidth> {
    Some(match data_type {
        DataType::F32 => return None,
        DataType::I64 => IntWidth::I64,
        DataType::I32 => IntWidth::I32,
        DataType::U8 => IntWidth::U8,
        DataType::I8 => IntWidth::I8,
        DataType::Bool => IntWidth::Bool,
    })
}
