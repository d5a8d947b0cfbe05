//! Reductions along a contiguous run in one fixed order, and the row functions built on them.
//!
//! Every sum keeps sixteen partial results, element `i` in partial `i mod 16`, and folds them by one tree: the upper
//! half is added onto the lower half until one is left. The order does not depend on the instruction set.

// Registers are indexed by tile position: an iterator would hide that every array is walked in step.
#![allow(clippy::needless_range_loop)]

use crate::Isa;
use crate::float::dispatch::per_isa;
use crate::float::math;
use crate::float::vector::per_register;

/// Partial results of every reduction.
pub const PARTIALS: usize = 16;
/// The most registers that hold the partial results: sixteen lanes in registers of eight.
const REGISTERS_MAX: usize = 2;

/// Adds the values of a run.
pub fn sum(isa: Isa, values: &[f32]) -> f32 {
    let mut partials = [0.0; PARTIALS];
    // SAFETY: the slices are whole; the instruction set is `per_register`'s to prove.
    let done = unsafe { sum_blocks(isa, values, &mut partials) };
    for (partial, &value) in partials.iter_mut().zip(&values[done..]) {
        *partial += value;
    }
    fold(partials, |low, high| low + high)
}

/// The sum divided by the count; NaN for an empty run.
pub fn mean(isa: Isa, values: &[f32]) -> f32 {
    sum(isa, values) / values.len() as f32
}

/// Adds the squares, each by one fused multiply-add.
pub fn sum_of_squares(isa: Isa, values: &[f32]) -> f32 {
    dot(isa, values, values)
}

/// Adds the products `left[i] * right[i]`, each by one fused multiply-add.
///
/// # Panics
///
/// If the lengths differ.
pub fn dot(isa: Isa, left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len(), "operands of unequal length");
    let mut partials = [0.0; PARTIALS];
    // SAFETY: the slices are of one length; the instruction set is `per_register`'s to prove.
    let done = unsafe { dot_blocks(isa, left, right, &mut partials) };
    for (partial, (&a, &b)) in partials.iter_mut().zip(left[done..].iter().zip(&right[done..])) {
        *partial = a.mul_add(b, *partial);
    }
    fold(partials, |low, high| low + high)
}

/// The greatest value, NaNs passed over: each partial is `if x > partial { x } else { partial }` from negative infinity.
pub fn max(isa: Isa, values: &[f32]) -> f32 {
    min_max(isa, values).1
}

/// The least value, NaNs passed over: each partial is `if x < partial { x } else { partial }` from infinity.
pub fn min(isa: Isa, values: &[f32]) -> f32 {
    min_max(isa, values).0
}

/// [`min`] and [`max`] in one pass; `(inf, -inf)` when there is no number.
pub fn min_max(isa: Isa, values: &[f32]) -> (f32, f32) {
    let (mut lows, mut highs) = ([f32::INFINITY; PARTIALS], [f32::NEG_INFINITY; PARTIALS]);
    // SAFETY: the slices are whole; the instruction set is `per_register`'s to prove.
    let done = unsafe { min_max_blocks(isa, values, &mut lows, &mut highs) };
    for ((low, high), &value) in lows.iter_mut().zip(&mut highs).zip(&values[done..]) {
        *low = lesser(value, *low);
        *high = greater(value, *high);
    }
    (fold(lows, |low, high| lesser(high, low)), fold(highs, |low, high| greater(high, low)))
}

/// `if a > b { a } else { b }`.
#[inline(always)]
pub(super) fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `if a < b { a } else { b }`.
#[inline(always)]
pub(super) fn lesser(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The tree: the upper half of the partials is combined onto the lower half until one is left.
#[inline(always)]
pub(super) fn fold(mut partials: [f32; PARTIALS], combine: impl Fn(f32, f32) -> f32) -> f32 {
    // Spelled out, so that each halving compiles to one vector operation.
    for i in 0..8 {
        partials[i] = combine(partials[i], partials[i + 8]);
    }
    for i in 0..4 {
        partials[i] = combine(partials[i], partials[i + 4]);
    }
    for i in 0..2 {
        partials[i] = combine(partials[i], partials[i + 2]);
    }
    combine(partials[0], partials[1])
}

per_register! {
    /// Sums whole blocks of sixteen into the partials; returns the elements done.
    unsafe fn sum_blocks<V>(values: &[f32], partials: &mut [f32; PARTIALS]) -> usize {
        let registers = PARTIALS / V::LANES;
        // SAFETY: reads stay within whole blocks of `values`; the partials are sixteen.
        unsafe {
            let mut sums = [V::zero(); REGISTERS_MAX];
            for block in values.chunks_exact(PARTIALS) {
                for register in 0..registers {
                    sums[register] = sums[register].add(V::load(block.as_ptr().add(register * V::LANES)));
                }
            }
            for register in 0..registers {
                sums[register].store(partials.as_mut_ptr().add(register * V::LANES));
            }
        }
        values.len() / PARTIALS * PARTIALS
    }

    /// [`softmax_rows`] in one function, because rows are often so short that calls count.
    unsafe fn softmax_body<V>(row_len: usize, input: &[f32], output: &mut [f32]) {
        let registers = PARTIALS / V::LANES;
        for (from, to) in input.chunks_exact(row_len).zip(output.chunks_exact_mut(row_len)) {
            // SAFETY: reads stay within whole blocks of a row; the partials are sixteen.
            unsafe {
                let mut high = [V::splat(f32::NEG_INFINITY); REGISTERS_MAX];
                let blocks = from.chunks_exact(PARTIALS);
                let rest = blocks.remainder();
                for block in blocks {
                    for register in 0..registers {
                        high[register] = V::load(block.as_ptr().add(register * V::LANES)).greater(high[register]);
                    }
                }
                let mut highs = [0.0; PARTIALS];
                for register in 0..registers {
                    high[register].store(highs.as_mut_ptr().add(register * V::LANES));
                }
                for (high, &value) in highs.iter_mut().zip(rest) {
                    *high = greater(value, *high);
                }
                let greatest = fold(highs, |low, high| greater(high, low));
                for (to, &x) in to.iter_mut().zip(from) {
                    *to = math::exp(x - greatest);
                }
                let mut sums = [V::zero(); REGISTERS_MAX];
                let blocks = to.chunks_exact(PARTIALS);
                let rest = blocks.remainder();
                for block in blocks {
                    for register in 0..registers {
                        sums[register] = sums[register].add(V::load(block.as_ptr().add(register * V::LANES)));
                    }
                }
                let mut partials = [0.0; PARTIALS];
                for register in 0..registers {
                    sums[register].store(partials.as_mut_ptr().add(register * V::LANES));
                }
                for (partial, &value) in partials.iter_mut().zip(rest) {
                    *partial += value;
                }
                let factor = 1.0 / fold(partials, |low, high| low + high);
                for x in to {
                    *x *= factor;
                }
            }
        }
    }

    /// Sums the products of whole blocks of sixteen into the partials; returns the elements done.
    unsafe fn dot_blocks<V>(left: &[f32], right: &[f32], partials: &mut [f32; PARTIALS]) -> usize {
        let registers = PARTIALS / V::LANES;
        // SAFETY: reads stay within whole blocks of both slices; the partials are sixteen.
        unsafe {
            let mut sums = [V::zero(); REGISTERS_MAX];
            for (a, b) in left.chunks_exact(PARTIALS).zip(right.chunks_exact(PARTIALS)) {
                for register in 0..registers {
                    let at = register * V::LANES;
                    sums[register] =
                        V::load(a.as_ptr().add(at)).mul_add(V::load(b.as_ptr().add(at)), sums[register]);
                }
            }
            for register in 0..registers {
                sums[register].store(partials.as_mut_ptr().add(register * V::LANES));
            }
        }
        left.len() / PARTIALS * PARTIALS
    }

    /// Extremes of whole blocks of sixteen; returns the elements done.
    unsafe fn min_max_blocks<V>(values: &[f32], lows: &mut [f32; PARTIALS], highs: &mut [f32; PARTIALS]) -> usize {
        let registers = PARTIALS / V::LANES;
        // SAFETY: reads stay within whole blocks of `values`; the partials are sixteen.
        unsafe {
            let mut low = [V::splat(f32::INFINITY); REGISTERS_MAX];
            let mut high = [V::splat(f32::NEG_INFINITY); REGISTERS_MAX];
            for block in values.chunks_exact(PARTIALS) {
                for register in 0..registers {
                    let value = V::load(block.as_ptr().add(register * V::LANES));
                    low[register] = value.less(low[register]);
                    high[register] = value.greater(high[register]);
                }
            }
            for register in 0..registers {
                low[register].store(lows.as_mut_ptr().add(register * V::LANES));
                high[register].store(highs.as_mut_ptr().add(register * V::LANES));
            }
        }
        values.len() / PARTIALS * PARTIALS
    }
}

/// Softmax of each row of `row_len` values: `e = exp(x - max)`, `y = e * (1 / sum of e)`.
///
/// The sum is [`sum`]'s. A row without a finite maximum, or with a NaN, becomes NaN.
///
/// # Panics
///
/// If the lengths differ or are not whole rows.
pub fn softmax_rows(isa: Isa, row_len: usize, input: &[f32], output: &mut [f32]) {
    check_rows(row_len, input, output);
    if row_len == 0 {
        return;
    }
    // SAFETY: the slices are whole; the instruction set is `per_register`'s to prove.
    unsafe { softmax_body(isa, row_len, input, output) };
}

/// Log-softmax of each row of `row_len` values: `y = (x - max) - log(sum of exp(x - max))`.
///
/// # Panics
///
/// If the lengths differ or are not whole rows.
pub fn log_softmax_rows(isa: Isa, row_len: usize, input: &[f32], output: &mut [f32]) {
    check_rows(row_len, input, output);
    if row_len == 0 {
        return;
    }
    for (from, to) in input.chunks_exact(row_len).zip(output.chunks_exact_mut(row_len)) {
        let greatest = max(isa, from);
        exponentials(isa, greatest, from, to);
        let log_sum = math::log(sum(isa, to));
        subtract_twice(isa, greatest, log_sum, from, to);
    }
}

/// Layer normalisation of each row: `d = x - mean; y = fma(d * r, gamma, beta)` with
/// `r = 1 / sqrt(sum of d^2 / n + epsilon)`, both sums as [`sum`] and [`sum_of_squares`] make them.
///
/// `gamma` and `beta` hold one value a column; their length is the row's.
///
/// # Panics
///
/// If the lengths do not fit.
pub fn layer_norm_rows(isa: Isa, gamma: &[f32], beta: &[f32], epsilon: f32, input: &[f32], output: &mut [f32]) {
    let row_len = gamma.len();
    assert_eq!(beta.len(), row_len, "gamma and beta hold one value a column");
    check_rows(row_len, input, output);
    if row_len == 0 {
        return;
    }
    for (from, to) in input.chunks_exact(row_len).zip(output.chunks_exact_mut(row_len)) {
        subtract(isa, mean(isa, from), from, to);
        let variance = sum_of_squares(isa, to) / row_len as f32;
        let factor = 1.0 / (variance + epsilon).sqrt();
        scale_and_shift(isa, factor, gamma, beta, to);
    }
}

fn check_rows(row_len: usize, input: &[f32], output: &[f32]) {
    assert_eq!(input.len(), output.len(), "a row function's output has as many elements as its input");
    assert!(
        input.is_empty() || (row_len > 0 && input.len().is_multiple_of(row_len)),
        "{} elements are not whole rows of {row_len}",
        input.len()
    );
}

per_isa! {
    fn exponentials(shift: f32, input: &[f32], output: &mut [f32]) {
        for (to, &x) in output.iter_mut().zip(input) {
            *to = math::exp(x - shift);
        }
    }

    fn subtract(shift: f32, input: &[f32], output: &mut [f32]) {
        for (to, &x) in output.iter_mut().zip(input) {
            *to = x - shift;
        }
    }

    fn subtract_twice(first: f32, second: f32, input: &[f32], output: &mut [f32]) {
        for (to, &x) in output.iter_mut().zip(input) {
            *to = (x - first) - second;
        }
    }

    fn scale_and_shift(factor: f32, gamma: &[f32], beta: &[f32], data: &mut [f32]) {
        for ((x, &gamma), &beta) in data.iter_mut().zip(gamma).zip(beta) {
            *x = (*x * factor).mul_add(gamma, beta);
        }
    }
}
