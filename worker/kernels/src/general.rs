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

/// The extents of one product of two matrices of codes, `[rows, depth] × [depth, columns]`, all dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductExtents {
    /// Rows of the result.
    pub rows: usize,
    /// Products a sum.
    pub depth: usize,
    /// Columns of the result.
    pub columns: usize,
}

impl ProductExtents {
    /// Depth up to which a sum of products of centred codes fits 32 bits.
    pub const DEPTH_MAX: usize = i32::MAX as usize / (255 * 255);
}

/// Exact sums `Σ (a − zero_a)(b − zero_b)` of two matrices of codes that are both computed, handed out row by row.
///
/// # Panics
///
/// When a slice is too short, or the depth exceeds [`ProductExtents::DEPTH_MAX`].
pub fn product_codes(
    extents: ProductExtents,
    (a, zero_a): (&[u8], u8),
    (b, zero_b): (&[u8], u8),
    sums: &mut Vec<i32>,
    mut row_done: impl FnMut(usize, &[i32]),
) {
    let ProductExtents { rows, depth, columns } = extents;
    assert!(depth <= ProductExtents::DEPTH_MAX, "a sum of {depth} products does not fit 32 bits");
    sums.clear();
    sums.resize(columns, 0);
    if columns == 0 {
        return;
    }
    for row in 0..rows {
        sums.fill(0);
        for (&left, right) in a[row * depth..][..depth].iter().zip(b.chunks_exact(columns)) {
            let left = i32::from(left) - i32::from(zero_a);
            for (sum, &right) in sums.iter_mut().zip(right) {
                *sum += left * (i32::from(right) - i32::from(zero_b));
            }
        }
        row_done(row, sums);
    }
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
    fn a_product_of_codes_is_exact_at_its_extremes() {
        let depth = ProductExtents::DEPTH_MAX;
        let extents = ProductExtents { rows: 1, depth, columns: 2 };
        let (a, b) = (vec![255u8; depth], [255u8, 0].repeat(depth));
        let mut found = Vec::new();
        product_codes(extents, (&a, 0), (&b, 0), &mut Vec::new(), |_, sums| found.extend_from_slice(sums));
        assert_eq!(found, [255 * 255 * depth as i32, 0]);
        product_codes(extents, (&a, 0), (&b, 255), &mut Vec::new(), |_, sums| found = sums.to_vec());
        assert_eq!(found, [0, -255 * 255 * depth as i32]);
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
