//! Depthwise convolution with VNNI: bytes of four taps are interleaved so that every 32-bit lane holds one channel's
//! four taps, which is what a dot-product step consumes.
//!
//! Interleaving goes by 128-bit lanes, so accumulator `j` holds in its lane `l` the channels `16 l + 4 j ..`. Packing
//! i32 to bytes interleaves the same way back: codes come out in channel order without a permutation.

use std::arch::x86_64::*;

use super::super::super::epilogue::Codes;
use super::super::super::pack::Line;
use super::super::{
    DepthwiseKernel, DepthwiseRows, DepthwiseRowsU8, DepthwiseShape, DepthwiseWindow, PanelParams, Scratch,
};
use super::{GEMM_2, GEMM_4};

pub(super) static WIDE_64: DepthwiseKernel = DepthwiseKernel {
    name: "depthwise_u8s8s32_4x64_avx512vnni",
    width: 64,
    slots: 4,
    wide: false,
    interleaved: true,
    input_offset: 0,
    accumulate: [accumulate::<__m512i, 1>, accumulate::<__m512i, 2>, accumulate::<__m512i, 4>],
    stores: &GEMM_4.stores,
    rows_u8: Some(rows_for::<__m512i>),
};

pub(super) static WIDE_32: DepthwiseKernel = DepthwiseKernel {
    name: "depthwise_u8s8s32_4x32_avx512vnni",
    width: 32,
    slots: 4,
    wide: false,
    interleaved: true,
    input_offset: 0,
    accumulate: [accumulate::<__m256i, 1>, accumulate::<__m256i, 2>, accumulate::<__m256i, 4>],
    stores: &GEMM_2.stores,
    rows_u8: Some(rows_for::<__m256i>),
};

/// The row function for a shape.
fn rows_for<V: Vector>(shape: DepthwiseShape) -> DepthwiseRowsU8 {
    match shape {
        DepthwiseShape { kernel_h: 3, groups: 1, outputs_index: 1 } => pairs_of_three::<V>,
        DepthwiseShape { kernel_h: 1, groups: 3, outputs_index: 0 } => nine_taps::<V>,
        DepthwiseShape { outputs_index: 0, .. } => rows::<V, 1>,
        DepthwiseShape { outputs_index: 1, .. } => rows::<V, 2>,
        DepthwiseShape { .. } => rows::<V, 4>,
    }
}

/// The steps of the algorithm, for vectors of 64 and of 32 bytes.
///
/// # Safety
/// Every method needs AVX-512 F, BW, VL, DQ and VNNI; those with pointers read or write one vector there, `sums` and
/// `load_weights` an aligned one, `store` only its first `channels` bytes.
trait Vector: Copy {
    const BYTES: usize;
    unsafe fn load(from: *const u8) -> Self;
    unsafe fn aligned(from: *const u8) -> Self;
    unsafe fn interleave(p: [Self; 4]) -> [Self; 4];
    unsafe fn multiply_add(sums: Self, bytes: Self, weights: Self) -> Self;
    unsafe fn convert(sums: Self, multiplier: *const f32) -> Self;
    unsafe fn pack(v: [Self; 4], codes: &Codes) -> Self;
    unsafe fn store(self, to: *mut u8, channels: usize);
    unsafe fn lanes_apart(self, to: *mut i32);
}

impl Vector for __m512i {
    const BYTES: usize = 64;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn aligned(from: *const u8) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_load_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn interleave([p0, p1, p2, p3]: [Self; 4]) -> [Self; 4] {
        // SAFETY: the trait's contract.
        unsafe {
            let (low01, high01) = (_mm512_unpacklo_epi8(p0, p1), _mm512_unpackhi_epi8(p0, p1));
            let (low23, high23) = (_mm512_unpacklo_epi8(p2, p3), _mm512_unpackhi_epi8(p2, p3));
            [
                _mm512_unpacklo_epi16(low01, low23),
                _mm512_unpackhi_epi16(low01, low23),
                _mm512_unpacklo_epi16(high01, high23),
                _mm512_unpackhi_epi16(high01, high23),
            ]
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: Self, bytes: Self, weights: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_dpbusd_epi32(sums, bytes, weights) }
    }

    #[inline(always)]
    unsafe fn convert(sums: Self, multiplier: *const f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_load_ps(multiplier))) }
    }

    #[inline(always)]
    unsafe fn pack(v: [Self; 4], codes: &Codes) -> Self {
        // SAFETY: the trait's contract.
        unsafe { super::pack_interleaved(v, codes) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8, channels: usize) {
        // SAFETY: the trait's contract; the mask stops at `channels`.
        unsafe {
            if channels == 64 {
                _mm512_storeu_si512(to.cast(), self);
            } else {
                _mm512_mask_storeu_epi8(to.cast(), u64::MAX >> (64 - channels), self);
            }
        }
    }

    #[inline(always)]
    unsafe fn lanes_apart(self, to: *mut i32) {
        // SAFETY: the trait's contract.
        unsafe {
            _mm_storeu_si128(to.cast(), _mm512_castsi512_si128(self));
            _mm_storeu_si128(to.add(16).cast(), _mm512_extracti32x4_epi32::<1>(self));
            _mm_storeu_si128(to.add(32).cast(), _mm512_extracti32x4_epi32::<2>(self));
            _mm_storeu_si128(to.add(48).cast(), _mm512_extracti32x4_epi32::<3>(self));
        }
    }
}

impl Vector for __m256i {
    const BYTES: usize = 32;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn aligned(from: *const u8) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_load_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn interleave([p0, p1, p2, p3]: [Self; 4]) -> [Self; 4] {
        // SAFETY: the trait's contract.
        unsafe {
            let (low01, high01) = (_mm256_unpacklo_epi8(p0, p1), _mm256_unpackhi_epi8(p0, p1));
            let (low23, high23) = (_mm256_unpacklo_epi8(p2, p3), _mm256_unpackhi_epi8(p2, p3));
            [
                _mm256_unpacklo_epi16(low01, low23),
                _mm256_unpackhi_epi16(low01, low23),
                _mm256_unpacklo_epi16(high01, high23),
                _mm256_unpackhi_epi16(high01, high23),
            ]
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: Self, bytes: Self, weights: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_dpbusd_epi32(sums, bytes, weights) }
    }

    #[inline(always)]
    unsafe fn convert(sums: Self, multiplier: *const f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_load_ps(multiplier))) }
    }

    #[inline(always)]
    unsafe fn pack(v: [Self; 4], codes: &Codes) -> Self {
        // SAFETY: the trait's contract. Saturation is the lower half of the clamp, as in `pack_interleaved`.
        unsafe {
            let zero_point = _mm256_set1_epi16(i16::from(codes.zero_point));
            let low = _mm256_adds_epi16(_mm256_packs_epi32(v[0], v[1]), zero_point);
            let high = _mm256_adds_epi16(_mm256_packs_epi32(v[2], v[3]), zero_point);
            let bytes = _mm256_min_epu8(_mm256_packus_epi16(low, high), _mm256_set1_epi8(codes.hi as i8));
            _mm256_max_epu8(bytes, _mm256_set1_epi8(codes.lo as i8))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8, channels: usize) {
        // SAFETY: the trait's contract; the mask stops at `channels`.
        unsafe {
            if channels == 32 {
                _mm256_storeu_si256(to.cast(), self);
            } else if channels == 16 {
                _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(self));
            } else {
                _mm256_mask_storeu_epi8(to.cast(), u32::MAX >> (32 - channels), self);
            }
        }
    }

    #[inline(always)]
    unsafe fn lanes_apart(self, to: *mut i32) {
        // SAFETY: the trait's contract.
        unsafe {
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(self));
            _mm_storeu_si128(to.add(16).cast(), _mm256_extracti128_si256::<1>(self));
        }
    }
}

/// The four biases' vectors of a panel.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn biases<V: Vector>(params: &PanelParams) -> [V; 4] {
    let bias: *const u8 = params.bias.as_ptr().cast();
    // SAFETY: `PanelParams` holds four vectors of either width, aligned to the wider one.
    unsafe { four_aligned(bias) }
}

/// Four vectors in a row.
///
/// Spelled out, as all arrays of vectors here: what goes through a closure of the standard library is compiled without
/// the instruction set whenever the compiler decides not to inline it.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn four_aligned<V: Vector>(from: *const u8) -> [V; 4] {
    // SAFETY: passed on from the caller.
    unsafe {
        [
            V::aligned(from),
            V::aligned(from.add(V::BYTES)),
            V::aligned(from.add(2 * V::BYTES)),
            V::aligned(from.add(3 * V::BYTES)),
        ]
    }
}

/// Interleaves four columns of a row.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn quads_at<V: Vector>(row: *const u8, columns: &[usize; 4]) -> [V; 4] {
    // SAFETY: passed on from the caller.
    unsafe {
        V::interleave([
            V::load(row.add(columns[0])),
            V::load(row.add(columns[1])),
            V::load(row.add(columns[2])),
            V::load(row.add(columns[3])),
        ])
    }
}

/// Sums of one output, as codes less the zero point, packed and stored.
///
/// # Safety
/// As [`Vector`]; `to` takes `channels` bytes.
#[inline(always)]
unsafe fn finish<V: Vector>(sums: [V; 4], params: &PanelParams, codes: &Codes, to: *mut u8, channels: usize) {
    let multiplier = params.multiplier.as_ptr();
    // SAFETY: `PanelParams` holds four vectors of multipliers.
    unsafe {
        let lanes = V::BYTES / 4;
        let v = [
            V::convert(sums[0], multiplier),
            V::convert(sums[1], multiplier.add(lanes)),
            V::convert(sums[2], multiplier.add(2 * lanes)),
            V::convert(sums[3], multiplier.add(3 * lanes)),
        ];
        V::pack(v, codes).store(to, channels);
    }
}

/// `P` neighbouring outputs of one panel into scratch, channels in order.
///
/// # Safety
/// As [`DepthwiseAccumulate`](super::super::DepthwiseAccumulate).
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn accumulate<V: Vector, const P: usize>(
    window: &DepthwiseWindow<'_>,
    weights: *const Line,
    params: &PanelParams,
    scratch: &mut Scratch,
) {
    // SAFETY: the caller vouches for the instruction set, the window's bytes and the weights.
    unsafe {
        let sums =
            window_sums::<V, P>(window.input, window.row_step, window.kernel_h, window.columns, weights.cast(), params);
        for (output, sums) in sums.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                sum.lanes_apart(scratch.0.as_mut_ptr().add(output * V::BYTES + j * 4));
            }
        }
    }
}

/// The sums of `P` neighbouring outputs, in accumulator order.
///
/// # Safety
/// As [`DepthwiseAccumulate`](super::super::DepthwiseAccumulate).
#[inline(always)]
unsafe fn window_sums<V: Vector, const P: usize>(
    input: *const u8,
    row_step: usize,
    kernel_h: usize,
    columns: &[usize],
    mut weights: *const u8,
    params: &PanelParams,
) -> [[V; 4]; P] {
    // SAFETY: the caller vouches for the window's bytes and the weights.
    unsafe {
        let mut sums = [biases::<V>(params); P];
        let mut row = input;
        for _ in 0..kernel_h {
            for columns in columns.as_chunks::<4>().0 {
                let quads = quads_at::<V>(row, columns);
                for output in &mut sums {
                    for (sum, quad) in output.iter_mut().zip(quads) {
                        *sum = V::multiply_add(*sum, quad, V::aligned(weights));
                        weights = weights.add(V::BYTES);
                    }
                }
            }
            row = row.wrapping_add(row_step);
        }
        sums
    }
}

/// Any window: `P` outputs at a time; the last step of a row may repeat outputs of the one before.
///
/// # Safety
/// As [`DepthwiseRowsU8`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn rows<V: Vector, const P: usize>(
    span: &DepthwiseRows<'_>,
    weights: *const Line,
    params: &PanelParams,
    codes: &Codes,
) {
    for y in 0..span.rows {
        let mut x = 0;
        while x < span.width {
            let at = x.min(span.width - P);
            // SAFETY: the caller vouches for the pointers; `at + P` outputs lie within the row.
            unsafe {
                let input = span.input.add(y * span.input_row_step + at * span.input_step);
                let sums =
                    window_sums::<V, P>(input, span.row_step, span.kernel_h, span.columns, weights.cast(), params);
                for (output, sums) in sums.into_iter().enumerate() {
                    let to = span.output.add(y * span.output_row_step + (at + output) * span.output_step);
                    finish(sums, params, codes, to, span.channels);
                }
            }
            x += P;
        }
    }
}

/// Windows of nine taps that share nothing with their neighbours (3x3 of stride 2): the weights stay in registers.
///
/// # Safety
/// As [`DepthwiseRowsU8`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn nine_taps<V: Vector>(span: &DepthwiseRows<'_>, weights: *const Line, params: &PanelParams, codes: &Codes) {
    // SAFETY: the caller vouches for the pointers; three groups of four vectors of weights are packed.
    unsafe {
        let weights: *const u8 = weights.cast();
        let weights: [[V; 4]; 3] =
            [four_aligned(weights), four_aligned(weights.add(4 * V::BYTES)), four_aligned(weights.add(8 * V::BYTES))];
        let Some(&columns) = span.columns.first_chunk::<12>() else { return };
        let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3] = columns;
        let columns = [[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3]];
        for y in 0..span.rows {
            let mut input = span.input.add(y * span.input_row_step);
            let mut output = span.output.add(y * span.output_row_step);
            for _ in 0..span.width {
                let mut sums = biases::<V>(params);
                for (columns, weights) in columns.iter().zip(&weights) {
                    let quads = quads_at::<V>(input, columns);
                    for ((sum, quad), &weights) in sums.iter_mut().zip(quads).zip(weights) {
                        *sum = V::multiply_add(*sum, quad, weights);
                    }
                }
                finish(sums, params, codes, output, span.channels);
                input = input.wrapping_add(span.input_step);
                output = output.wrapping_add(span.output_step);
            }
        }
    }
}

/// 3x3 windows of stride 1: two outputs side by side and, where there are two rows, two below each other, from one
/// interleaving of the input.
///
/// # Safety
/// As [`DepthwiseRowsU8`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn pairs_of_three<V: Vector>(
    span: &DepthwiseRows<'_>,
    weights: *const Line,
    params: &PanelParams,
    codes: &Codes,
) {
    // The lower output's window is the upper one's a filter row further down only if strides say so.
    let two_rows = span.input_row_step == span.row_step;
    let mut y = 0;
    while two_rows && y + 2 <= span.rows {
        // SAFETY: passed on from the caller; rows `y` and `y + 1` exist.
        unsafe { pairs_in_rows::<V, 2, 4>(span, y, weights.cast(), params, codes) };
        y += 2;
    }
    while y < span.rows {
        // SAFETY: passed on from the caller; row `y` exists.
        unsafe { pairs_in_rows::<V, 1, 3>(span, y, weights.cast(), params, codes) };
        y += 1;
    }
}

/// `R` output rows from `S = R + 2` input rows.
///
/// # Safety
/// As [`DepthwiseRowsU8`]; rows `y .. y + R` exist.
#[inline(always)]
unsafe fn pairs_in_rows<V: Vector, const R: usize, const S: usize>(
    span: &DepthwiseRows<'_>,
    y: usize,
    weights: *const u8,
    params: &PanelParams,
    codes: &Codes,
) {
    let Some(&columns) = span.columns.first_chunk::<4>() else { return };
    let bias: *const u8 = params.bias.as_ptr().cast();
    let multiplier = params.multiplier.as_ptr();
    let mut x = 0;
    while x < span.width {
        let at = x.min(span.width - 2);
        // SAFETY: the caller vouches for the pointers; outputs `at` and `at + 1` lie within the row.
        unsafe {
            let input = span.input.add(y * span.input_row_step + at * span.input_step);
            let mut quads = [quads_at::<V>(input, &columns); S];
            for (row, quads) in quads.iter_mut().enumerate().skip(1) {
                *quads = quads_at::<V>(input.add(row * span.row_step), &columns);
            }
            let mut values = [[[quads[0][0]; 4]; 2]; R];
            for j in 0..4 {
                let mut sums = [[V::aligned(bias.add(j * V::BYTES)); 2]; R];
                for ky in 0..3 {
                    for output in 0..2 {
                        let weights = V::aligned(weights.add(((ky * 2 + output) * 4 + j) * V::BYTES));
                        for (r, sums) in sums.iter_mut().enumerate() {
                            sums[output] = V::multiply_add(sums[output], quads[r + ky][j], weights);
                        }
                    }
                }
                for (values, sums) in values.iter_mut().zip(sums) {
                    for (values, sum) in values.iter_mut().zip(sums) {
                        values[j] = V::convert(sum, multiplier.add(j * V::BYTES / 4));
                    }
                }
            }
            for (r, values) in values.into_iter().enumerate() {
                for (output, values) in values.into_iter().enumerate() {
                    let to = span.output.add((y + r) * span.output_row_step + (at + output) * span.output_step);
                    V::pack(values, codes).store(to, span.channels);
                }
            }
        }
        x += 2;
    }
}
