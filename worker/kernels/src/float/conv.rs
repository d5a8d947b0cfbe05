//! Dense float convolution and matrix product: an implicit matrix product over NHWC images, no gathered copy of the input.
//!
//! Each output is `acc = 0; for (kh, kw, c) ascending: acc = fma(x, w, acc); y = acc + bias; y += residual;
//! y = if y > lo { y } else { lo }; y = if y < hi { y } else { hi }`.

use crate::float::pack::{PackedF32, Panels, WeightLayout};
use crate::float::tile::{COLUMNS_MAX, ROWS_MAX, Scratch, TileInput, TileOutput, Tiles, tiles};
use crate::{ConvGeometry, GeometryError, Image, Isa, image_fits};

/// Packed weights up to this size stay in a core's second-level cache beside the activations: then every panel visits
/// a tile's pixels before the next tile; beyond it each panel is read once for all pixels.
const RESIDENT_WEIGHT_BYTES: usize = 384 << 10;

/// Addresses this far apart share a set of the first-level cache on every machine this is meant for.
const PAGE_BYTES: usize = 4096;
/// Most rows of a tile whose pixels share a set: the set's eight lines less one for the weights that pass through.
const ROWS_OF_ONE_SET: usize = 7;

/// What happens to a finished sum before it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// One value an output channel, added to the sum.
    pub bias: &'a [f32],
    /// Added after the bias: a buffer and where its image (of the output's extents) lies in it.
    pub residual: Option<(&'a [f32], Image)>,
    /// Whether what the output holds is the residual; only dense convolutions, without another one.
    pub accumulate: bool,
    /// `y = if y > lo { y } else { lo }`; negative infinity keeps everything but NaN, which becomes `lo`.
    pub lo: f32,
    /// `y = if y < hi { y } else { hi }`.
    pub hi: f32,
}

impl<'a> Epilogue<'a> {
    /// A bias and nothing else.
    pub fn bias(bias: &'a [f32]) -> Epilogue<'a> {
        Epilogue { bias, residual: None, accumulate: false, lo: f32::NEG_INFINITY, hi: f32::INFINITY }
    }

    /// Asserts that bias and residual fit an output image.
    pub(super) fn check(&self, output: &Image) {
        assert_eq!(self.bias.len(), output.channels, "one bias an output channel");
        assert!(!(self.accumulate && self.residual.is_some()), "one residual at a time");
        if let Some((values, image)) = &self.residual {
            let (height, width, channels) = (image.height, image.width, image.channels);
            assert_eq!((height, width, channels), (output.height, output.width, output.channels), "residual extents");
            assert!(image_fits(image, values.len()), "the residual image does not lie in its buffer");
        }
    }
}

/// A dense convolution of one geometry, ready to run on one instruction set.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvF32 {
    isa: Isa,
    geometry: ConvGeometry,
    runs: Vec<usize>,
    run_len: usize,
}

impl ConvF32 {
    /// Prepares a geometry; the buffers are checked against it at every run.
    ///
    /// # Errors
    ///
    /// The geometry's own defects, with buffers assumed to be as long as needed.
    pub fn new(isa: Isa, geometry: &ConvGeometry) -> Result<ConvF32, GeometryError> {
        geometry.validate(usize::MAX, usize::MAX)?;
        let g = geometry;
        let row_is_one_run = g.dilation_w * g.input.pixel_stride == g.input.channels;
        let (columns, run_len) =
            if row_is_one_run { (1, g.kernel_w * g.input.channels) } else { (g.kernel_w, g.input.channels) };
        let mut runs = Vec::new();
        if !geometry.is_empty() {
            for kh in 0..g.kernel_h {
                for kw in 0..columns {
                    runs.push(kh * g.dilation_h * g.input.row_stride + kw * g.dilation_w * g.input.pixel_stride);
                }
            }
        }
        Ok(ConvF32 { isa, geometry: *geometry, runs, run_len })
    }

    /// The geometry it was made for.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// Convolves `input` with `weights` into `output`; elements outside the output image's interior are not written.
    ///
    /// A group of a grouped convolution is one call with channel-slice images. Buffers that start on a 64-byte line
    /// with a channel count of a multiple of 16 run fastest.
    ///
    /// # Panics
    ///
    /// If a buffer is too short for the geometry, or the weights were packed for another shape or instruction set.
    pub fn run(&self, weights: &PackedF32, input: &[f32], epilogue: &Epilogue<'_>, output: &mut [f32]) {
        run_window(self.isa, &self.geometry, &self.runs, self.run_len, weights, input, epilogue, output);
    }
}

/// A matrix product with a right operand that is not constant: `output[m][n] = sum over k of a[m][k] * b[k][n]`.
///
/// `b` is packed into `scratch` first, which allocates only when `scratch` was not
/// [reserved](PackedF32::reserve). The geometry is [`ConvGeometry::matrix`]; `b_stride` is counted in elements between
/// rows of `b` as `layout` lays them out.
///
/// # Panics
///
/// If a slice is too short for the geometry or `scratch` belongs to another instruction set.
#[allow(clippy::too_many_arguments)]
pub fn gemm_f32(
    isa: Isa,
    geometry: &ConvGeometry,
    a: &[f32],
    b: &[f32],
    layout: WeightLayout,
    b_stride: usize,
    scratch: &mut PackedF32,
    epilogue: &Epilogue<'_>,
    output: &mut [f32],
) {
    let depth = geometry.input.channels;
    assert_eq!((geometry.kernel_h, geometry.kernel_w), (1, 1), "a matrix product is a 1x1 window");
    scratch.repack(geometry.output.channels, depth, layout, b_stride, b);
    run_window(isa, geometry, &[0], depth, scratch, a, epilogue, output);
}

#[allow(clippy::too_many_arguments)]
fn run_window(
    isa: Isa,
    geometry: &ConvGeometry,
    runs: &[usize],
    run_len: usize,
    weights: &PackedF32,
    input: &[f32],
    epilogue: &Epilogue<'_>,
    output: &mut [f32],
) {
    if let Err(error) = geometry.validate(input.len(), output.len()) {
        panic!("{error}");
    }
    if geometry.is_empty() {
        return;
    }
    assert_eq!(weights.isa(), isa, "weights packed for another instruction set");
    assert_eq!(weights.out_channels(), geometry.output.channels, "weights packed for another channel count");
    assert_eq!(weights.depth(), runs.len() * run_len, "weights packed for another depth");
    epilogue.check(&geometry.output);

    let mut tile = Tile::new(isa, geometry, runs, run_len, weights, input, epilogue, output);
    if weights.bytes() <= RESIDENT_WEIGHT_BYTES {
        tile.rewind();
        while tile.place() {
            for panel in 0..weights.panels() {
                tile.run(panel);
            }
        }
    } else {
        for panel in 0..weights.panels() {
            tile.rewind();
            while tile.place() {
                tile.run(panel);
            }
        }
    }
}

/// A tile that walks over the output pixels in row-major order and, wherever it is placed, runs panel by panel.
struct Tile<'a> {
    tiles: &'static Tiles,
    geometry: &'a ConvGeometry,
    origin: *const f32,
    residual_origin: *const f32,
    residual: Image,
    output_origin: *mut f32,
    bias: &'a [f32],
    panels: Panels<'a>,
    /// Rows of every tile, but for the first `taller` tiles, which have one more: a short last tile would not fill the
    /// multiply-add pipelines.
    rows: usize,
    taller: usize,
    /// Tiles placed since the start, and all there are.
    placed: usize,
    count: usize,
    /// The pixel after the last one placed.
    y: usize,
    x: usize,
    input: TileInput<'a>,
    output: TileOutput,
    scratch: Scratch,
}

impl<'a> Tile<'a> {
    #[allow(clippy::too_many_arguments)]
    fn new(
        isa: Isa,
        geometry: &'a ConvGeometry,
        runs: &'a [usize],
        run_len: usize,
        weights: &'a PackedF32,
        input: &'a [f32],
        epilogue: &Epilogue<'a>,
        output: &mut [f32],
    ) -> Tile<'a> {
        let g = geometry;
        let tiles = tiles(isa);
        let pixels = g.output.pixels();
        // Pixels a multiple of a page apart fall into one set of the first-level cache, which holds eight lines.
        let step_bytes = g.stride_w * g.input.pixel_stride * size_of::<f32>();
        let rows_max = if step_bytes.is_multiple_of(PAGE_BYTES) { tiles.rows.min(ROWS_OF_ONE_SET) } else { tiles.rows };
        let count = pixels.div_ceil(rows_max);
        // `validate` showed that the first tap of the first output lies in the input.
        let first_tap = g.input.offset - g.pad_top * g.input.row_stride - g.pad_left * g.input.pixel_stride;
        let origin = input[first_tap..].as_ptr();
        let output_origin = output[g.output.offset..].as_mut_ptr();
        let (residual_origin, residual) = match &epilogue.residual {
            Some((values, image)) => (values[image.offset..].as_ptr(), *image),
            // Every element of the output is read, if at all, right before it is written.
            None => (output_origin.cast_const(), g.output),
        };
        Tile {
            tiles,
            geometry,
            origin,
            residual_origin,
            residual,
            output_origin,
            bias: epilogue.bias,
            panels: weights.walk(),
            rows: pixels / count,
            taller: pixels % count,
            placed: 0,
            count,
            y: 0,
            x: 0,
            input: TileInput { pixels: [origin; ROWS_MAX], runs, run_len, weights: origin },
            output: TileOutput {
                rows: 0,
                first: 0,
                columns: 0,
                scratch_row: 0,
                bias: epilogue.bias.as_ptr(),
                lo: epilogue.lo,
                hi: epilogue.hi,
                residual: (epilogue.accumulate || epilogue.residual.is_some()).then_some([residual_origin; ROWS_MAX]),
                output: [output_origin; ROWS_MAX],
            },
            scratch: Scratch([0.0; ROWS_MAX * COLUMNS_MAX]),
        }
    }

    /// Goes back to the first pixel.
    fn rewind(&mut self) {
        (self.placed, self.y, self.x) = (0, 0, 0);
    }

    /// Moves to the next pixels; false when there are none left.
    fn place(&mut self) -> bool {
        if self.placed == self.count {
            return false;
        }
        let g = self.geometry;
        let rows = self.rows + usize::from(self.placed < self.taller);
        self.output.rows = rows;
        let (row_step, step) = (g.stride_h * g.input.row_stride, g.stride_w * g.input.pixel_stride);
        for row in 0..rows {
            // SAFETY: `validate` showed that every pixel of the output, and every tap of it, lies in its buffer, and
            // `Epilogue::check` the same for the residual.
            unsafe {
                self.input.pixels[row] = self.origin.add(self.y * row_step + self.x * step);
                self.output.output[row] =
                    self.output_origin.add(self.y * g.output.row_stride + self.x * g.output.pixel_stride);
                if let Some(residual) = &mut self.output.residual {
                    let at = self.y * self.residual.row_stride + self.x * self.residual.pixel_stride;
                    residual[row] = self.residual_origin.add(at);
                }
            }
            self.x += 1;
            if self.x == g.output.width {
                (self.x, self.y) = (0, self.y + 1);
            }
        }
        self.placed += 1;
        true
    }

    /// Computes one panel's output channels of the pixels it is placed at.
    #[inline]
    fn run(&mut self, panel: usize) {
        let panel = self.panels.get(panel);
        self.input.weights = panel.weights.as_ptr();
        self.output.first = panel.first;
        self.output.columns = panel.columns;
        self.output.scratch_row = panel.row;
        self.output.bias = self.bias[panel.first..panel.first + panel.columns].as_ptr();
        let registers = usize::from(panel.row != self.tiles.lanes);
        let accumulate = self.tiles.accumulate[registers][self.output.rows - 1];
        // SAFETY: the tiles belong to an instruction set that `path` found on this machine; every tap of the placed
        // pixels lies in the input, the panel holds one row a product, the scratch holds the largest tile, and the
        // panel's outputs, biases and residuals exist.
        unsafe {
            accumulate(&self.input, self.scratch.0.as_mut_ptr());
            (self.tiles.finish)(&self.output, self.scratch.0.as_ptr());
        }
    }
}
