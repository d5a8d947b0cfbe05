//! Depthwise windows of 16 channels: neighbouring columns are interleaved once and serve every output they lie under.

use std::arch::aarch64::*;

use super::super::super::epilogue::Codes;
use super::super::super::pack::Line;
use super::super::{DepthwiseRows, DepthwiseWindow, PanelParams, Scratch};
use super::LANES;
use super::finish::{round_scaled, write_codes};
use super::multiply::Multiply;

/// Channels a panel.
pub(super) const WIDTH: usize = 16;

/// The sums of `OUTPUTS` neighbouring outputs.
///
/// # Safety
/// As [`DepthwiseAccumulate`](super::super::DepthwiseAccumulate).
#[inline(always)]
unsafe fn window_sums<M: Multiply, const OUTPUTS: usize>(
    window: &DepthwiseWindow<'_>,
    weights: *const Line,
    params: &PanelParams,
) -> [[int32x4_t; 4]; OUTPUTS] {
    // SAFETY: the caller vouches for the instruction set, the window's bytes and the weights.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); 4]; OUTPUTS];
        for output in &mut sums {
            for (v, sum) in output.iter_mut().enumerate() {
                *sum = vld1q_s32(params.bias.as_ptr().add(v * LANES));
            }
        }
        let mut weights: *const i8 = weights.cast();
        let mut row = window.input;
        for _ in 0..window.kernel_h {
            for columns in window.columns.chunks_exact(M::SLOTS) {
                M::columns::<OUTPUTS>(row, columns, weights, &mut sums);
                weights = weights.add(OUTPUTS * WIDTH * M::SLOTS);
            }
            row = row.wrapping_add(window.row_step);
        }
        sums
    }
}

/// Neighbouring outputs into scratch.
///
/// # Safety
/// As [`DepthwiseAccumulate`](super::super::DepthwiseAccumulate).
#[inline(always)]
unsafe fn window<M: Multiply, const OUTPUTS: usize>(
    window: &DepthwiseWindow<'_>,
    weights: *const Line,
    params: &PanelParams,
    scratch: &mut Scratch,
) {
    // SAFETY: passed on from the caller; scratch is as large as the largest tile.
    unsafe {
        let sums = window_sums::<M, OUTPUTS>(window, weights, params);
        let out = scratch.0.as_mut_ptr();
        for (output, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                vst1q_s32(out.add(output * WIDTH + v * LANES), sum);
            }
        }
    }
}

/// Whole rows to codes, `OUTPUTS` at a time; the last step of a row may repeat outputs of the one before.
///
/// # Safety
/// As [`DepthwiseRowsU8`](super::super::DepthwiseRowsU8).
#[inline(always)]
unsafe fn rows<M: Multiply, const OUTPUTS: usize>(
    span: &DepthwiseRows<'_>,
    weights: *const Line,
    params: &PanelParams,
    codes: &Codes,
) {
    for y in 0..span.rows {
        let mut x = 0;
        while x < span.width {
            let at = x.min(span.width - OUTPUTS);
            // SAFETY: the caller vouches for the pointers; `at + OUTPUTS` outputs lie within the row.
            unsafe {
                let window = DepthwiseWindow {
                    input: span.input.add(y * span.input_row_step + at * span.input_step),
                    row_step: span.row_step,
                    kernel_h: span.kernel_h,
                    columns: span.columns,
                };
                let sums = window_sums::<M, OUTPUTS>(&window, weights, params);
                for (output, sums) in sums.into_iter().enumerate() {
                    let mut values = [vdupq_n_s32(0); 4];
                    for (v, sum) in sums.into_iter().enumerate() {
                        values[v] = round_scaled(sum, params.multiplier.as_ptr().add(v * LANES));
                    }
                    let to = span.output.add(y * span.output_row_step + (at + output) * span.output_step);
                    write_codes(to, span.channels, values, codes);
                }
            }
            x += OUTPUTS;
        }
    }
}

/// Instantiates the windows of one way to multiply inside functions that enable its instructions.
macro_rules! windows_of {
    ($module:ident, $multiply:ident $(, $feature:meta)?) => {
        pub(super) mod $module {
            use super::super::super::super::epilogue::Codes;
            use super::super::super::super::pack::Line;
            use super::super::super::{
                DepthwiseRows, DepthwiseRowsU8, DepthwiseShape, DepthwiseWindow, PanelParams, Scratch,
            };
            use super::super::multiply::$multiply;

            /// # Safety
            /// As [`DepthwiseAccumulate`](super::super::super::DepthwiseAccumulate).
            $(#[$feature])?
            pub(in super::super) unsafe fn window<const OUTPUTS: usize>(
                window: &DepthwiseWindow<'_>,
                weights: *const Line,
                params: &PanelParams,
                scratch: &mut Scratch,
            ) {
                // SAFETY: the caller's contract is the same.
                unsafe { super::window::<$multiply, OUTPUTS>(window, weights, params, scratch) }
            }

            /// # Safety
            /// As [`DepthwiseRowsU8`].
            $(#[$feature])?
            unsafe fn rows<const OUTPUTS: usize>(
                span: &DepthwiseRows<'_>,
                weights: *const Line,
                params: &PanelParams,
                codes: &Codes,
            ) {
                // SAFETY: the caller's contract is the same.
                unsafe { super::rows::<$multiply, OUTPUTS>(span, weights, params, codes) }
            }

            /// The row function for a shape.
            pub(in super::super) fn rows_for(shape: DepthwiseShape) -> DepthwiseRowsU8 {
                match shape.outputs_index {
                    0 => rows::<1>,
                    1 => rows::<2>,
                    _ => rows::<4>,
                }
            }
        }
    };
}

windows_of!(base, Base);
windows_of!(dotprod, Dotprod, target_feature(enable = "dotprod"));
