//! AVX2: exact 16-bit multiplies of widened bytes; the saturating byte multiply is never used.

use std::arch::x86_64::*;

use super::super::elements::element_kernels_for;
use super::super::epilogue::{AddU8, Codes};
use super::super::pack::Line;
use super::{
    Depth, DepthwiseKernel, DepthwiseRows, DepthwiseRowsU8, DepthwiseShape, DepthwiseWindow, GemmKernel, Int8Kernel,
    PanelParams, Scratch, Span, Spans, Stores, Tile, WeightForm, entry,
};
use crate::Isa;
use crate::registry::{Family, KernelEntry};

const LANES: usize = 8;

element_kernels_for!("avx2,fma", "elements_u8_avx2");

pub(super) static KERNELS: &[KernelEntry] = &[
    entry(Family::GemmU8S8, Isa::Avx2, GEMM_1.name, Int8Kernel::Gemm(&GEMM_1)),
    entry(Family::GemmU8S8, Isa::Avx2, GEMM_2.name, Int8Kernel::Gemm(&GEMM_2)),
    entry(Family::DepthwiseU8S8, Isa::Avx2, DEPTHWISE.name, Int8Kernel::Depthwise(&DEPTHWISE)),
    entry(Family::ElementsU8, Isa::Avx2, ELEMENTS.name, Int8Kernel::Elements(&ELEMENTS)),
];

static GEMM_2: GemmKernel = GemmKernel {
    name: "gemm_u8s8s32_4x16_avx2",
    lanes: LANES,
    vectors: 2,
    form: WeightForm::EvenOddWords,
    input_offset: 0,
    accumulate: &[accumulate::<1, 2>, accumulate::<2, 2>, accumulate::<3, 2>, accumulate::<4, 2>],
    spans: Some(Spans {
        // With four rows an accumulator would live on the stack.
        u8: &[span::<1, 2>, span::<2, 2>, span::<3, 2>],
        add: &[],
        f32: &[],
        shallow_rows: 3,
        groups_max: 16,
    }),
    stores: stores::<2>(),
};

static GEMM_1: GemmKernel = GemmKernel {
    name: "gemm_u8s8s32_4x8_avx2",
    lanes: LANES,
    vectors: 1,
    form: WeightForm::EvenOddWords,
    input_offset: 0,
    accumulate: &[accumulate::<1, 1>, accumulate::<2, 1>, accumulate::<3, 1>, accumulate::<4, 1>],
    spans: Some(Spans {
        u8: &[span::<1, 1>, span::<2, 1>, span::<3, 1>, span::<4, 1>],
        add: &[],
        f32: &[],
        shallow_rows: 4,
        groups_max: 16,
    }),
    stores: stores::<1>(),
};

const fn stores<const NV: usize>() -> Stores {
    Stores { u8: store_u8::<NV>, u8_proven: store_u8::<NV>, add: store_add::<NV>, f32: store_f32::<NV> }
}

static DEPTHWISE: DepthwiseKernel = DepthwiseKernel {
    name: "depthwise_u8s8s32_4x16_avx2",
    width: 16,
    slots: 2,
    wide: true,
    interleaved: false,
    input_offset: 0,
    accumulate: [depthwise::<1>, depthwise::<2>, depthwise::<4>],
    stores: &GEMM_2.stores,
    rows_u8: Some(rows_for),
};

/// The sums of `MR` pixels at a constant distance or at the given addresses, and `NV` vectors of 8 channels.
///
/// Of the four bytes of a group, the even and the odd ones become two pairs of 16-bit numbers without any shuffle: a
/// mask and a shift. The weights are packed to meet them.
///
/// # Safety
/// As [`Accumulate`](super::Accumulate), with `pixels` in place of the tile's inputs.
#[inline(always)]
unsafe fn sums_of<const MR: usize, const NV: usize>(
    pixels: [*const u8; MR],
    depth: Depth<'_>,
    weights: *const Line,
    params: &PanelParams,
) -> [[__m256i; NV]; MR] {
    // SAFETY: the caller vouches for the instruction set, the input bytes and the weights; the bias is as long as the
    // widest panel.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); NV]; MR];
        for row in &mut sums {
            for (v, sum) in row.iter_mut().enumerate() {
                *sum = _mm256_load_si256(params.bias.as_ptr().add(v * LANES).cast());
            }
        }
        let even_bytes = _mm256_set1_epi16(0xff);
        let mut weights: *const __m256i = weights.cast();
        for &run in depth.runs {
            let mut rows = pixels;
            for row in &mut rows {
                *row = row.add(run);
            }
            for group in 0..depth.groups {
                let mut columns = [[_mm256_setzero_si256(); NV]; 2];
                for (half, column) in columns.iter_mut().enumerate() {
                    for (v, column) in column.iter_mut().enumerate() {
                        *column = _mm256_load_si256(weights.add(half * NV + v));
                    }
                }
                weights = weights.add(2 * NV);
                for r in 0..MR {
                    let bytes = _mm256_set1_epi32(rows[r].add(group * 4).cast::<i32>().read_unaligned());
                    let even = _mm256_and_si256(bytes, even_bytes);
                    let odd = _mm256_srli_epi16::<8>(bytes);
                    for v in 0..NV {
                        sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(even, columns[0][v]));
                        sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(odd, columns[1][v]));
                    }
                }
            }
        }
        sums
    }
}

/// The first half of a tile: sums to scratch.
///
/// # Safety
/// As [`Accumulate`](super::Accumulate).
#[target_feature(enable = "avx2,fma")]
unsafe fn accumulate<const MR: usize, const NV: usize>(
    tile: &Tile,
    depth: Depth<'_>,
    weights: *const Line,
    params: &PanelParams,
    scratch: &mut Scratch,
) {
    let Some(&pixels) = tile.input.first_chunk::<MR>() else { return };
    // SAFETY: passed on from the caller; scratch is as large as the largest tile.
    unsafe {
        let sums = sums_of::<MR, NV>(pixels, depth, weights, params);
        let out: *mut __m256i = scratch.0.as_mut_ptr().cast();
        for (r, row) in sums.iter().enumerate() {
            for (v, &sum) in row.iter().enumerate() {
                _mm256_store_si256(out.add(r * NV + v), sum);
            }
        }
    }
}

/// Tiles along a span whose sums become codes in registers.
///
/// # Safety
/// As [`SpanU8`](super::SpanU8).
#[target_feature(enable = "avx2,fma")]
unsafe fn span<const MR: usize, const NV: usize>(
    span: &Span<'_>,
    depth: Depth<'_>,
    weights: *const Line,
    params: &PanelParams,
) {
    let mut pixel = 0;
    while pixel < span.pixels {
        // SAFETY: passed on from the caller; `params` holds a panel of multipliers.
        unsafe {
            let mut pixels = [span.input.add(pixel * span.input_step); MR];
            for (r, input) in pixels.iter_mut().enumerate() {
                *input = input.add(r * span.input_step);
            }
            let sums = sums_of::<MR, NV>(pixels, depth, weights, params);
            for (r, sums) in sums.into_iter().enumerate() {
                let mut v = [_mm256_setzero_si256(); 2];
                for (j, sum) in sums.into_iter().enumerate() {
                    let multiplier = _mm256_load_ps(params.multiplier.as_ptr().add(j * LANES));
                    v[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), multiplier));
                }
                let out = span.output.add((pixel + r) * span.output_step);
                write_codes(out, span.channels, pack_codes(v, span.codes));
            }
        }
        pixel += MR;
    }
}

/// Packs two vectors of codes less the zero point to 16 codes in order of channels.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn pack_codes(v: [__m256i; 2], codes: &Codes) -> __m128i {
    // Saturation does the lower half of the clamp: every step is monotone, and a sum below the range of i16 is below
    // code 0 as well, zero point or not.
    let words = _mm256_packs_epi32(v[0], v[1]);
    let words = _mm256_adds_epi16(words, _mm256_set1_epi16(i16::from(codes.zero_point)));
    let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    // Four codes each of: first vector low, second low, first high, second high.
    let bytes = _mm_shuffle_epi32::<0b11_01_10_00>(bytes);
    _mm_max_epu8(_mm_min_epu8(bytes, _mm_set1_epi8(codes.hi as i8)), _mm_set1_epi8(codes.lo as i8))
}

/// Writes the first `channels` of 16 codes.
///
/// # Safety
/// `channels` elements behind `out` are writable.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn write_codes(out: *mut u8, channels: usize, bytes: __m128i) {
    // SAFETY: the caller vouches for `channels` elements.
    unsafe {
        if channels == 16 {
            _mm_storeu_si128(out.cast(), bytes);
        } else if channels == 8 {
            _mm_storel_epi64(out.cast(), bytes);
        } else {
            let mut all = [0u8; 16];
            _mm_storeu_si128(all.as_mut_ptr().cast(), bytes);
            std::ptr::copy_nonoverlapping(all.as_ptr(), out, channels);
        }
    }
}

/// Sums to codes.
///
/// # Safety
/// As [`StoreU8`](super::StoreU8).
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_u8<const NV: usize>(tile: &Tile, scratch: &Scratch, params: &PanelParams, codes: &Codes) {
    let max = _mm256_set1_ps(codes.max);
    for row in 0..tile.rows {
        let mut v = [_mm256_setzero_si256(); 2];
        for (j, v) in v.iter_mut().enumerate().take(NV) {
            // SAFETY: scratch holds `rows x NV` vectors, params one of each column.
            let (sum, multiplier) = unsafe {
                (
                    _mm256_load_si256(scratch.0.as_ptr().add((row * NV + j) * LANES).cast()),
                    _mm256_load_ps(params.multiplier.as_ptr().add(j * LANES)),
                )
            };
            let value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), multiplier);
            *v = _mm256_cvtps_epi32(_mm256_min_ps(value, max));
        }
        // SAFETY: the caller vouches for the output pointers.
        unsafe { write_codes(tile.output[row], tile.channels, pack_codes(v, codes)) };
    }
}

/// Sums to codes, plus residual, to codes.
///
/// # Safety
/// As [`StoreAdd`](super::StoreAdd).
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_add<const NV: usize>(tile: &Tile, scratch: &Scratch, params: &PanelParams, codes: &Codes, add: &AddU8) {
    let (min, max) = (_mm256_set1_ps(codes.min), _mm256_set1_ps(codes.max));
    let zero_point = _mm256_set1_ps(f32::from(codes.zero_point));
    let (ra, rb) = (_mm256_set1_ps(add.ra), _mm256_set1_ps(add.rb));
    let fixed = _mm256_set1_ps(add.fixed);
    let sum_max = _mm256_set1_ps(f32::from(add.hi));
    let sum_codes = Codes::new(0, add.lo, add.hi);
    for row in 0..tile.rows {
        let mut residual = [0u8; 16];
        if tile.channels == 16 {
            // SAFETY: the caller vouches for `tile.channels` elements behind the residual pointer.
            residual = unsafe { tile.residual[row].cast::<[u8; 16]>().read() };
        } else {
            // SAFETY: as above.
            unsafe { std::ptr::copy_nonoverlapping(tile.residual[row], residual.as_mut_ptr(), tile.channels) };
        }
        let mut v = [_mm256_setzero_si256(); 2];
        for (j, v) in v.iter_mut().enumerate().take(NV) {
            // SAFETY: as in `store_u8`; the residual's copy is 16 bytes.
            let (sum, multiplier, residual) = unsafe {
                (
                    _mm256_load_si256(scratch.0.as_ptr().add((row * NV + j) * LANES).cast()),
                    _mm256_load_ps(params.multiplier.as_ptr().add(j * LANES)),
                    _mm_loadl_epi64(residual.as_ptr().add(j * LANES).cast()),
                )
            };
            let value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), multiplier);
            let value = _mm256_min_ps(_mm256_max_ps(value, min), max);
            let code = _mm256_add_ps(_mm256_round_ps::<0x08>(value), zero_point);
            let residual = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(residual));
            let (a, b) = if add.conv_is_a { (code, residual) } else { (residual, code) };
            let total = _mm256_fmadd_ps(a, ra, _mm256_fmadd_ps(b, rb, fixed));
            *v = _mm256_cvtps_epi32(_mm256_min_ps(total, sum_max));
        }
        // SAFETY: the caller vouches for the output pointers.
        unsafe { write_codes(tile.output[row], tile.channels, pack_codes(v, &sum_codes)) };
    }
}

/// Sums to floats.
///
/// # Safety
/// As [`StoreF32`](super::StoreF32).
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_f32<const NV: usize>(tile: &Tile, scratch: &Scratch, params: &PanelParams, (lo, hi): (f32, f32)) {
    let (lo, hi) = (_mm256_set1_ps(lo), _mm256_set1_ps(hi));
    for row in 0..tile.rows {
        let out: *mut f32 = tile.output[row].cast();
        for v in 0..NV {
            let left = tile.channels.saturating_sub(v * LANES).min(LANES);
            // SAFETY: as in `store_u8`; at most the floats that are left are written.
            unsafe {
                let sum = _mm256_load_si256(scratch.0.as_ptr().add((row * NV + v) * LANES).cast());
                let multiplier = _mm256_load_ps(params.multiplier.as_ptr().add(v * LANES));
                let value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), multiplier);
                let value = _mm256_min_ps(_mm256_max_ps(value, lo), hi);
                if left == LANES {
                    _mm256_storeu_ps(out.add(v * LANES), value);
                } else {
                    let mut all = [0f32; LANES];
                    _mm256_storeu_ps(all.as_mut_ptr(), value);
                    std::ptr::copy_nonoverlapping(all.as_ptr(), out.wrapping_add(v * LANES), left);
                }
            }
        }
    }
}

/// The sums of `P` neighbouring outputs of 16 channels: two columns are interleaved and widened to pairs of 16-bit
/// numbers, which serve every output, each with its weights shifted into place.
///
/// # Safety
/// As [`DepthwiseAccumulate`](super::DepthwiseAccumulate).
#[inline(always)]
unsafe fn window_sums<const P: usize>(
    input: *const u8,
    row_step: usize,
    kernel_h: usize,
    columns: &[usize],
    weights: *const Line,
    params: &PanelParams,
) -> [[__m256i; 2]; P] {
    // SAFETY: the caller vouches for the instruction set, the window's bytes and the weights.
    unsafe {
        let bias: *const __m256i = params.bias.as_ptr().cast();
        let mut sums = [[_mm256_load_si256(bias), _mm256_load_si256(bias.add(1))]; P];
        let mut weights: *const __m256i = weights.cast();
        let mut row = input;
        for _ in 0..kernel_h {
            for columns in columns.as_chunks::<2>().0 {
                let p0 = _mm_loadu_si128(row.add(columns[0]).cast());
                let p1 = _mm_loadu_si128(row.add(columns[1]).cast());
                let low = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(p0, p1));
                let high = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(p0, p1));
                for output in &mut sums {
                    let products = _mm256_madd_epi16(low, _mm256_load_si256(weights));
                    output[0] = _mm256_add_epi32(output[0], products);
                    let products = _mm256_madd_epi16(high, _mm256_load_si256(weights.add(1)));
                    output[1] = _mm256_add_epi32(output[1], products);
                    weights = weights.add(2);
                }
            }
            row = row.wrapping_add(row_step);
        }
        sums
    }
}

/// `P` neighbouring outputs of 16 channels into scratch.
///
/// # Safety
/// As [`DepthwiseAccumulate`](super::DepthwiseAccumulate).
#[target_feature(enable = "avx2,fma")]
unsafe fn depthwise<const P: usize>(
    window: &DepthwiseWindow<'_>,
    weights: *const Line,
    params: &PanelParams,
    scratch: &mut Scratch,
) {
    // SAFETY: passed on from the caller; scratch is as large as the largest tile.
    unsafe {
        let sums = window_sums::<P>(window.input, window.row_step, window.kernel_h, window.columns, weights, params);
        let out: *mut __m256i = scratch.0.as_mut_ptr().cast();
        for (output, sums) in sums.iter().enumerate() {
            for (j, &sum) in sums.iter().enumerate() {
                _mm256_store_si256(out.add(output * 2 + j), sum);
            }
        }
    }
}

/// The row function for a shape.
fn rows_for(shape: DepthwiseShape) -> DepthwiseRowsU8 {
    match shape {
        DepthwiseShape { kernel_h: 3, groups: 2, outputs_index: 1 } => depthwise_rows::<2, 3, 4>,
        DepthwiseShape { kernel_h: 1, groups: 5, outputs_index: 0 } => depthwise_rows::<1, 1, 10>,
        DepthwiseShape { kernel_h: 5, groups: 3, outputs_index: 1 } => depthwise_rows::<2, 5, 6>,
        DepthwiseShape { outputs_index: 0, .. } => depthwise_rows::<1, 0, 0>,
        DepthwiseShape { outputs_index: 1, .. } => depthwise_rows::<2, 0, 0>,
        DepthwiseShape { .. } => depthwise_rows::<4, 0, 0>,
    }
}

/// Whole rows to codes, `P` outputs at a time; the last step of a row may repeat outputs of the one before. `KH` and
/// `COLUMNS` fix the window's extents where they are not 0.
///
/// # Safety
/// As [`DepthwiseRowsU8`].
#[target_feature(enable = "avx2,fma")]
unsafe fn depthwise_rows<const P: usize, const KH: usize, const COLUMNS: usize>(
    span: &DepthwiseRows<'_>,
    weights: *const Line,
    params: &PanelParams,
    codes: &Codes,
) {
    let fixed: [usize; COLUMNS] = span.columns.first_chunk().copied().unwrap_or([0; COLUMNS]);
    let columns = if COLUMNS == 0 { span.columns } else { fixed.as_slice() };
    let kernel_h = if KH == 0 { span.kernel_h } else { KH };
    for y in 0..span.rows {
        let mut x = 0;
        while x < span.width {
            let at = x.min(span.width - P);
            // SAFETY: the caller vouches for the pointers; `at + P` outputs lie within the row.
            unsafe {
                let input = span.input.add(y * span.input_row_step + at * span.input_step);
                let sums = window_sums::<P>(input, span.row_step, kernel_h, columns, weights, params);
                for (output, sums) in sums.into_iter().enumerate() {
                    let multiplier = params.multiplier.as_ptr();
                    let low = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[0]), _mm256_load_ps(multiplier));
                    let high = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[1]), _mm256_load_ps(multiplier.add(LANES)));
                    let bytes = pack_codes([_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high)], codes);
                    let to = span.output.add(y * span.output_row_step + (at + output) * span.output_step);
                    write_codes(to, span.channels, bytes);
                }
            }
            x += P;
        }
    }
}
