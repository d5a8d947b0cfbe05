//! Dense tiles of consecutive pixels whose sums become codes or floats without leaving the registers.

use std::arch::x86_64::*;

use super::super::super::epilogue::Codes;
use super::super::super::pack::Line;
use super::super::{Depth, PanelParams, Span};
use super::{LANES, pack_codes, vectors_a_pack};

/// Sums become codes.
pub(super) const CODES: u8 = 0;
/// Codes, to which the residual is added.
pub(super) const ADD: u8 = 1;
/// Floats.
pub(super) const FLOATS: u8 = 2;

/// Tiles of `MR` pixels and `NV` vectors of 16 channels along a span.
///
/// # Safety
/// As [`SpanU8`](super::super::SpanU8).
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn span<const MR: usize, const NV: usize, const SINK: u8>(
    span: &Span<'_>,
    depth: Depth<'_>,
    weights: *const Line,
    params: &PanelParams,
) {
    let codes = if SINK == ADD { Codes::new(0, span.add.lo, span.add.hi) } else { *span.codes };
    let step = vectors_a_pack(NV);
    let mask = u64::MAX >> (64 - span.channels);
    let (lo, hi) = (_mm512_set1_ps(span.bounds.0), _mm512_set1_ps(span.bounds.1));
    let (min, max) = (_mm512_set1_ps(span.codes.min), _mm512_set1_ps(span.codes.max));
    let zero_point = _mm512_set1_ps(f32::from(span.codes.zero_point));
    let (ra, rb) = (_mm512_set1_ps(span.add.ra), _mm512_set1_ps(span.add.rb));
    let fixed = _mm512_set1_ps(span.add.fixed);
    let mut pixel = 0;
    while pixel < span.pixels {
        // SAFETY: the caller vouches for the instruction set, for every pixel's bytes and the weights; `params` holds
        // a panel of either constant. Stores and loads of residuals stop at `span.channels`.
        unsafe {
            let input = span.input.add(pixel * span.input_step);
            let mut sums = [[_mm512_setzero_si512(); NV]; MR];
            for row in &mut sums {
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = _mm512_load_si512(params.bias.as_ptr().add(v * LANES).cast());
                }
            }
            let mut columns: *const __m512i = weights.cast();
            for &run in depth.runs {
                let mut rows = [input.add(run); MR];
                for (r, row) in rows.iter_mut().enumerate() {
                    *row = row.add(r * span.input_step);
                }
                for group in 0..depth.groups {
                    let mut column = [_mm512_setzero_si512(); NV];
                    for (v, column) in column.iter_mut().enumerate() {
                        *column = _mm512_load_si512(columns.add(v));
                    }
                    columns = columns.add(NV);
                    for r in 0..MR {
                        let bytes = _mm512_set1_epi32(rows[r].add(group * 4).cast::<i32>().read_unaligned());
                        for v in 0..NV {
                            sums[r][v] = _mm512_dpbusd_epi32(sums[r][v], bytes, column[v]);
                        }
                    }
                }
            }

            if SINK == FLOATS {
                for (r, sums) in sums.iter().enumerate() {
                    let out: *mut f32 = span.output.add((pixel + r) * span.output_step).cast();
                    for (v, &sum) in sums.iter().enumerate() {
                        let multiplier = _mm512_load_ps(params.multiplier.as_ptr().add(v * LANES));
                        let shift = _mm512_load_ps(params.shift.as_ptr().add(v * LANES));
                        let value = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), multiplier), shift);
                        let value = _mm512_min_ps(_mm512_max_ps(value, lo), hi);
                        _mm512_mask_storeu_ps(out.wrapping_add(v * LANES), (mask >> (v * LANES)) as u16, value);
                    }
                }
                pixel += MR;
                continue;
            }
            let mut vector = 0;
            while vector < MR * NV {
                let mut v = [_mm512_setzero_si512(); 4];
                for (j, v) in v.iter_mut().enumerate().take(step) {
                    let (row, column) = ((vector + j) / NV, (vector + j) % NV);
                    if row < MR {
                        let multiplier = _mm512_load_ps(params.multiplier.as_ptr().add(column * LANES));
                        let value = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[row][column]), multiplier);
                        if SINK != ADD {
                            *v = _mm512_cvtps_epi32(value);
                            continue;
                        }
                        let from = span.residual.wrapping_add((pixel + row) * span.residual_step + column * LANES);
                        let residual = _mm_maskz_loadu_epi8((mask >> (column * LANES)) as u16, from.cast());
                        let residual = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(residual));
                        let value = _mm512_min_ps(_mm512_max_ps(value, min), max);
                        let code = _mm512_add_ps(_mm512_roundscale_ps::<0x08>(value), zero_point);
                        let total = if span.add.conv_is_a {
                            _mm512_fmadd_ps(code, ra, _mm512_fmadd_ps(residual, rb, fixed))
                        } else {
                            _mm512_fmadd_ps(residual, ra, _mm512_fmadd_ps(code, rb, fixed))
                        };
                        *v = _mm512_cvtps_epi32(total);
                    }
                }
                write::<MR, NV>(span, pixel, vector / NV, pack_codes(v, &codes));
                vector += step;
            }
        }
        pixel += MR;
    }
}

/// Writes 64 packed codes to the pixels they belong to, from row `row` of the tile at `pixel` on.
///
/// # Safety
/// `span.channels` elements of those pixels are writable.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn write<const MR: usize, const NV: usize>(span: &Span<'_>, pixel: usize, row: usize, bytes: __m512i) {
    // SAFETY: masks stop at `span.channels`, and only rows below `MR` are written.
    unsafe {
        let out: *mut i8 = span.output.add((pixel + row) * span.output_step).cast();
        let mask = u64::MAX >> (64 - span.channels);
        if NV >= 3 {
            _mm512_mask_storeu_epi8(out, mask, bytes);
        } else if NV == 2 {
            _mm256_mask_storeu_epi8(out, mask as u32, _mm512_castsi512_si256(bytes));
            if row + 1 < MR {
                let half = _mm512_extracti64x4_epi64::<1>(bytes);
                _mm256_mask_storeu_epi8(out.add(span.output_step), mask as u32, half);
            }
        } else {
            _mm_mask_storeu_epi8(out, mask as u16, _mm512_castsi512_si128(bytes));
            if row + 1 < MR {
                let quarter = _mm512_extracti32x4_epi32::<1>(bytes);
                _mm_mask_storeu_epi8(out.add(span.output_step), mask as u16, quarter);
            }
            if row + 2 < MR {
                let quarter = _mm512_extracti32x4_epi32::<2>(bytes);
                _mm_mask_storeu_epi8(out.add(2 * span.output_step), mask as u16, quarter);
            }
            if row + 3 < MR {
                let quarter = _mm512_extracti32x4_epi32::<3>(bytes);
                _mm_mask_storeu_epi8(out.add(3 * span.output_step), mask as u16, quarter);
            }
        }
    }
}
