//! Max and average pooling on codes; windows are clipped to the interior, padding never takes part.

use super::arch::element_kernels;
use super::elements::{POOL_CHANNELS, PoolWindow};
use super::epilogue::Codes;
use super::{CodeParams, Int8Error};
use crate::ConvGeometry;
use crate::Isa;

/// What an average divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AverageCount {
    /// Pixels of the window that lie in the image (`count_include_pad = 0`).
    Valid,
    /// All taps of the window (`count_include_pad = 1`); padding counts as real 0.
    Window,
}

/// Where an average goes.
///
/// With `n` the divisor and `sum` the i32 sum of `code - input zero point`, all in f32:
#[derive(Debug)]
pub enum AverageOutput<'a> {
    /// `requantize(sum, input_scale / (n * scale))`.
    U8 {
        /// Output scale, zero point and bounds.
        params: CodeParams,
        /// The output buffer.
        output: &'a mut [u8],
    },
    /// `clamp(sum * (input_scale / n), lo, hi)`.
    F32 {
        /// Lower bound; negative infinity for none.
        lo: f32,
        /// Upper bound; infinity for none.
        hi: f32,
        /// The output buffer.
        output: &'a mut [f32],
    },
}

/// Largest code under each window; code 0 where a window lies wholly in the padding.
///
/// # Errors
/// When the geometry is unusable.
///
/// # Panics
/// When a slice is shorter than its image, or the machine lacks `isa`.
pub fn max_pool_u8(isa: Isa, geometry: &ConvGeometry, input: &[u8], output: &mut [u8]) -> Result<(), Int8Error> {
    check(geometry)?;
    let kernel = element_kernels(isa).max_window;
    for_each_window(geometry, |window, _, out, channels| {
        // SAFETY: `element_kernels` made sure of the instruction set.
        unsafe { kernel(input, window, &mut output[out..][..channels]) };
    });
    Ok(())
}

/// Average of the codes under each window; global pooling is a window of the whole image.
///
/// # Errors
/// When the geometry is unusable.
///
/// # Panics
/// When a slice is shorter than its image, or the machine lacks `isa`.
pub fn average_pool_u8(
    isa: Isa,
    geometry: &ConvGeometry,
    count: AverageCount,
    (input, input_scale, input_zero_point): (&[u8], f32, u8),
    mut target: AverageOutput<'_>,
) -> Result<(), Int8Error> {
    check(geometry)?;
    let kernels = element_kernels(isa);
    for_each_window(geometry, |window, valid, out, channels| {
        let divisor = match count {
            AverageCount::Valid => valid.max(1),
            AverageCount::Window => geometry.kernel_h * geometry.kernel_w,
        } as f32;
        let mut sums = [0i32; POOL_CHANNELS];
        let start = (valid as i32).wrapping_mul(i32::from(input_zero_point)).wrapping_neg();
        // SAFETY: `element_kernels` made sure of the instruction set.
        unsafe {
            (kernels.sum_window)(input, window, start, &mut sums[..channels]);
            match &mut target {
                AverageOutput::U8 { params, output } => {
                    let codes = Codes::new(params.zero_point, params.lo, params.hi);
                    let multiplier = input_scale / (divisor * params.scale);
                    (kernels.requantize)(&sums[..channels], multiplier, &codes, &mut output[out..][..channels]);
                }
                AverageOutput::F32 { lo, hi, output } => {
                    let scale = input_scale / divisor;
                    (kernels.scale)(&sums[..channels], scale, (*lo, *hi), &mut output[out..][..channels]);
                }
            }
        }
    });
    Ok(())
}

fn check(geometry: &ConvGeometry) -> Result<(), Int8Error> {
    geometry.check_window()?;
    let (input, output) = (geometry.input.channels, geometry.output.channels);
    if input == output { Ok(()) } else { Err(Int8Error::ChannelMismatch { input, output }) }
}

/// Which taps of a window of `taps` starting at `start - pad` fall inside `0..extent`: the first, and how many.
fn clip(start: usize, pad: usize, dilation: usize, taps: usize, extent: usize) -> (usize, usize) {
    let first = pad.saturating_sub(start).div_ceil(dilation);
    let end = if start >= extent + pad { 0 } else { (extent + pad - start).div_ceil(dilation).min(taps) };
    (first, end.saturating_sub(first))
}

/// Calls `visit` with every clipped window, its pixel count, its output element and the channels there.
fn for_each_window(geometry: &ConvGeometry, mut visit: impl FnMut(PoolWindow, usize, usize, usize)) {
    let (input, output) = (&geometry.input, &geometry.output);
    for y in 0..output.height {
        let start_y = y * geometry.stride_h;
        let (first_y, rows) = clip(start_y, geometry.pad_top, geometry.dilation_h, geometry.kernel_h, input.height);
        for x in 0..output.width {
            let start_x = x * geometry.stride_w;
            let (first_x, columns) =
                clip(start_x, geometry.pad_left, geometry.dilation_w, geometry.kernel_w, input.width);
            let valid = rows * columns;
            let corner = if valid == 0 {
                0
            } else {
                let row = start_y + first_y * geometry.dilation_h - geometry.pad_top;
                let column = start_x + first_x * geometry.dilation_w - geometry.pad_left;
                input.at(row, column)
            };
            for channel in (0..output.channels).step_by(POOL_CHANNELS) {
                let window = PoolWindow {
                    first: corner + channel,
                    rows: if valid == 0 { 0 } else { rows },
                    row_step: geometry.dilation_h * input.row_stride,
                    columns,
                    column_step: geometry.dilation_w * input.pixel_stride,
                };
                visit(window, valid, output.at(y, x) + channel, POOL_CHANNELS.min(output.channels - channel));
            }
        }
    }
}
