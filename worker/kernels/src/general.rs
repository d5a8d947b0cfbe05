//! Kernels for whole row-major tensors of any element type: selection, comparison, conversion, integer arithmetic.
//!
//! They are plain loops that the compiler vectorises where it can; each is its own reference. Integers of every width
//! are held in 64 bits and truth values as 0 and 1.

/// A comparison of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
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
}

impl Comparison {
    /// Whether it holds; nothing holds of a NaN.
    #[inline(always)]
    pub fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
        match self {
            Comparison::Equal => a == b,
            Comparison::Less => a < b,
            Comparison::LessOrEqual => a <= b,
            Comparison::Greater => a > b,
            Comparison::GreaterOrEqual => a >= b,
        }
    }
}

/// `output[i] = 1 where the comparison holds of left[i] and right[i], else 0`, over the shortest slice.
pub fn compare<T: PartialOrd + Copy>(comparison: Comparison, left: &[T], right: &[T], output: &mut [i64]) {
    for ((to, &a), &b) in output.iter_mut().zip(left).zip(right) {
        *to = i64::from(comparison.holds(a, b));
    }
}

/// A function of two integers; what overflows wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntBinary {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a · b.
    Mul,
    /// a / b towards zero; 0 where b is 0.
    Div,
    /// The remainder with the sign of b; 0 where b is 0.
    Mod,
    /// The remainder with the sign of a; 0 where b is 0.
    Remainder,
    /// aᵇ; 0 where b is negative.
    Pow,
    /// The lesser.
    Min,
    /// The greater.
    Max,
    /// Bits in both.
    And,
    /// Bits in either.
    Or,
    /// Bits in exactly one.
    Xor,
}

impl IntBinary {
    /// The function of two values.
    #[inline(always)]
    pub fn evaluate(self, a: i64, b: i64) -> i64 {
        match self {
            IntBinary::Add => a.wrapping_add(b),
            IntBinary::Sub => a.wrapping_sub(b),
            IntBinary::Mul => a.wrapping_mul(b),
            IntBinary::Div => {
                if b == 0 {
                    0
                } else {
                    a.wrapping_div(b)
                }
            }
            IntBinary::Mod => {
                let rest = IntBinary::Remainder.evaluate(a, b);
                if rest != 0 && (rest < 0) != (b < 0) { rest.wrapping_add(b) } else { rest }
            }
            IntBinary::Remainder => {
                if b == 0 {
                    0
                } else {
                    a.wrapping_rem(b)
                }
            }
            IntBinary::Pow => u32::try_from(b).map_or(0, |b| a.wrapping_pow(b)),
            IntBinary::Min => a.min(b),
            IntBinary::Max => a.max(b),
            IntBinary::And => a & b,
            IntBinary::Or => a | b,
            IntBinary::Xor => a ^ b,
        }
    }
}

/// `output[i] = function(left[i], right[i])`, brought into `width`, over the shortest slice.
pub fn int_binary(function: IntBinary, width: IntWidth, left: &[i64], right: &[i64], output: &mut [i64]) {
    for ((to, &a), &b) in output.iter_mut().zip(left).zip(right) {
        *to = width.wrap(function.evaluate(a, b));
    }
}

/// The integer types of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntWidth {
    /// 64 bits.
    I64,
    /// 32 bits.
    I32,
    /// 8 bits, unsigned.
    U8,
    /// 8 bits.
    I8,
    /// 0 and 1.
    Bool,
}

impl IntWidth {
    /// The low bits of an integer; for truth values, whether any bit is set.
    #[inline(always)]
    pub fn wrap(self, value: i64) -> i64 {
        match self {
            IntWidth::I64 => value,
            IntWidth::I32 => i64::from(value as i32),
            IntWidth::U8 => i64::from(value as u8),
            IntWidth::I8 => i64::from(value as i8),
            IntWidth::Bool => i64::from(value != 0),
        }
    }

    /// A float without its fraction, the nearest limit where it is beyond the type; NaN gives 0 (truth values: 1).
    #[inline(always)]
    pub fn from_float(self, value: f32) -> i64 {
        match self {
            IntWidth::I64 => value as i64,
            IntWidth::I32 => i64::from(value as i32),
            IntWidth::U8 => i64::from(value as u8),
            IntWidth::I8 => i64::from(value as i8),
            IntWidth::Bool => i64::from(value != 0.0),
        }
    }
}

/// Where a selection by indices reads: `x` seen as `[outer, extent, inner]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Product of the extents before the axis.
    pub outer: usize,
    /// Extent of the axis.
    pub extent: usize,
    /// Product of the extents after the axis.
    pub inner: usize,
}

impl Selection {
    /// An index counted from the front, if it is one of the axis; negative ones count from the end.
    pub fn resolve(&self, index: i64) -> Option<usize> {
        let index = if index < 0 { index.checked_add(self.extent as i64)? } else { index };
        usize::try_from(index).ok().filter(|index| *index < self.extent)
    }
}

/// ONNX Gather: `output[o][k] = x[o][indices[k]]`, each of `inner` elements.
///
/// # Errors
///
/// The first index that is out of range; the output is then incomplete.
pub fn gather<T: Copy>(selection: &Selection, x: &[T], indices: &[i64], output: &mut [T]) -> Result<(), i64> {
    let Selection { outer, extent, inner } = *selection;
    if inner == 0 {
        return Ok(());
    }
    let mut rows = output.chunks_exact_mut(inner);
    for part in 0..outer {
        for &index in indices {
            let at = selection.resolve(index).ok_or(index)?;
            if let Some(row) = rows.next() {
                row.copy_from_slice(&x[(part * extent + at) * inner..][..inner]);
            }
        }
    }
    Ok(())
}

/// ONNX GatherElements: `output[i][j]… = x[…indices[i][j]……]` along an axis, all row-major.
///
/// # Errors
///
/// The first index that is out of range; the output is then incomplete.
pub fn gather_elements<T: Copy>(
    axis: usize,
    shape: &[usize],
    index_shape: &[usize],
    x: &[T],
    indices: &[i64],
    output: &mut [T],
) -> Result<(), i64> {
    let selection = Selection { outer: 1, extent: shape[axis], inner: 1 };
    let mut position = vec![0; index_shape.len()];
    for (to, &index) in output.iter_mut().zip(indices).take(index_shape.iter().product()) {
        let picked = selection.resolve(index).ok_or(index)?;
        let along = |at: usize| if at == axis { picked } else { position[at] };
        *to = x[(0..shape.len()).fold(0, |flat, at| flat * shape[at] + along(at))];
        for at in (0..position.len()).rev() {
            position[at] += 1;
            if position[at] < index_shape[at] {
                break;
            }
            position[at] = 0;
        }
    }
    Ok(())
}

/// Where ONNX GatherND reads: `x` as `batches` blocks of the extents that tuples index, each element `inner` long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TupleSelection {
    /// Blocks.
    pub batches: usize,
    /// Tuples a block.
    pub tuples: usize,
    /// Extents a tuple indexes.
    pub extents: Vec<usize>,
    /// Elements a tuple selects.
    pub inner: usize,
}

/// ONNX GatherND.
///
/// # Errors
///
/// The first index that is out of range and its extent; the output is then incomplete.
pub fn gather_tuples<T: Copy>(
    selection: &TupleSelection,
    x: &[T],
    indices: &[i64],
    output: &mut [T],
) -> Result<(), (i64, usize)> {
    let TupleSelection { batches, tuples, extents, inner } = selection;
    let block: usize = extents.iter().product::<usize>() * inner;
    for tuple in 0..batches * tuples {
        let mut at = 0;
        for (&index, &extent) in indices[tuple * extents.len()..].iter().zip(extents) {
            let axis = Selection { outer: 1, extent, inner: 1 };
            at = at * extent + axis.resolve(index).ok_or((index, extent))?;
        }
        let from = tuple / tuples * block + at * inner;
        output[tuple * inner..][..*inner].copy_from_slice(&x[from..from + inner]);
    }
    Ok(())
}

/// ONNX OneHot: `output[o][d][i] = values[1] where d is the index of (o, i), else values[0]`; what is out of range is
/// nowhere.
pub fn one_hot<T: Copy>([outer, depth, inner]: [usize; 3], indices: &[i64], values: [T; 2], output: &mut [T]) {
    let axis = Selection { outer: 1, extent: depth, inner: 1 };
    output[..outer * depth * inner].fill(values[0]);
    for part in 0..outer {
        for at in 0..inner {
            if let Some(hot) = axis.resolve(indices[part * inner + at]) {
                output[(part * depth + hot) * inner + at] = values[1];
            }
        }
    }
}

/// Codes of floats by slice: `x` is `outer` times one run of `inner` values a slice;
/// `code = clamp(round(x / scale) + zero_point, lo, hi)`, half to even.
pub fn quantize_slices(
    inner: usize,
    scales: &[f32],
    zero_points: &[i64],
    [lo, hi]: [i64; 2],
    x: &[f32],
    output: &mut [i64],
) {
    let runs = output.chunks_mut(inner.max(1)).zip(x.chunks(inner.max(1)));
    let params = scales.iter().zip(zero_points).cycle();
    for ((to, from), (&scale, &zero_point)) in runs.zip(params) {
        for (to, &value) in to.iter_mut().zip(from) {
            let code = (value / scale).round_ties_even() as i64;
            *to = code.saturating_add(zero_point).clamp(lo, hi);
        }
    }
}

/// Floats of codes by slice: `(code - zero_point) * scale`.
pub fn dequantize_slices(inner: usize, scales: &[f32], zero_points: &[i64], codes: &[i64], output: &mut [f32]) {
    let runs = output.chunks_mut(inner.max(1)).zip(codes.chunks(inner.max(1)));
    let params = scales.iter().zip(zero_points).cycle();
    for ((to, from), (&scale, &zero_point)) in runs.zip(params) {
        for (to, &code) in to.iter_mut().zip(from) {
            *to = (code - zero_point) as f32 * scale;
        }
    }
}

/// `output[i] = a[i] where condition[i] is not 0, else b[i]`, over the shortest slice.
pub fn choose<T: Copy>(condition: &[i64], a: &[T], b: &[T], output: &mut [T]) {
    for (((to, &condition), &a), &b) in output.iter_mut().zip(condition).zip(a).zip(b) {
        *to = if condition != 0 { a } else { b };
    }
}

/// Index of the first (or last) greatest (or least) value of a row; NaNs are passed over, 0 where there is no number.
pub fn arg_extreme(row: &[f32], least: bool, last: bool) -> usize {
    let better = |a: f32, b: f32| match (least, last) {
        (false, false) => a > b,
        (false, true) => a >= b,
        (true, false) => a < b,
        (true, true) => a <= b,
    };
    let mut found: Option<(usize, f32)> = None;
    for (index, &value) in row.iter().enumerate() {
        let improves = match found {
            None => !value.is_nan(),
            Some((_, best)) => better(value, best),
        };
        if improves {
            found = Some((index, value));
        }
    }
    found.map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_picked_from_either_end_and_a_wrong_index_is_named() {
        let selection = Selection { outer: 2, extent: 3, inner: 2 };
        let x: Vec<i32> = (0..12).collect();
        let mut output = [0; 8];
        assert_eq!(gather(&selection, &x, &[2, -3], &mut output), Ok(()));
        assert_eq!(output, [4, 5, 0, 1, 10, 11, 6, 7]);
        assert_eq!(gather(&selection, &x, &[0, 3], &mut output), Err(3));
        assert_eq!(gather(&selection, &x, &[-4, 0], &mut output), Err(-4));
        assert_eq!(gather(&selection, &x, &[i64::MIN, 0], &mut output), Err(i64::MIN));
    }

    #[test]
    fn remainders_follow_the_sign_their_definition_names() {
        let pairs = [(7, 3), (-7, 3), (7, -3), (-7, -3), (6, 3), (5, 0)];
        let of = |function: IntBinary| pairs.map(|(a, b)| function.evaluate(a, b));
        assert_eq!(of(IntBinary::Mod), [1, 2, -2, -1, 0, 0]);
        assert_eq!(of(IntBinary::Remainder), [1, -1, 1, -1, 0, 0]);
        assert_eq!(of(IntBinary::Div), [2, -2, -2, 2, 2, 0]);
    }

    #[test]
    fn the_first_or_last_extreme_is_found_and_nan_passed_over() {
        let row = [f32::NAN, 1.0, 3.0, -2.0, 3.0, -2.0];
        let of = |least, last| arg_extreme(&row, least, last);
        assert_eq!([of(false, false), of(false, true), of(true, false), of(true, true)], [2, 4, 3, 5]);
        assert_eq!(arg_extreme(&[f32::NAN], false, false), 0);
    }

    #[test]
    fn floats_become_integers_as_far_as_the_type_reaches() {
        assert_eq!(IntWidth::I8.from_float(-1e9), -128);
        assert_eq!(IntWidth::U8.from_float(3.99), 3);
        assert_eq!(IntWidth::Bool.from_float(-0.5), 1);
        assert_eq!(IntWidth::I64.from_float(f32::NAN), 0);
        assert_eq!(IntWidth::I32.wrap(1 << 32 | 5), 5);
    }
}
