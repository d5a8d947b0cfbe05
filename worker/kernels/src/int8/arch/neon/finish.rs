//! What becomes of the sums of a tile: codes, codes with a residual, floats. The base instructions do it everywhere.
//!
//! Conversions to integers saturate on AArch64, so codes need no clamp in float first: every step is monotone, and the
//! bounds are whole numbers.

use std::arch::aarch64::*;

use super::super::super::epilogue::{AddU8, Codes};
use super::super::{PanelParams, Scratch, Tile};
use super::LANES;

/// Sums times multipliers, rounded half to even.
///
/// # Safety
/// Four multipliers are readable.
#[inline(always)]
pub(super) unsafe fn round_scaled(sums: int32x4_t, multiplier: *const f32) -> int32x4_t {
    // SAFETY: the caller vouches for the multipliers.
    unsafe { vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sums), vld1q_f32(multiplier))) }
}

/// Writes the first `channels` of 16 codes, given less the zero point.
///
/// # Safety
/// `channels` elements behind `out` are writable.
#[inline(always)]
pub(super) unsafe fn write_codes(out: *mut u8, channels: usize, values: [int32x4_t; 4], codes: &Codes) {
    // SAFETY: the caller vouches for `channels` elements.
    unsafe {
        // A sum beyond the range of 16 bits is beyond the codes as well, zero point or not.
        let zero_point = vdupq_n_s16(i16::from(codes.zero_point));
        let low = vqmovn_high_s32(vqmovn_s32(values[0]), values[1]);
        let high = vqmovn_high_s32(vqmovn_s32(values[2]), values[3]);
        let bytes = vqmovun_high_s16(vqmovun_s16(vqaddq_s16(low, zero_point)), vqaddq_s16(high, zero_point));
        let bytes = vmaxq_u8(vminq_u8(bytes, vdupq_n_u8(codes.hi)), vdupq_n_u8(codes.lo));
        if channels == 16 {
            vst1q_u8(out, bytes);
        } else if channels == 8 {
            vst1_u8(out, vget_low_u8(bytes));
        } else {
            let mut all = [0u8; 16];
            vst1q_u8(all.as_mut_ptr(), bytes);
            std::ptr::copy_nonoverlapping(all.as_ptr(), out, channels);
        }
    }
}

/// Reads `channels` of 16 codes.
///
/// # Safety
/// `channels` elements behind `from` are readable.
#[inline(always)]
pub(super) unsafe fn load_codes(from: *const u8, channels: usize) -> uint8x16_t {
    // SAFETY: the caller vouches for `channels` elements.
    unsafe {
        if channels == 16 {
            vld1q_u8(from)
        } else if channels == 8 {
            vcombine_u8(vld1_u8(from), vdup_n_u8(0))
        } else {
            let mut all = [0u8; 16];
            std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), channels);
            vld1q_u8(all.as_ptr())
        }
    }
}

/// Adds residual codes to the rounded sums of a convolution that has `codes`; gives codes of the Add.
#[inline(always)]
pub(super) fn add_residual(
    mut values: [int32x4_t; 4],
    residual: uint8x16_t,
    codes: &Codes,
    add: &AddU8,
) -> [int32x4_t; 4] {
    // SAFETY: every AArch64 machine that this crate is built for has the base vector instructions.
    unsafe {
        let (low, high) = (vmovl_u8(vget_low_u8(residual)), vmovl_high_u8(residual));
        let residual =
            [vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high)];
        let (lo, hi) = (vdupq_n_s32(i32::from(codes.lo)), vdupq_n_s32(i32::from(codes.hi)));
        let zero_point = vdupq_n_s32(i32::from(codes.zero_point));
        let (ra, rb, fixed) = (vdupq_n_f32(add.ra), vdupq_n_f32(add.rb), vdupq_n_f32(add.fixed));
        for (value, residual) in values.iter_mut().zip(residual) {
            let code = vmaxq_s32(vminq_s32(vqaddq_s32(*value, zero_point), hi), lo);
            let (code, residual) = (vcvtq_f32_s32(code), vcvtq_f32_u32(residual));
            let (a, b) = if add.conv_is_a { (code, residual) } else { (residual, code) };
            *value = vcvtnq_s32_f32(vfmaq_f32(vfmaq_f32(fixed, b, rb), a, ra));
        }
        values
    }
}

/// A row of sums times multipliers, rounded; zeros behind it.
///
/// # Safety
/// Scratch holds the row.
#[inline(always)]
unsafe fn scratch_row<const REGISTERS: usize>(scratch: &Scratch, row: usize, params: &PanelParams) -> [int32x4_t; 4] {
    // SAFETY: scratch holds `REGISTERS` registers a row, params one of each.
    unsafe {
        let mut values = [vdupq_n_s32(0); 4];
        for (v, value) in values.iter_mut().enumerate().take(REGISTERS) {
            let sums = vld1q_s32(scratch.0.as_ptr().add((row * REGISTERS + v) * LANES));
            *value = round_scaled(sums, params.multiplier.as_ptr().add(v * LANES));
        }
        values
    }
}

/// Sums to codes.
///
/// # Safety
/// As [`StoreU8`](super::super::StoreU8).
#[inline(never)]
pub(super) unsafe fn store_u8<const REGISTERS: usize>(
    tile: &Tile,
    scratch: &Scratch,
    params: &PanelParams,
    codes: &Codes,
) {
    for row in 0..tile.rows {
        // SAFETY: scratch holds `rows x REGISTERS` registers, params one of each; the caller vouches for the output.
        unsafe {
            write_codes(tile.output[row], tile.channels, scratch_row::<REGISTERS>(scratch, row, params), codes);
        }
    }
}

/// Sums to codes, plus residual, to codes.
///
/// # Safety
/// As [`StoreAdd`](super::super::StoreAdd).
#[inline(never)]
pub(super) unsafe fn store_add<const REGISTERS: usize>(
    tile: &Tile,
    scratch: &Scratch,
    params: &PanelParams,
    codes: &Codes,
    add: &AddU8,
) {
    let sum_codes = Codes::new(0, add.lo, add.hi);
    for row in 0..tile.rows {
        // SAFETY: the caller vouches for `tile.channels` elements behind the residual and output pointers; the rest
        // is as in `store_u8`.
        unsafe {
            let residual = load_codes(tile.residual[row], tile.channels);
            let values = scratch_row::<REGISTERS>(scratch, row, params);
            write_codes(tile.output[row], tile.channels, add_residual(values, residual, codes, add), &sum_codes);
        }
    }
}

/// Sums to floats.
///
/// # Safety
/// As [`StoreF32`](super::super::StoreF32).
#[inline(never)]
pub(super) unsafe fn store_f32<const REGISTERS: usize>(
    tile: &Tile,
    scratch: &Scratch,
    params: &PanelParams,
    (lo, hi): (f32, f32),
) {
    for row in 0..tile.rows {
        let out: *mut f32 = tile.output[row].cast();
        for v in 0..REGISTERS {
            let left = tile.channels.saturating_sub(v * LANES).min(LANES);
            // SAFETY: as in `store_u8`; at most the floats that are left are written.
            unsafe {
                let (lo, hi) = (vdupq_n_f32(lo), vdupq_n_f32(hi));
                let sums = vld1q_s32(scratch.0.as_ptr().add((row * REGISTERS + v) * LANES));
                let value = vmulq_f32(vcvtq_f32_s32(sums), vld1q_f32(params.multiplier.as_ptr().add(v * LANES)));
                // Comparisons and selections, for what the instructions for minima do with NaN and zeros is not the
                // definition.
                let value = vbslq_f32(vcgtq_f32(value, lo), value, lo);
                let value = vbslq_f32(vcltq_f32(value, hi), value, hi);
                if left == LANES {
                    vst1q_f32(out.add(v * LANES), value);
                } else {
                    let mut all = [0f32; LANES];
                    vst1q_f32(all.as_mut_ptr(), value);
                    std::ptr::copy_nonoverlapping(all.as_ptr(), out.wrapping_add(v * LANES), left);
                }
            }
        }
    }
}
