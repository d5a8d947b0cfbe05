//! Dense tiles: the loop over depth, into scratch or straight to codes.

use std::arch::aarch64::*;

use super::super::super::epilogue::Codes;
use super::super::super::pack::Line;
use super::super::{Depth, PanelParams, Scratch, Span, Tile};
use super::LANES;
use super::finish::{add_residual, load_codes, round_scaled, write_codes};
use super::multiply::{Multiply, load_signed, load_signed_group};

/// The sums of `ROWS` pixels and `REGISTERS` registers of 4 channels.
///
/// # Safety
/// As [`Accumulate`](super::super::Accumulate), with `pixels` in place of the tile's inputs.
#[inline(always)]
unsafe fn sums_of<M: Multiply, const ROWS: usize, const REGISTERS: usize>(
    pixels: [*const u8; ROWS],
    depth: Depth<'_>,
    weights: *const Line,
    params: &PanelParams,
) -> [[int32x4_t; REGISTERS]; ROWS] {
    // SAFETY: the caller vouches for the instruction set, the input bytes and the weights; the bias is as long as the
    // widest panel.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); REGISTERS]; ROWS];
        for row in &mut sums {
            for (v, sum) in row.iter_mut().enumerate() {
                *sum = vld1q_s32(params.bias.as_ptr().add(v * LANES));
            }
        }
        let mut inputs = [vdupq_n_s8(0); ROWS];
        let group_weights = REGISTERS * LANES * 4;
        let mut weights: *const i8 = weights.cast();
        for &run in depth.runs {
            let mut rows = pixels;
            for row in &mut rows {
                *row = row.add(run);
            }
            for _ in 0..depth.groups / 4 {
                for (input, row) in inputs.iter_mut().zip(&mut rows) {
                    *input = load_signed(*row);
                    *row = row.add(16);
                }
                M::group::<0, ROWS, REGISTERS>(&inputs, weights, &mut sums);
                M::group::<1, ROWS, REGISTERS>(&inputs, weights.add(group_weights), &mut sums);
                M::group::<2, ROWS, REGISTERS>(&inputs, weights.add(2 * group_weights), &mut sums);
                M::group::<3, ROWS, REGISTERS>(&inputs, weights.add(3 * group_weights), &mut sums);
                weights = weights.add(4 * group_weights);
            }
            for _ in 0..depth.groups % 4 {
                for (input, row) in inputs.iter_mut().zip(&mut rows) {
                    *input = load_signed_group(*row);
                    *row = row.add(4);
                }
                M::group::<0, ROWS, REGISTERS>(&inputs, weights, &mut sums);
                weights = weights.add(group_weights);
            }
        }
        sums
    }
}

/// The first half of a tile: sums to scratch.
///
/// # Safety
/// As [`Accumulate`](super::super::Accumulate).
#[inline(always)]
unsafe fn accumulate<M: Multiply, const ROWS: usize, const REGISTERS: usize>(
    tile: &Tile,
    depth: Depth<'_>,
    weights: *const Line,
    params: &PanelParams,
    scratch: &mut Scratch,
) {
    let Some(&pixels) = tile.input.first_chunk::<ROWS>() else { return };
    // SAFETY: passed on from the caller; scratch is as large as the largest tile.
    unsafe {
        let sums = sums_of::<M, ROWS, REGISTERS>(pixels, depth, weights, params);
        let out = scratch.0.as_mut_ptr();
        for (r, row) in sums.into_iter().enumerate() {
            for (v, sum) in row.into_iter().enumerate() {
                vst1q_s32(out.add((r * REGISTERS + v) * LANES), sum);
            }
        }
    }
}

/// Tiles along a span whose sums become codes in registers; `ADD` adds the residual.
///
/// # Safety
/// As [`SpanU8`](super::super::SpanU8).
#[inline(always)]
unsafe fn span<M: Multiply, const ROWS: usize, const REGISTERS: usize, const ADD: bool>(
    span: &Span<'_>,
    depth: Depth<'_>,
    weights: *const Line,
    params: &PanelParams,
) {
    let codes = if ADD { Codes::new(0, span.add.lo, span.add.hi) } else { *span.codes };
    let mut pixel = 0;
    while pixel < span.pixels {
        // SAFETY: passed on from the caller; `params` holds a panel of multipliers.
        unsafe {
            let mut pixels = [span.input.add(pixel * span.input_step); ROWS];
            for (r, input) in pixels.iter_mut().enumerate() {
                *input = input.add(r * span.input_step);
            }
            let sums = sums_of::<M, ROWS, REGISTERS>(pixels, depth, weights, params);
            for (r, sums) in sums.into_iter().enumerate() {
                let mut values = [vdupq_n_s32(0); 4];
                for (v, sum) in sums.into_iter().enumerate() {
                    values[v] = round_scaled(sum, params.multiplier.as_ptr().add(v * LANES));
                }
                if ADD {
                    let from = span.residual.add((pixel + r) * span.residual_step);
                    values = add_residual(values, load_codes(from, span.channels), span.codes, span.add);
                }
                let out = span.output.add((pixel + r) * span.output_step);
                write_codes(out, span.channels, values, &codes);
            }
        }
        pixel += ROWS;
    }
}

/// Instantiates the tiles of one way to multiply inside functions that enable its instructions.
macro_rules! tiles_of {
    ($module:ident, $multiply:ident $(, $feature:meta)?) => {
        pub(super) mod $module {
            use super::super::super::super::pack::Line;
            use super::super::super::{Depth, PanelParams, Scratch, Span, Tile};
            use super::super::multiply::$multiply;

            /// # Safety
            /// As [`Accumulate`](super::super::super::Accumulate).
            $(#[$feature])?
            pub(in super::super) unsafe fn accumulate<const ROWS: usize, const REGISTERS: usize>(
                tile: &Tile,
                depth: Depth<'_>,
                weights: *const Line,
                params: &PanelParams,
                scratch: &mut Scratch,
            ) {
                // SAFETY: the caller's contract is the same.
                unsafe { super::accumulate::<$multiply, ROWS, REGISTERS>(tile, depth, weights, params, scratch) }
            }

            /// # Safety
            /// As [`SpanU8`](super::super::super::SpanU8).
            $(#[$feature])?
            pub(in super::super) unsafe fn span<const ROWS: usize, const REGISTERS: usize, const ADD: bool>(
                span: &Span<'_>,
                depth: Depth<'_>,
                weights: *const Line,
                params: &PanelParams,
            ) {
                // SAFETY: the caller's contract is the same.
                unsafe { super::span::<$multiply, ROWS, REGISTERS, ADD>(span, depth, weights, params) }
            }
        }
    };
}

tiles_of!(base, Base);
tiles_of!(dotprod, Dotprod, target_feature(enable = "dotprod"));
