//! The two halves of a dense tile: sums along the depth, and what becomes of them.

use std::arch::x86_64::*;

use super::super::super::epilogue::{AddU8, Codes};
use super::super::super::pack::Line;
use super::super::{Depth, PanelParams, Scratch, Tile};
use super::{LANES, pack_codes, tail_mask, vectors_a_pack};

/// The loop over depth of `MR` pixels and `NV` vectors of 16 channels.
///
/// # Safety
/// As [`Accumulate`](super::super::Accumulate).
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn accumulate<const MR: usize, const NV: usize>(
    tile: &Tile,
    depth: Depth<'_>,
    weights: *const Line,
    params: &PanelParams,
    scratch: &mut Scratch,
) {
    // SAFETY: the caller vouches for the instruction set, the input bytes and the weights; bias and scratch are as
    // large as the widest tile.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); NV]; MR];
        for row in &mut sums {
            for (v, sum) in row.iter_mut().enumerate() {
                *sum = _mm512_load_si512(params.bias.as_ptr().add(v * LANES).cast());
            }
        }
        let mut weights: *const __m512i = weights.cast();
        for &run in depth.runs {
            let mut pixels = [std::ptr::null::<u8>(); MR];
            for (r, pixel) in pixels.iter_mut().enumerate() {
                *pixel = tile.input[r].add(run);
            }
            for group in 0..depth.groups {
                let mut columns = [_mm512_setzero_si512(); NV];
                for (v, column) in columns.iter_mut().enumerate() {
                    *column = _mm512_load_si512(weights.add(v));
                }
                weights = weights.add(NV);
                for r in 0..MR {
                    let bytes = _mm512_set1_epi32(pixels[r].add(group * 4).cast::<i32>().read_unaligned());
                    for v in 0..NV {
                        sums[r][v] = _mm512_dpbusd_epi32(sums[r][v], bytes, columns[v]);
                    }
                }
            }
        }
        let out: *mut __m512i = scratch.0.as_mut_ptr().cast();
        for (r, row) in sums.iter().enumerate() {
            for (v, &sum) in row.iter().enumerate() {
                _mm512_store_si512(out.add(r * NV + v), sum);
            }
        }
    }
}

/// Writes 64 packed codes to the rows they belong to.
///
/// # Safety
/// As [`StoreU8`](super::super::StoreU8).
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn write_codes<const NV: usize>(tile: &Tile, row: usize, bytes: __m512i) {
    // SAFETY: masks and full-width tests keep every store within `tile.channels` of a row the caller vouches for.
    unsafe {
        let channels = tile.channels;
        if NV >= 3 {
            let out: *mut i8 = tile.output[row].cast();
            if channels == 64 {
                _mm512_storeu_si512(out.cast(), bytes);
            } else if NV == 3 && channels == 48 {
                _mm256_storeu_si256(out.cast(), _mm512_castsi512_si256(bytes));
                _mm_storeu_si128(out.add(32).cast(), _mm512_extracti32x4_epi32::<2>(bytes));
            } else {
                _mm512_mask_storeu_epi8(out, u64::MAX >> (64 - channels), bytes);
            }
        } else if NV == 2 {
            let halves = [_mm512_castsi512_si256(bytes), _mm512_extracti64x4_epi64::<1>(bytes)];
            for (r, half) in halves.into_iter().enumerate().take(tile.rows - row) {
                let out: *mut i8 = tile.output[row + r].cast();
                if channels == 32 {
                    _mm256_storeu_si256(out.cast(), half);
                } else {
                    _mm256_mask_storeu_epi8(out, u32::MAX >> (32 - channels), half);
                }
            }
        } else {
            let quarters = [
                _mm512_castsi512_si128(bytes),
                _mm512_extracti32x4_epi32::<1>(bytes),
                _mm512_extracti32x4_epi32::<2>(bytes),
                _mm512_extracti32x4_epi32::<3>(bytes),
            ];
            for (r, quarter) in quarters.into_iter().enumerate().take(tile.rows - row) {
                let out: *mut i8 = tile.output[row + r].cast();
                if channels == 16 {
                    _mm_storeu_si128(out.cast(), quarter);
                } else {
                    _mm_mask_storeu_epi8(out, u16::MAX >> (16 - channels), quarter);
                }
            }
        }
    }
}

/// Sums to codes.
///
/// # Safety
/// As [`StoreU8`](super::super::StoreU8); `BOUNDED` is the clamped form.
#[inline(never)]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn store_u8<const NV: usize, const BOUNDED: bool>(
    tile: &Tile,
    scratch: &Scratch,
    params: &PanelParams,
    codes: &Codes,
) {
    let step = vectors_a_pack(NV);
    let max = _mm512_set1_ps(codes.max);
    let mut vector = 0;
    while vector < tile.rows * NV {
        let mut v = [_mm512_setzero_si512(); 4];
        for (j, v) in v.iter_mut().enumerate().take(step) {
            // SAFETY: scratch holds `rows x NV` vectors rounded up to a pack, params one of each column.
            let (sum, multiplier) = unsafe {
                (
                    _mm512_load_si512(scratch.0.as_ptr().add((vector + j) * LANES).cast()),
                    _mm512_load_ps(params.multiplier.as_ptr().add(j % NV * LANES)),
                )
            };
            let mut value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), multiplier);
            if BOUNDED {
                value = _mm512_min_ps(value, max);
            }
            *v = _mm512_cvtps_epi32(value);
        }
        // SAFETY: the caller vouches for the output pointers.
        unsafe { write_codes::<NV>(tile, vector / NV, pack_codes(v, codes)) };
        vector += step;
    }
}

/// Sums to codes, plus residual, to codes.
///
/// # Safety
/// As [`StoreAdd`](super::super::StoreAdd).
#[inline(never)]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn store_add<const NV: usize>(
    tile: &Tile,
    scratch: &Scratch,
    params: &PanelParams,
    codes: &Codes,
    add: &AddU8,
) {
    let step = vectors_a_pack(NV);
    let (min, max) = (_mm512_set1_ps(codes.min), _mm512_set1_ps(codes.max));
    let zero_point = _mm512_set1_ps(f32::from(codes.zero_point));
    let (ra, rb) = (_mm512_set1_ps(add.ra), _mm512_set1_ps(add.rb));
    let fixed = _mm512_set1_ps(add.fixed);
    let sum_max = _mm512_set1_ps(f32::from(add.hi));
    let sum_codes = Codes::new(0, add.lo, add.hi);
    let mut vector = 0;
    while vector < tile.rows * NV {
        let mut v = [_mm512_setzero_si512(); 4];
        for (j, v) in v.iter_mut().enumerate().take(step) {
            let (row, column) = ((vector + j) / NV, (vector + j) % NV * LANES);
            if row >= tile.rows {
                break;
            }
            let mask = tail_mask(tile.channels, column);
            // SAFETY: as in `store_u8`; the mask keeps the residual's load within `tile.channels`.
            let (sum, multiplier, residual) = unsafe {
                (
                    _mm512_load_si512(scratch.0.as_ptr().add((vector + j) * LANES).cast()),
                    _mm512_load_ps(params.multiplier.as_ptr().add(column)),
                    _mm_maskz_loadu_epi8(mask, tile.residual[row].wrapping_add(column).cast()),
                )
            };
            let value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), multiplier);
            let value = _mm512_min_ps(_mm512_max_ps(value, min), max);
            let code = _mm512_add_ps(_mm512_roundscale_ps::<0x08>(value), zero_point);
            let residual = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(residual));
            let (a, b) = if add.conv_is_a { (code, residual) } else { (residual, code) };
            let total = _mm512_fmadd_ps(a, ra, _mm512_fmadd_ps(b, rb, fixed));
            *v = _mm512_cvtps_epi32(_mm512_min_ps(total, sum_max));
        }
        // SAFETY: the caller vouches for the output pointers.
        unsafe { write_codes::<NV>(tile, vector / NV, pack_codes(v, &sum_codes)) };
        vector += step;
    }
}

/// Sums to floats.
///
/// # Safety
/// As [`StoreF32`](super::super::StoreF32).
#[inline(never)]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn store_f32<const NV: usize>(
    tile: &Tile,
    scratch: &Scratch,
    params: &PanelParams,
    (lo, hi): (f32, f32),
) {
    let (lo, hi) = (_mm512_set1_ps(lo), _mm512_set1_ps(hi));
    for row in 0..tile.rows {
        let out: *mut f32 = tile.output[row].cast();
        for v in 0..NV {
            let mask = tail_mask(tile.channels, v * LANES);
            // SAFETY: as in `store_u8`; the mask keeps the store within `tile.channels`.
            unsafe {
                let sum = _mm512_load_si512(scratch.0.as_ptr().add((row * NV + v) * LANES).cast());
                let multiplier = _mm512_load_ps(params.multiplier.as_ptr().add(v * LANES));
                let value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), multiplier);
                let value = _mm512_min_ps(_mm512_max_ps(value, lo), hi);
                if mask == u16::MAX {
                    _mm512_storeu_ps(out.add(v * LANES), value);
                } else {
                    _mm512_mask_storeu_ps(out.wrapping_add(v * LANES), mask, value);
                }
            }
        }
    }
}
