//! Depthwise convolution, u8 x s8: every channel has its own filter and nothing is summed across channels.

use super::arch::{
    DepthwiseKernel, DepthwiseRows, DepthwiseShape, DepthwiseWindow, MAX_PANEL, MAX_TILE, PanelParams, Scratch, Tile,
    depthwise_kernels, offset_bias,
};
use super::conv::{Sink, proven_to_convert};
use super::pack::{Line, magnitude_of};
use super::{Epilogue, INPUT_SLACK, Int8Error};
use crate::ConvGeometry;
use crate::Isa;
use std::ops::Range;

/// Bytes of input rows that a block of output rows may read, so that all panels find them in the second-level cache.
const BLOCK_BYTES: usize = 256 * 1024;

/// How many neighbouring outputs a microkernel computes at once: an index into its functions.
///
/// Neighbours share the interleaving of their input columns when the window moves by one pixel.
fn outputs_index(geometry: &ConvGeometry, slots: usize) -> usize {
    if geometry.stride_w != 1 || geometry.dilation_w != 1 {
        return 0;
    }
    // Interleaving costs about twice the multiply it feeds and is shared by all outputs; each output multiplies every
    // group of columns.
    let cost = |index: usize| {
        let outputs = 1 << index;
        let groups = (geometry.kernel_w + outputs - 1).div_ceil(slots);
        groups * (outputs + 2) * (4 / outputs)
    };
    (0..3).min_by_key(|&index| cost(index)).unwrap_or(0)
}

/// How the taps of a window are arranged for a microkernel.
///
/// Outputs that share columns take the window row by row. An output by itself takes all taps as columns of one row,
/// which fills up to a whole number of groups only once.
fn shape_of(geometry: &ConvGeometry, slots: usize) -> DepthwiseShape {
    let outputs_index = outputs_index(geometry, slots);
    let outputs = 1usize << outputs_index;
    if outputs == 1 {
        let groups = (geometry.kernel_h * geometry.kernel_w).div_ceil(slots);
        DepthwiseShape { kernel_h: 1, groups, outputs_index }
    } else {
        let groups = (geometry.kernel_w + outputs - 1).div_ceil(slots);
        DepthwiseShape { kernel_h: geometry.kernel_h, groups, outputs_index }
    }
}

#[derive(Clone, Copy, Debug)]
struct DepthwisePanel {
    first: usize,
    channels: usize,
    kernel: &'static DepthwiseKernel,
    line: usize,
}

/// Depthwise weights packed for one instruction set and one way of sharing columns.
#[derive(Debug)]
pub struct PackedDepthwise {
    isa: Isa,
    channels: usize,
    kernel_h: usize,
    kernel_w: usize,
    arrangement: DepthwiseShape,
    panels: Vec<DepthwisePanel>,
    lines: Vec<Line>,
    magnitude: Vec<f32>,
    column_sums: Vec<i32>,
}

impl PackedDepthwise {
    /// Packs `weights`, laid out `[channels][kernel_h][kernel_w]`, for windows like those of `geometry`.
    ///
    /// The packing depends on the geometry's kernel, strides and dilations only, never on its images.
    pub fn pack(isa: Isa, geometry: &ConvGeometry, weights: &[i8]) -> Result<PackedDepthwise, Int8Error> {
        let (channels, kernel_h, kernel_w) = (geometry.output.channels, geometry.kernel_h, geometry.kernel_w);
        let taps = kernel_h.checked_mul(kernel_w).ok_or(Int8Error::TooLarge)?;
        let expected = taps.checked_mul(channels).ok_or(Int8Error::TooLarge)?;
        if weights.len() != expected {
            return Err(Int8Error::Length { what: "the depthwise weight tensor", expected, actual: weights.len() });
        }
        let kernels = depthwise_kernels(isa);
        let slots = kernels[0].slots;
        let arrangement = shape_of(geometry, slots);
        let outputs = 1usize << arrangement.outputs_index;
        let row_taps = taps / arrangement.kernel_h;

        let mut panels = Vec::new();
        let (mut first, mut line) = (0, 0);
        while first < channels {
            let left = channels - first;
            let narrowest = kernels.iter().copied().find(|kernel| kernel.width >= left);
            let Some(kernel) = narrowest.or(kernels.last().copied()) else { break };
            let bytes = arrangement.kernel_h * arrangement.groups * outputs * panel_vector_bytes(kernel);
            panels.push(DepthwisePanel { first, channels: left.min(kernel.width), kernel, line });
            first += left.min(kernel.width);
            line += bytes.div_ceil(size_of::<Line>());
        }

        let mut lines = vec![Line([0; 64]); line];
        for panel in &panels {
            for column in 0..panel.channels {
                let filter = &weights[(panel.first + column) * taps..][..taps];
                for (tap, &weight) in filter.iter().enumerate() {
                    for output in 0..outputs {
                        let (row, at) = (tap / row_taps, tap % row_taps + output);
                        let vectors = (row * arrangement.groups + at / slots) * outputs + output;
                        let element = panel.kernel.position(column) * slots + at % slots;
                        let start = vectors * panel_vector_bytes(panel.kernel);
                        let mut put = |byte: usize, value: u8| lines[panel.line + byte / 64].0[byte % 64] = value;
                        if panel.kernel.wide {
                            let [low, high] = i16::from(weight).to_le_bytes();
                            put(start + element * 2, low);
                            put(start + element * 2 + 1, high);
                        } else {
                            put(start + element, weight as u8);
                        }
                    }
                }
            }
        }

        let filters = || (0..channels).map(|n| &weights[n * taps..][..taps]);
        let column_sums =
            filters().map(|filter| filter.iter().fold(0i32, |sum, &w| sum.wrapping_add(i32::from(w)))).collect();
        let magnitude = filters().map(magnitude_of).collect();
        Ok(PackedDepthwise { isa, channels, kernel_h, kernel_w, arrangement, panels, lines, magnitude, column_sums })
    }

    /// Sum of each channel's filter: what a zero point of the input is multiplied with in the bias.
    pub fn column_sums(&self) -> &[i32] {
        &self.column_sums
    }

    /// The instruction set these weights are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        size_of_val(self.lines.as_slice()) + (self.column_sums.len() + self.magnitude.len()) * 4
    }
}

/// Bytes of one set of a panel's weights: what one output multiplies one group of columns with.
fn panel_vector_bytes(kernel: &DepthwiseKernel) -> usize {
    kernel.width * kernel.slots * if kernel.wide { 2 } else { 1 }
}

/// A depthwise convolution's geometry, prepared for one instruction set.
#[derive(Debug, PartialEq)]
pub struct DepthwiseU8S8 {
    isa: Isa,
    geometry: ConvGeometry,
    arrangement: DepthwiseShape,
    /// Column distances for 1, 2, ... outputs at the end of a row; the last entry is for all of them.
    columns: Vec<Vec<usize>>,
    input_end: usize,
}

impl DepthwiseU8S8 {
    /// Prepares a geometry whose input and output channels are the same.
    pub fn new(isa: Isa, geometry: &ConvGeometry) -> Result<DepthwiseU8S8, Int8Error> {
        if !isa.is_available() {
            return Err(Int8Error::IsaUnavailable { isa });
        }
        let (input, output) = (geometry.input.channels, geometry.output.channels);
        if input != output {
            return Err(Int8Error::ChannelMismatch { input, output });
        }
        let input_end = geometry.check_bordered()?;
        let slots = depthwise_kernels(isa)[0].slots;
        let arrangement = shape_of(geometry, slots);
        let outputs = 1usize << arrangement.outputs_index;
        let distance = |ky: usize, kx: usize| {
            ky * geometry.dilation_h * geometry.input.row_stride
                + kx * geometry.dilation_w * geometry.input.pixel_stride
        };
        // Columns that fill up a group, or belong to outputs beyond the row, have zero weights; they repeat the last
        // one needed so that nothing beyond the window is read.
        let columns_for = |valid: usize| {
            let column = |column: usize| {
                if outputs == 1 {
                    let tap = column.min(geometry.kernel_h * geometry.kernel_w - 1);
                    distance(tap / geometry.kernel_w, tap % geometry.kernel_w)
                } else {
                    distance(0, column.min(geometry.kernel_w - 1 + valid - 1))
                }
            };
            (0..arrangement.groups * slots).map(column).collect()
        };
        let columns = (1..=outputs).map(columns_for).collect();
        Ok(DepthwiseU8S8 { isa, geometry: *geometry, arrangement, columns, input_end })
    }

    /// The geometry this was made for.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// Elements an input buffer must hold, slack included.
    pub fn input_elements(&self) -> usize {
        self.input_end + INPUT_SLACK
    }

    /// Computes the whole output; see [`ConvU8S8::run`](super::ConvU8S8::run), which this mirrors.
    ///
    /// # Panics
    /// When the weights were packed for another shape or instruction set, or a slice is too short.
    pub fn run(&self, weights: &PackedDepthwise, input: &[u8], bias: &[i32], epilogue: Epilogue<'_>) {
        let geometry = &self.geometry;
        assert_eq!(weights.isa, self.isa, "weights were packed for another instruction set");
        assert_eq!(
            (weights.channels, weights.kernel_h, weights.kernel_w, weights.arrangement),
            (geometry.output.channels, geometry.kernel_h, geometry.kernel_w, self.arrangement),
            "weights were packed for another convolution"
        );
        assert_eq!(bias.len(), weights.channels, "one bias a channel");
        if geometry.is_empty() {
            return;
        }
        assert!(
            input.len() >= self.input_elements(),
            "the input buffer holds {} elements and {} are needed, slack included",
            input.len(),
            self.input_elements()
        );
        let bounded = |requant: &super::Requant| !proven_to_convert(&weights.magnitude, bias, requant.multiplier());
        let sink = Sink::new(epilogue, &geometry.output, bounded);
        self.walk(weights, input, bias, &sink);
        sink.shift_stored(self.isa, &geometry.output);
    }

    fn walk(&self, weights: &PackedDepthwise, input: &[u8], bias: &[i32], sink: &Sink<'_>) {
        let geometry = &self.geometry;
        let row_bytes = geometry.input.row_stride * geometry.stride_h;
        // An even number, since row functions may compute two at once.
        let rows_a_block = (BLOCK_BYTES / row_bytes.max(1)).max(2) & !1;
        let mut scratch = Scratch([0; MAX_TILE]);
        let mut params = PanelParams::NEUTRAL;
        let mut tile = Tile::empty();
        for first_row in (0..geometry.output.height).step_by(rows_a_block) {
            let rows = first_row..(first_row + rows_a_block).min(geometry.output.height);
            for panel in &weights.panels {
                let whole_rows = match (sink, panel.kernel.rows_u8) {
                    (Sink::U8 { bounded: false, codes, .. }, Some(rows_u8))
                        if geometry.output.width >= 1 << self.arrangement.outputs_index =>
                    {
                        Some((rows_u8(self.arrangement), codes))
                    }
                    (Sink::U8 { .. } | Sink::Add { .. } | Sink::F32 { .. }, _) => None,
                };
                panel.load(&mut params, weights, bias, sink.multiplier(), whole_rows.is_some());
                if let Some((function, codes)) = whole_rows {
                    let span = self.rows_of(panel, &rows, input, sink);
                    // SAFETY: `new` proved the instruction set and `run` that the input reaches `input_end` plus slack
                    // and the output its own end; the panel was packed for this arrangement.
                    unsafe { function(&span, weights.lines[panel.line..].as_ptr(), &params, codes) };
                    continue;
                }
                tile.channels = panel.channels;
                for y in rows.clone() {
                    self.row(weights, panel, y, input, sink, &params, &mut tile, &mut scratch);
                }
            }
        }
    }

    /// Some output rows of a panel as the whole-row functions take them.
    fn rows_of(&self, panel: &DepthwisePanel, rows: &Range<usize>, input: &[u8], sink: &Sink<'_>) -> DepthwiseRows<'_> {
        let geometry = &self.geometry;
        let input_row_step = geometry.stride_h * geometry.input.row_stride;
        DepthwiseRows {
            input: input.as_ptr().wrapping_add(geometry.first_element() + rows.start * input_row_step + panel.first),
            input_step: geometry.stride_w * geometry.input.pixel_stride,
            input_row_step,
            row_step: geometry.dilation_h * geometry.input.row_stride,
            kernel_h: self.arrangement.kernel_h,
            columns: self.columns.last().map_or(&[], Vec::as_slice),
            output: sink.output(geometry.output.at(rows.start, 0) + panel.first),
            output_step: geometry.output.pixel_stride,
            output_row_step: geometry.output.row_stride,
            width: geometry.output.width,
            rows: rows.len(),
            channels: panel.channels,
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the state of one loop nest, split for reading")]
    fn row(
        &self,
        weights: &PackedDepthwise,
        panel: &DepthwisePanel,
        y: usize,
        input: &[u8],
        sink: &Sink<'_>,
        params: &PanelParams,
        tile: &mut Tile,
        scratch: &mut Scratch,
    ) {
        let geometry = &self.geometry;
        let step = geometry.stride_w * geometry.input.pixel_stride;
        let row = geometry.first_element() + y * geometry.stride_h * geometry.input.row_stride + panel.first;
        let outputs = 1usize << self.arrangement.outputs_index;
        let accumulate = panel.kernel.accumulate[self.arrangement.outputs_index];
        let lines = weights.lines[panel.line..].as_ptr();
        let mut x = 0;
        while x < geometry.output.width {
            tile.rows = outputs.min(geometry.output.width - x);
            let window = DepthwiseWindow {
                input: input.as_ptr().wrapping_add(row + x * step),
                row_step: geometry.dilation_h * geometry.input.row_stride,
                kernel_h: self.arrangement.kernel_h,
                columns: &self.columns[tile.rows - 1],
            };
            for r in 0..tile.rows {
                tile.output[r] = sink.output(geometry.output.at(y, x + r) + panel.first);
                tile.residual[r] = sink.residual(y, x + r, panel.first).0;
            }
            // SAFETY: `new` proved the instruction set and `run` that the input reaches `input_end` plus slack, which
            // covers a panel's width behind the last column of every window; the panel was packed for this function.
            unsafe { accumulate(&window, lines, params, scratch) };
            // SAFETY: output and residual pointers lie in the sink's buffers, whose lengths `Sink::new` checked.
            unsafe { sink.store(panel.kernel.stores, tile, scratch, params) };
            x += outputs;
        }
    }
}

impl DepthwisePanel {
    /// Biases go where the accumulators are; multipliers as well, or where sums stored to scratch are.
    fn load(
        &self,
        params: &mut PanelParams,
        weights: &PackedDepthwise,
        bias: &[i32],
        multiplier: &[f32],
        in_registers: bool,
    ) {
        let channels = self.first..self.first + self.channels;
        let mut offset = [0; MAX_PANEL];
        let (biases, sums) = (&bias[channels.clone()], &weights.column_sums[channels.clone()]);
        for (to, (&bias, &sum)) in offset.iter_mut().zip(biases.iter().zip(sums)) {
            *to = offset_bias(bias, sum, self.kernel.input_offset);
        }
        self.kernel.arrange(&offset[..self.channels], &mut params.bias, true);
        self.kernel.arrange(&multiplier[channels], &mut params.multiplier, in_registers);
    }
}
