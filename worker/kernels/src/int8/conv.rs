//! Dense convolution and matrix product, u8 x s8: walks pixels and panels and hands tiles to the microkernels.

use super::arch::{
    Accumulate, Depth, MAX_TILE, MAX_TILE_ROWS, PanelParams, Scratch, Span, SpanU8, Spans, Stores, Tile, offset_bias,
};
use super::epilogue::Codes;
use super::geometry::check_image;
use super::pack::{Line, Panel};
use super::{AddU8, ConvGeometry, DepthRuns, Epilogue, INPUT_SLACK, Int8Error, K_GROUP, PackedWeights};
use crate::{Image, Isa, float};
use std::ops::Range;

/// Above this many bytes of weights a layer walks all its pixels once a panel, so that weights are read once;
/// below, all panels once a block of pixels, so that inputs are.
const STREAMED_WEIGHT_BYTES: usize = 512 * 1024;

/// Depth groups up to which finishing a tile costs as much as its sums.
const SHALLOW_GROUPS: usize = 12;

/// The same with a residual to add.
const SHALLOW_ADD_GROUPS: usize = 40;

/// Depth groups up to which spans of one row each beat tiles that cross rows, and the width a row needs.
const SPAN_GROUPS: usize = 64;
const SPAN_WIDTH: usize = 24;

/// Pixels a block comes in multiples of; itself a multiple of every tile's rows.
const BLOCK_PIXELS: usize = 96;

/// Bytes of input up to which a block may grow, to stay in the first-level cache beside a panel.
const BLOCK_BYTES: usize = 16 * 1024;

/// A convolution's geometry, prepared for one instruction set.
#[derive(Debug, PartialEq)]
pub struct ConvU8S8 {
    isa: Isa,
    geometry: ConvGeometry,
    runs: DepthRuns,
    /// Distance of each run of depth from the first byte under a window.
    run_offsets: Vec<usize>,
    run_groups: usize,
    /// One past the last input element a window covers.
    input_end: usize,
}

impl ConvU8S8 {
    /// Prepares a geometry. Cheap; weights are packed elsewhere and shared.
    pub fn new(isa: Isa, geometry: &ConvGeometry) -> Result<ConvU8S8, Int8Error> {
        if !isa.is_available() {
            return Err(Int8Error::IsaUnavailable { isa });
        }
        let input_end = geometry.check_bordered()?;
        let input = &geometry.input;
        let row = |ky: usize| ky * geometry.dilation_h * input.row_stride;
        let (run_offsets, run_length): (Vec<usize>, usize) = if geometry.row_is_contiguous() {
            ((0..geometry.kernel_h).map(row).collect(), geometry.kernel_w * input.channels)
        } else {
            let column = |kx: usize| kx * geometry.dilation_w * input.pixel_stride;
            let taps = (0..geometry.kernel_h).flat_map(|ky| (0..geometry.kernel_w).map(move |kx| (ky, kx)));
            (taps.map(|(ky, kx)| row(ky) + column(kx)).collect(), input.channels)
        };
        Ok(ConvU8S8 {
            isa,
            geometry: *geometry,
            runs: geometry.depth_runs(),
            run_offsets,
            run_groups: run_length.div_ceil(K_GROUP),
            input_end,
        })
    }

    /// The geometry this was made for.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// Elements an input buffer must hold, slack included.
    pub fn input_elements(&self) -> usize {
        self.input_end + INPUT_SLACK
    }

    /// Computes the whole output.
    ///
    /// `bias` holds one i32 a filter, `-zero_point x column_sum` included.
    ///
    /// # Panics
    /// When the weights were packed for another shape or instruction set, or a slice is shorter than the geometry
    /// says (the input by [`INPUT_SLACK`] more): mistakes of the caller, never of data.
    pub fn run(&self, weights: &PackedWeights, input: &[u8], bias: &[i32], epilogue: Epilogue<'_>) {
        let geometry = &self.geometry;
        let shape = weights.shape();
        assert_eq!(weights.isa, self.isa, "weights were packed for another instruction set");
        assert_eq!(
            (shape.out_channels, shape.kernel_h, shape.kernel_w, shape.channels),
            (geometry.output.channels, geometry.kernel_h, geometry.kernel_w, geometry.input.channels),
            "weights were packed for another convolution"
        );
        assert_eq!(
            weights.groups,
            self.run_offsets.len() * self.run_groups,
            "weights were packed for other depth runs"
        );
        assert!(weights.runs == self.runs || geometry.input.channels.is_multiple_of(K_GROUP), "other depth runs");
        assert_eq!(bias.len(), shape.out_channels, "one bias a filter");
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
        if !self.walk(weights, input, bias, &sink) {
            sink.shift_stored(self.isa, &geometry.output);
        }
    }

    /// Returns whether the sink's shift has been added.
    fn walk(&self, weights: &PackedWeights, input: &[u8], bias: &[i32], sink: &Sink<'_>) -> bool {
        let pixels = self.geometry.output.pixels();
        let streamed = size_of_val(weights.lines.as_slice()) > STREAMED_WEIGHT_BYTES;
        let input_step = self.geometry.stride_w * self.geometry.input.pixel_stride;
        let blocks = (BLOCK_BYTES / (BLOCK_PIXELS * input_step).max(1)).max(1);
        let block = if streamed { pixels } else { blocks * BLOCK_PIXELS };
        let span_pixels = self.span_pixels(weights, sink);
        let mut shifted = true;

        let mut scratch = Scratch([0; MAX_TILE]);
        let mut params = PanelParams::NEUTRAL;
        for done in (0..pixels).step_by(block) {
            let block = done..(done + block).min(pixels);
            for panel in &weights.panels {
                params.load(panel, weights.column_sums(), bias, sink);
                let lines = weights.lines[panel.line..].as_ptr();
                let finish =
                    panel.kernel.spans.as_ref().and_then(|spans| SpanFinish::choose(spans, sink, weights.groups));
                match (span_pixels, finish) {
                    (Some(span_pixels), Some(finish)) => {
                        self.spans(panel, &finish, span_pixels, block.clone(), (input, lines), sink, &params);
                    }
                    (None, _) | (_, None) => {
                        shifted = false;
                        self.tiles(panel, block.clone(), (input, lines), sink, &params, &mut scratch);
                    }
                }
            }
        }
        shifted
    }

    /// How many pixels at a constant distance follow each other, where the span functions apply and pay.
    fn span_pixels(&self, weights: &PackedWeights, sink: &Sink<'_>) -> Option<usize> {
        let ConvGeometry { input, output, stride_h, stride_w, .. } = &self.geometry;
        let even = |image: &Image| output.height == 1 || image.row_stride == output.width * image.pixel_stride;
        let residual_is_even = match sink {
            Sink::Add { image, .. } => even(image),
            Sink::U8 { .. } | Sink::F32 { .. } => true,
        };
        let input_is_even =
            output.height == 1 || stride_h * input.row_stride == output.width * stride_w * input.pixel_stride;
        if input_is_even && residual_is_even && even(output) {
            return Some(output.pixels());
        }
        // Tiles that cross rows waste less at the ends of short rows, and deep ones do not feel their own cost.
        (output.width >= SPAN_WIDTH && weights.groups <= SPAN_GROUPS).then_some(output.width)
    }

    /// The pixels of a block, span by span.
    #[allow(clippy::too_many_arguments, reason = "the state of one loop nest, split for reading")]
    fn spans(
        &self,
        panel: &Panel,
        finish: &SpanFinish<'_>,
        span_pixels: usize,
        block: Range<usize>,
        (input, lines): (&[u8], *const Line),
        sink: &Sink<'_>,
        params: &PanelParams,
    ) {
        let geometry = &self.geometry;
        let depth = Depth { runs: &self.run_offsets, groups: self.run_groups };
        let mut at = block.start;
        while at < block.end {
            let end = ((at / span_pixels + 1) * span_pixels).min(block.end);
            while at < end {
                let left = end - at;
                let rows = rows_of_tile(left, finish.mr);
                let pixels = full_tiles(left, finish.mr).max(1) * rows;
                let (y, x) = (at / geometry.output.width, at % geometry.output.width);
                let (residual, residual_step) = sink.residual(y, x, panel.first);
                let span = Span {
                    input: input.as_ptr().wrapping_add(self.input_element(y, x)),
                    input_step: geometry.stride_w * geometry.input.pixel_stride,
                    output: sink.output(geometry.output.at(y, x) + panel.first),
                    output_step: geometry.output.pixel_stride * sink.element_bytes(),
                    residual,
                    residual_step,
                    pixels,
                    channels: panel.channels,
                    codes: finish.codes,
                    add: finish.add,
                    bounds: finish.bounds,
                };
                // SAFETY: as for the two halves in `tiles`; `span_pixels` says that these pixels are at a constant
                // distance, `bounded` that the sums convert.
                unsafe { finish.functions[rows - 1](&span, depth, lines, params) };
                at += pixels;
            }
        }
    }

    /// The pixels of a block, tile by tile.
    fn tiles(
        &self,
        panel: &Panel,
        block: Range<usize>,
        (input, lines): (&[u8], *const Line),
        sink: &Sink<'_>,
        params: &PanelParams,
        scratch: &mut Scratch,
    ) {
        let depth = Depth { runs: &self.run_offsets, groups: self.run_groups };
        let mut tile = Tile::empty();
        tile.channels = panel.channels;
        let mut cursor = Cursor::new(self, panel.first, block.start);
        let mut left = block.len();
        while left > 0 {
            tile.rows = rows_of_tile(left, panel.kernel.mr());
            left -= tile.rows;
            cursor.fill(&mut tile, input.as_ptr(), sink);
            let accumulate: Accumulate = panel.kernel.accumulate[tile.rows - 1];
            // SAFETY: `new` proved the instruction set, `run` that the input reaches `input_end` plus slack, which
            // covers each window and the rest of its last depth group; the panel was packed with `groups` groups by
            // the kernel that reads it.
            unsafe { accumulate(&tile, depth, lines, params, scratch) };
            // SAFETY: the cursor's pointers lie in the sink's buffers, whose lengths `Sink::new` checked.
            unsafe { sink.store(&panel.kernel.stores, &tile, scratch, params) };
        }
    }

    /// Element index of the first tap of an output pixel's window.
    fn input_element(&self, y: usize, x: usize) -> usize {
        let ConvGeometry { input, stride_h, stride_w, .. } = &self.geometry;
        self.geometry.first_element() + y * stride_h * input.row_stride + x * stride_w * input.pixel_stride
    }
}

/// What the spans of a panel run and with what.
struct SpanFinish<'a> {
    functions: &'static [SpanU8],
    /// Rows of a full tile.
    mr: usize,
    codes: &'a Codes,
    add: &'a AddU8,
    bounds: (f32, f32),
}

impl<'a> SpanFinish<'a> {
    /// `None` where the sink or the kernel has no span functions.
    fn choose(spans: &Spans, sink: &'a Sink<'_>, groups: usize) -> Option<SpanFinish<'a>> {
        let mut bounds = (f32::NEG_INFINITY, f32::INFINITY);
        let (functions, shallow_groups, codes, add) = match sink {
            Sink::U8 { bounded: false, codes, .. } => (spans.u8, SHALLOW_GROUPS, codes, &AddU8::NOTHING),
            Sink::Add { bounded: false, codes, add, .. } => (spans.add, SHALLOW_ADD_GROUPS, codes, *add),
            Sink::F32 { bounds: all, .. } => {
                bounds = *all;
                (spans.f32, SHALLOW_GROUPS, &Codes::NOTHING, &AddU8::NOTHING)
            }
            Sink::U8 { bounded: true, .. } | Sink::Add { bounded: true, .. } => return None,
        };
        let mr = if groups <= shallow_groups { spans.shallow_rows } else { functions.len() };
        (!functions.is_empty() && groups <= spans.groups_max).then_some(SpanFinish {
            functions,
            mr,
            codes,
            add,
            bounds,
        })
    }
}

/// Full tiles while at least two are left, then two even ones, so that no tile is left with a single row.
fn rows_of_tile(left: usize, mr: usize) -> usize {
    if left >= 2 * mr || left == mr {
        mr
    } else if left > mr {
        left.div_ceil(2)
    } else {
        left
    }
}

/// How many full tiles [`rows_of_tile`] takes off before it comes to uneven ones.
fn full_tiles(left: usize, mr: usize) -> usize {
    if left.is_multiple_of(mr) { left / mr } else { (left / mr).saturating_sub(1) }
}

/// Whether no sum can reach a float that the conversion to i32 would not take.
pub(crate) fn proven_to_convert(magnitude: &[f32], bias: &[i32], multiplier: &[f32]) -> bool {
    let limit = (1u32 << 30) as f32;
    magnitude.iter().zip(bias).zip(multiplier).all(|((m, b), f)| (m + b.unsigned_abs() as f32) * f.abs() < limit)
}

impl PanelParams {
    fn load(&mut self, panel: &Panel, column_sums: &[i32], bias: &[i32], sink: &Sink<'_>) {
        let channels = panel.first..panel.first + panel.channels;
        self.bias[..panel.channels].copy_from_slice(&bias[channels.clone()]);
        if panel.kernel.input_offset != 0 {
            for (to, &sum) in self.bias.iter_mut().zip(&column_sums[channels.clone()]) {
                *to = offset_bias(*to, sum, panel.kernel.input_offset);
            }
        }
        self.multiplier[..panel.channels].copy_from_slice(&sink.multiplier()[channels.clone()]);
        if let Sink::F32 { shift: Some(shift), .. } = sink {
            self.shift[..panel.channels].copy_from_slice(&shift[channels]);
        }
        self.bias[panel.channels..].fill(0);
        self.multiplier[panel.channels..].fill(0.0);
    }
}

impl Tile {
    pub(crate) fn empty() -> Tile {
        Tile {
            rows: 0,
            channels: 0,
            input: [std::ptr::null(); MAX_TILE_ROWS],
            output: [std::ptr::null_mut(); MAX_TILE_ROWS],
            residual: [std::ptr::null(); MAX_TILE_ROWS],
        }
    }
}

/// An epilogue whose buffers have been checked, as the tiles want it.
pub(crate) enum Sink<'a> {
    U8 {
        multiplier: &'a [f32],
        codes: Codes,
        bounded: bool,
        output: *mut u8,
    },
    Add {
        multiplier: &'a [f32],
        codes: Codes,
        bounded: bool,
        add: &'a AddU8,
        residual: *const u8,
        image: Image,
        output: *mut u8,
    },
    F32 {
        multiplier: &'a [f32],
        shift: Option<&'a [f32]>,
        bounds: (f32, f32),
        output: *mut f32,
    },
}

impl<'a> Sink<'a> {
    /// Checks an epilogue against the output it is to fill; `bounded` says whether a requantization needs the clamp
    /// in float.
    pub(crate) fn new(epilogue: Epilogue<'a>, out: &Image, bounded: impl Fn(&super::Requant) -> bool) -> Sink<'a> {
        let fits = |length: usize| {
            assert!(length >= out.end(), "the output buffer holds {length} elements and {} are needed", out.end());
        };
        let per_channel = |factors: &[f32]| {
            assert_eq!(factors.len(), out.channels, "one multiplier or scale an output channel");
        };
        match epilogue {
            Epilogue::U8 { requant, output } => {
                fits(output.len());
                per_channel(requant.multiplier());
                let bounded = bounded(requant);
                Sink::U8 {
                    multiplier: requant.multiplier(),
                    codes: requant.codes(),
                    bounded,
                    output: output.as_mut_ptr(),
                }
            }
            Epilogue::U8Add { requant, add, residual, residual_image, output } => {
                fits(output.len());
                per_channel(requant.multiplier());
                assert_eq!(
                    (residual_image.height, residual_image.width, residual_image.channels),
                    (out.height, out.width, out.channels),
                    "the residual has the output's extents"
                );
                assert!(check_image("residual", &residual_image).is_ok(), "the residual's strides overlap");
                assert!(residual.len() >= residual_image.end(), "the residual buffer is too short");
                Sink::Add {
                    multiplier: requant.multiplier(),
                    codes: requant.codes(),
                    bounded: bounded(requant) || !add.converts(),
                    add,
                    residual: residual.as_ptr(),
                    image: residual_image,
                    output: output.as_mut_ptr(),
                }
            }
            Epilogue::U8Accumulate { requant, add, output } => {
                fits(output.len());
                per_channel(requant.multiplier());
                let output = output.as_mut_ptr();
                // Every element of the output is read right before it is written.
                Sink::Add {
                    multiplier: requant.multiplier(),
                    codes: requant.codes(),
                    bounded: bounded(requant) || !add.converts(),
                    add,
                    residual: output.cast_const(),
                    image: *out,
                    output,
                }
            }
            Epilogue::F32 { scale, shift, lo, hi, output } => {
                fits(output.len());
                per_channel(scale);
                shift.inspect(|shift| per_channel(shift));
                Sink::F32 { multiplier: scale, shift, bounds: (lo, hi), output: output.as_mut_ptr() }
            }
        }
    }

    pub(crate) fn multiplier(&self) -> &'a [f32] {
        match self {
            Sink::U8 { multiplier, .. } | Sink::Add { multiplier, .. } | Sink::F32 { multiplier, .. } => multiplier,
        }
    }

    /// Bytes of an output element.
    fn element_bytes(&self) -> usize {
        match self {
            Sink::U8 { .. } | Sink::Add { .. } => 1,
            Sink::F32 { .. } => size_of::<f32>(),
        }
    }

    /// Adds the shift, and clamps, where the stores of tiles have written plain products.
    pub(crate) fn shift_stored(&self, isa: Isa, image: &Image) {
        let Sink::F32 { shift: Some(shift), bounds: (lo, hi), output, .. } = self else { return };
        for (y, x) in (0..image.height).flat_map(|y| (0..image.width).map(move |x| (y, x))) {
            // SAFETY: `new` checked that the image lies in the output, which this sink has borrowed; nothing else
            // refers to it while this pixel is written.
            let pixel = unsafe { std::slice::from_raw_parts_mut(output.add(image.at(y, x)), image.channels) };
            float::binary_in_place(isa, float::Binary::Add, pixel, float::Right::Same(shift));
            float::unary_in_place(isa, float::Unary::Clamp { lo: *lo, hi: *hi }, pixel);
        }
    }

    /// The address of an output element.
    pub(crate) fn output(&self, element: usize) -> *mut u8 {
        match self {
            Sink::U8 { output, .. } | Sink::Add { output, .. } => output.wrapping_add(element),
            Sink::F32 { output, .. } => output.wrapping_add(element).cast(),
        }
    }

    /// The address of the residual of an output pixel's channel, and the distances to its neighbours.
    pub(crate) fn residual(&self, y: usize, x: usize, channel: usize) -> (*const u8, usize) {
        match self {
            Sink::Add { residual, image, .. } => (residual.wrapping_add(image.at(y, x) + channel), image.pixel_stride),
            Sink::U8 { .. } | Sink::F32 { .. } => (std::ptr::null(), 0),
        }
    }

    /// Finishes a tile.
    ///
    /// # Safety
    /// The stores' instruction set is present and the tile's output and residual pointers lie in this sink's buffers
    /// with `tile.channels` elements behind them.
    pub(crate) unsafe fn store(&self, stores: &Stores, tile: &Tile, scratch: &Scratch, params: &PanelParams) {
        // SAFETY: passed on from the caller; the unclamped form is chosen only where its bound was proven.
        unsafe {
            match self {
                Sink::U8 { codes, bounded: true, .. } => (stores.u8)(tile, scratch, params, codes),
                Sink::U8 { codes, bounded: false, .. } => (stores.u8_proven)(tile, scratch, params, codes),
                Sink::Add { codes, add, .. } => (stores.add)(tile, scratch, params, codes, add),
                // What is to be shifted is clamped behind that.
                Sink::F32 { shift: Some(_), .. } => {
                    (stores.f32)(tile, scratch, params, (f32::NEG_INFINITY, f32::INFINITY));
                }
                Sink::F32 { shift: None, bounds, .. } => (stores.f32)(tile, scratch, params, *bounds),
            }
        }
    }
}

/// Walks output pixels in row-major order, carrying the three addresses that belong to each.
struct Cursor<'a> {
    conv: &'a ConvU8S8,
    channel: usize,
    y: usize,
    x: usize,
}

impl<'a> Cursor<'a> {
    fn new(conv: &'a ConvU8S8, channel: usize, pixel: usize) -> Cursor<'a> {
        let width = conv.geometry.output.width;
        Cursor { conv, channel, y: pixel / width, x: pixel % width }
    }

    /// Fills the tile's pointers for its next `rows` pixels and moves past them.
    #[inline]
    fn fill(&mut self, tile: &mut Tile, input: *const u8, sink: &Sink<'_>) {
        let geometry = &self.conv.geometry;
        let input_step = geometry.stride_w * geometry.input.pixel_stride;
        let output_step = geometry.output.pixel_stride * sink.element_bytes();
        let mut row = 0;
        while row < tile.rows {
            let span = (geometry.output.width - self.x).min(tile.rows - row);
            let mut source = input.wrapping_add(self.conv.input_element(self.y, self.x));
            let mut target = sink.output(geometry.output.at(self.y, self.x) + self.channel);
            let (mut residual, residual_step) = sink.residual(self.y, self.x, self.channel);
            for r in row..row + span {
                tile.input[r] = source;
                tile.output[r] = target;
                tile.residual[r] = residual;
                source = source.wrapping_add(input_step);
                target = target.wrapping_add(output_step);
                residual = residual.wrapping_add(residual_step);
            }
            row += span;
            self.x += span;
            if self.x == geometry.output.width {
                self.x = 0;
                self.y += 1;
            }
        }
    }
}
