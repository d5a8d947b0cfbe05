//! Instructions on whole row-major tensors, outside the fast paths of images: integers, selections, products of two
//! activations.

use super::buffer::{Arena, BufferId};
use holdfast_common::graph::DataType;
use holdfast_kernels::float::{self, PackedF32, WeightLayout};
use holdfast_kernels::general::{self, Comparison, IntBinary, IntWidth, ProductExtents, Selection};
use holdfast_kernels::int8::Requant;
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
    /// Products of float matrices that are both computed.
    ProductFloat(Products),
    /// Products of matrices of codes that are both computed.
    ProductCodes {
        /// The matrices.
        products: Products,
        /// Zero points of the operands.
        zero_points: [u8; 2],
        /// What comes out.
        finish: ProductFinish,
    },
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
    /// Extents of each.
    pub extents: ProductExtents,
    /// Indices of the left and the right matrix of each product, in output order.
    pub pairs: Vec<[usize; 2]>,
}

/// What comes out of a product of codes.
#[derive(Debug, PartialEq)]
pub enum ProductFinish {
    /// Codes; the multiplier has one entry.
    Codes(Requant),
    /// Floats.
    Float {
        /// Product of the operands' scales.
        scale: f32,
    },
}

impl Products {
    /// Elements of the left matrix, the right one and the result.
    fn sizes(&self) -> [usize; 3] {
        let ProductExtents { rows, depth, columns } = self.extents;
        [rows * depth, depth * columns, rows * columns]
    }

    fn codes(
        &self,
        (a, zero_a): (&[u8], u8),
        (b, zero_b): (&[u8], u8),
        mut row_done: impl FnMut(std::ops::Range<usize>, &[i32]),
    ) {
        let [left_size, right_size, size] = self.sizes();
        let columns = self.extents.columns;
        let mut sums = Vec::new();
        for (index, [left, right]) in self.pairs.iter().enumerate() {
            let a = &a[left * left_size..][..left_size];
            let b = &b[right * right_size..][..right_size];
            general::product_codes(self.extents, (a, zero_a), (b, zero_b), &mut sums, |row, sums| {
                let at = index * size + row * columns;
                row_done(at..at + columns, sums);
            });
        }
    }

    fn floats(&self, isa: Isa, a: &[f32], b: &[f32], scratch: &mut PackedF32, output: &mut [f32]) {
        let [left_size, right_size, size] = self.sizes();
        let ProductExtents { rows, depth, columns } = self.extents;
        let geometry = ConvGeometry::matrix(rows, depth, columns, depth, columns);
        let bias = vec![0.0; columns];
        let epilogue = float::Epilogue::bias(&bias);
        for ([left, right], output) in self.pairs.iter().zip(output.chunks_exact_mut(size.max(1))) {
            let a = &a[left * left_size..][..left_size];
            let b = &b[right * right_size..][..right_size];
            float::gemm_f32(isa, &geometry, a, b, WeightLayout::DepthMajor, columns, scratch, &epilogue, output);
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
        scratch: &mut PackedF32,
        output: &mut [f32],
    ) -> Result<(), IndexFault> {
        let floats = |input: usize| arena.f32(inputs[input]);
        let integers = |input: usize| arena.i64(inputs[input]);
        match self {
            General::Gather { .. } => return self.gather(floats(0), integers(1), output),
            General::Choose { len } => {
                general::choose(&integers(0)[..*len], floats(1), floats(2), output);
            }
            General::IntToFloat { len } => {
                for (to, &value) in output.iter_mut().zip(&integers(0)[..*len]) {
                    *to = value as f32;
                }
            }
            General::ProductFloat(products) => products.floats(isa, floats(0), floats(1), scratch, output),
            General::ProductCodes { products, zero_points: [a, b], finish: ProductFinish::Float { scale } } => {
                products.codes((arena.u8(inputs[0]), *a), (arena.u8(inputs[1]), *b), |range, sums| {
                    for (to, &sum) in output[range].iter_mut().zip(sums) {
                        *to = sum as f32 * scale;
                    }
                });
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
    pub fn write_codes(&self, arena: &Arena, inputs: &[BufferId], output: &mut [u8]) -> Result<(), IndexFault> {
        let codes = |input: usize| arena.u8(inputs[input]);
        match self {
            General::Gather { .. } => self.gather(codes(0), arena.i64(inputs[1]), output),
            General::ProductCodes { products, zero_points: [a, b], finish: ProductFinish::Codes(requant) } => {
                products.codes((codes(0), *a), (codes(1), *b), |range, sums| {
                    requant.apply(sums, &mut output[range]);
                });
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
            General::Gather { .. } => return self.gather(integers(0), integers(1), output),
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
        let General::Gather { selection, count, operation } = self else { return Ok(()) };
        general::gather(selection, x, &indices[..*count], output).map_err(|index| IndexFault {
            operation: operation.clone(),
            index,
            extent: selection.extent,
        })
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
