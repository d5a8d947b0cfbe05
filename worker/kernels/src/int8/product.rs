//! Products of two matrices of codes that are both computed, exact: the right one becomes packed weights on the way.
//!
//! Kernels multiply u8 by s8, so the right codes are packed less 128; what their own zero point lies beside 128 is a
//! second set of constant weights over the same left codes, and the left zero point goes into the bias.

use super::arch::WeightForm;
use super::pack::Line;
use super::{ConvGeometry, ConvU8S8, DepthRuns, Epilogue, INPUT_SLACK, Int8Error, K_GROUP, PackedWeights, WeightShape};
use crate::{Image, Isa};
use std::ops::Range;

/// What brings u8 codes into the range of s8.
const MIDDLE: i32 = 128;

/// How the right matrix lies in its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RightLayout {
    /// `[depth][columns]`.
    DepthMajor,
    /// `[columns][depth]`: a transposed matrix.
    ColumnMajor,
}

/// Extents and places of one product of two matrices of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductShape {
    /// Rows of the left matrix and of the result.
    pub rows: usize,
    /// Products a sum.
    pub depth: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Elements from a row of the left matrix to the next.
    pub left_stride: usize,
    /// How the right matrix lies, and the elements from one of its rows (or columns) to the next.
    pub right: (RightLayout, usize),
    /// Elements from a row of the result to the next.
    pub output_stride: usize,
}

impl ProductShape {
    /// Depth up to which a sum of products of centred codes fits 32 bits.
    pub const DEPTH_MAX: usize = i32::MAX as usize / (255 * 255);

    /// The product of dense row-major matrices.
    pub fn dense(rows: usize, depth: usize, columns: usize) -> ProductShape {
        let right = (RightLayout::DepthMajor, columns);
        ProductShape { rows, depth, columns, left_stride: depth, right, output_stride: columns }
    }

    /// Where the right matrix has the element of a depth and a column.
    #[inline(always)]
    pub(crate) fn right_element(&self, depth: usize, column: usize) -> usize {
        match self.right {
            (RightLayout::DepthMajor, stride) => depth * stride + column,
            (RightLayout::ColumnMajor, stride) => column * stride + depth,
        }
    }
}

/// A product `sum over k of (a[m][k] - zero_a) * (b[k][n] - zero_b)`, ready to run on one instruction set.
#[derive(Debug, PartialEq)]
pub struct ProductU8U8 {
    isa: Isa,
    shape: ProductShape,
    zero_points: [u8; 2],
    conv: ConvU8S8,
    /// Constant weights of each further pass over the left codes; they add up to 128 less the right zero point.
    constants: Vec<i8>,
}

/// Space for the packed right matrix, kept from one product to the next.
#[derive(Debug, Default)]
pub struct ProductScratch {
    weights: Option<PackedWeights>,
    bias: Vec<i32>,
}

impl ProductU8U8 {
    /// Prepares a shape and the zero points of the left and the right matrix.
    ///
    /// # Errors
    ///
    /// When the depth exceeds [`ProductShape::DEPTH_MAX`], rows overlap, or the machine lacks `isa`.
    pub fn new(isa: Isa, shape: ProductShape, zero_points: [u8; 2]) -> Result<ProductU8U8, Int8Error> {
        if shape.depth > ProductShape::DEPTH_MAX {
            return Err(Int8Error::TooLarge);
        }
        let beside = MIDDLE - i32::from(zero_points[1]);
        // -127..=128: the last one takes two steps.
        let constants = match i8::try_from(beside) {
            Ok(0) => Vec::new(),
            Ok(constant) => vec![constant],
            Err(_) => vec![(beside / 2) as i8; 2],
        };
        let image = |channels, stride| Image {
            height: 1,
            width: shape.rows,
            channels,
            pixel_stride: stride,
            // The passes over the left codes are filter rows no distance apart.
            row_stride: 0,
            offset: 0,
        };
        let geometry = ConvGeometry {
            kernel_h: 1 + constants.len(),
            input: image(shape.depth, shape.left_stride),
            output: image(shape.columns, shape.output_stride),
            ..ConvGeometry::matmul(shape.rows, shape.depth, shape.columns)
        };
        Ok(ProductU8U8 { isa, shape, zero_points, conv: ConvU8S8::new(isa, &geometry)?, constants })
    }

    /// The shape it was made for.
    pub fn shape(&self) -> ProductShape {
        self.shape
    }

    /// The zero points of the left and the right matrix.
    pub fn zero_points(&self) -> [u8; 2] {
        self.zero_points
    }

    /// Elements the left slice must hold, slack included.
    pub fn left_elements(&self) -> usize {
        self.conv.input_elements()
    }

    /// Multiplies; multipliers and scales of the epilogue are one a column.
    ///
    /// Allocates only when the right matrix is larger than any before it.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says (the left one by [`INPUT_SLACK`] more).
    pub fn run(&self, left: &[u8], right: &[u8], scratch: &mut ProductScratch, epilogue: Epilogue<'_>) {
        let ProductShape { rows, depth, columns, .. } = self.shape;
        if rows == 0 || columns == 0 {
            return;
        }
        assert!(
            left.len() >= self.left_elements(),
            "the left matrix is shorter than its shape, {INPUT_SLACK} included"
        );
        let needed = if depth == 0 { 0 } else { self.shape.right_element(depth - 1, columns - 1) + 1 };
        assert!(right.len() >= needed, "the right matrix has {} elements, its shape needs {needed}", right.len());
        self.bias(right, &mut scratch.bias);
        let known = scratch.weights.take().filter(|weights| weights.isa() == self.isa);
        let mut weights = known.unwrap_or_else(|| PackedWeights::empty(self.isa));
        let taps = 1 + self.constants.len();
        let beside: i32 = self.constants.iter().map(|constant| i32::from(*constant).abs()).sum();
        let magnitude = 255.0 * (MIDDLE + beside) as f32 * depth as f32 * 1.001;
        let shape = WeightShape { out_channels: columns, kernel_h: taps, kernel_w: 1, channels: depth };
        weights.reshape(shape, DepthRuns::Taps, magnitude);
        self.pack(right, &mut weights);
        if weights.needs_column_sums() {
            weights.set_column_sums((0..columns).map(|column| self.column_sum(right, column)));
        }
        self.conv.run(&weights, left, &scratch.bias, epilogue);
        scratch.weights = Some(weights);
    }

    /// `-zero_a * sum over k of (b[k][n] - zero_b)`.
    fn bias(&self, right: &[u8], bias: &mut Vec<i32>) {
        let ProductShape { depth, columns, .. } = self.shape;
        let [zero_a, zero_b] = self.zero_points.map(i32::from);
        bias.clear();
        bias.resize(columns, 0);
        if zero_a == 0 {
            return;
        }
        match self.shape.right {
            (RightLayout::DepthMajor, stride) => {
                for k in 0..depth {
                    for (sum, &code) in bias.iter_mut().zip(&right[k * stride..][..columns]) {
                        *sum = sum.wrapping_add(i32::from(code));
                    }
                }
            }
            (RightLayout::ColumnMajor, stride) => {
                for (column, sum) in bias.iter_mut().enumerate() {
                    *sum = right[column * stride..][..depth].iter().map(|code| i32::from(*code)).sum();
                }
            }
        }
        let zeros = depth as i32 * zero_b;
        bias.iter_mut().for_each(|sum| *sum = zero_a.wrapping_mul(zeros - *sum));
    }

    /// The sum of all weights of a column, those of further passes included.
    fn column_sum(&self, right: &[u8], column: usize) -> i32 {
        let depth = self.shape.depth;
        let codes = (0..depth).map(|k| i32::from(right[self.shape.right_element(k, column)]) - MIDDLE);
        let constants = self.constants.iter().map(|constant| i32::from(*constant)).sum::<i32>();
        codes.sum::<i32>() + constants * depth as i32
    }

    /// Writes the right codes less 128, and the constants of the other passes.
    fn pack(&self, right: &[u8], weights: &mut PackedWeights) {
        let depth = self.shape.depth;
        let groups = depth.div_ceil(K_GROUP);
        let (panels, bytes) = weights.panels_and_bytes();
        for panel in panels {
            let (kernel, bytes) = (panel.kernel, &mut bytes[panel.line * size_of::<Line>()..]);
            let columns = panel.first..panel.first + panel.channels;
            for (group, bytes) in bytes.chunks_exact_mut(kernel.group_bytes()).take(groups).enumerate() {
                let depths = group * K_GROUP..depth.min((group + 1) * K_GROUP);
                match kernel.form {
                    WeightForm::Bytes => self.pack_bytes(right, depths, columns.clone(), bytes),
                    WeightForm::BytePairs => self.pack_pairs(right, depths, columns.clone(), bytes),
                    WeightForm::EvenOddWords => self.pack_words(right, depths, columns.clone(), bytes),
                }
            }
            for (pass, &constant) in self.constants.iter().enumerate() {
                for (index, column) in (0..depth).flat_map(|index| (0..panel.channels).map(move |at| (index, at))) {
                    let group = (1 + pass) * groups + index / K_GROUP;
                    kernel.put_weight(bytes, (group, column, index % K_GROUP), constant);
                }
            }
        }
    }

    /// One group as `[column][4]` bytes.
    fn pack_bytes(&self, right: &[u8], depths: Range<usize>, columns: Range<usize>, to: &mut [u8]) {
        let to = to.as_chunks_mut::<K_GROUP>().0;
        match self.shape.right {
            (RightLayout::ColumnMajor, stride) => {
                for (to, column) in to.iter_mut().zip(columns) {
                    let from = &right[column * stride..][depths.clone()];
                    match <[u8; K_GROUP]>::try_from(from) {
                        Ok(four) => *to = four.map(centred),
                        Err(_) => to.iter_mut().zip(from).for_each(|(to, code)| *to = centred(*code)),
                    }
                }
            }
            (RightLayout::DepthMajor, stride) if depths.len() == K_GROUP => {
                let row = |slot: usize| &right[(depths.start + slot) * stride..][columns.clone()];
                let rows = row(0).iter().zip(row(1)).zip(row(2)).zip(row(3));
                for (to, (((&a, &b), &c), &d)) in to.iter_mut().zip(rows) {
                    *to = [a, b, c, d].map(centred);
                }
            }
            (RightLayout::DepthMajor, stride) => {
                for (slot, depth) in depths.enumerate() {
                    let row = &right[depth * stride..][columns.clone()];
                    to.iter_mut().zip(row).for_each(|(to, code)| to[slot] = centred(*code));
                }
            }
        }
    }

    /// One group as `[first, second][column][2]` bytes.
    fn pack_pairs(&self, right: &[u8], depths: Range<usize>, columns: Range<usize>, to: &mut [u8]) {
        let half = to.len() / 2;
        for (slot, depth) in depths.enumerate() {
            let first = slot / 2 * half + slot % 2;
            for (to, column) in to[first..].iter_mut().step_by(2).zip(columns.clone()) {
                *to = centred(right[self.shape.right_element(depth, column)]);
            }
        }
    }

    /// One group as `[even, odd][column][2]` words.
    fn pack_words(&self, right: &[u8], depths: Range<usize>, columns: Range<usize>, to: &mut [u8]) {
        let half = to.len() / 2;
        let words = to.as_chunks_mut::<2>().0;
        for (slot, depth) in depths.enumerate() {
            let first = slot % 2 * half / 2 + slot / 2;
            for (to, column) in words[first..].iter_mut().step_by(2).zip(columns.clone()) {
                let code = right[self.shape.right_element(depth, column)];
                *to = i16::from(centred(code) as i8).to_le_bytes();
            }
        }
    }
}

/// A code less 128, as the byte of an s8.
#[inline(always)]
fn centred(code: u8) -> u8 {
    code ^ 0x80
}
