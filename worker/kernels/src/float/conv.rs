//! Dense float convolution and matrix product: an implicit matrix product over NHWC images, no gathered copy of the input.
//!
//! Each output is `acc = 0; for (kh, kw, c) ascending: acc = fma(x, w, acc); y = acc + bias; y += residual;
//! y = if y > lo { y } else { lo }; y = if y < hi { y } else { hi }`.

use crate::float::pack::{PackedF32, WeightLayout};
use crate::float::tile::{COLUMNS_MAX, ROWS_MAX, Scratch, TileInput, TileOutput, Tiles, tiles};
use crate::{ConvGeometry, GeometryError, Image, Isa, image_fits};

/// Packed weights up to this size stay in a core's second-level cache beside the activations: then every panel visits
/// a tile's pixels before the next tile; beyond it each panel is read once for all pixels.
const RESIDENT_WEIGHT_BYTES: usize = 384 << 10;

/// What happens to a finished sum before it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// One value an output channel, added to the sum.
    pub bias: &'a [f32],
    /// Added after the bias: a buffer and where its image (of the output's extents) lies in it.
    pub residual: Option<(&'a [f32], Image)>,
    /// `y = if y > lo { y } else { lo }`; negative infinity keeps everything but NaN, which becomes `lo`.
    pub lo: f32,
    /// `y = if y < hi { y } else { hi }`.
    pub hi: f32,
}

impl<'a> Epilogue<'a> {
    /// A bias and nothing else.
    pub fn bias(bias: &'a [f32]) -> Epilogue<'a> {
        Epilogue { bias, residual: None, lo: f32::NEG_INFINITY, hi: f32::INFINITY }
    }

    /// Asserts that bias and residual fit an output image.
    pub(super) fn check(&self, output: &Image) {
        assert_eq!(self.bias.len(), output.channels, "one bias an output channel");
        if let Some((values, image)) = &self.residual {
            let (height, width, channels) = (image.height, image.width, image.channels);
            assert_eq!((height, width, channels), (output.height, output.width, output.channels), "residual extents");
            assert!(image_fits(image, values.len()), "the residual image does not lie in its buffer");
        }
    }
}

/// A dense convolution of one geometry, ready to run on one instruction set.
#[derive(Clone, Debug)]
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

    let mut window = Window {
        tiles: tiles(isa),
        geometry,
        runs,
        run_len,
        weights,
        input: input.as_ptr(),
        epilogue,
        output: output.as_mut_ptr(),
        scratch: Scratch([0.0; ROWS_MAX * COLUMNS_MAX]),
    };
    let pixels = geometry.output.pixels();
    // Tiles of nearly equal height: a short last tile would not fill the multiply-add pipelines.
    let tile_count = pixels.div_ceil(window.tiles.rows);
    let tile_start = |tile: usize| (tile as u128 * pixels as u128 / tile_count as u128) as usize;
    if weights.bytes() <= RESIDENT_WEIGHT_BYTES {
        for tile in 0..tile_count {
            let span = Span::new(&window, tile_start(tile), tile_start(tile + 1));
            for panel in 0..weights.panels() {
                window.run_tile(&span, panel);
            }
        }
    } else {
        for panel in 0..weights.panels() {
            for tile in 0..tile_count {
                let span = Span::new(&window, tile_start(tile), tile_start(tile + 1));
                window.run_tile(&span, panel);
            }
        }
    }
}

/// Everything that stays the same from tile to tile.
struct Window<'a> {
    tiles: &'static Tiles,
    geometry: &'a ConvGeometry,
    runs: &'a [usize],
    run_len: usize,
    weights: &'a PackedF32,
    input: *const f32,
    epilogue: &'a Epilogue<'a>,
    output: *mut f32,
    scratch: Scratch,
}

/// The output pixels of one tile, in row-major order, and where they read and write.
struct Span {
    rows: usize,
    input_at: [usize; ROWS_MAX],
    output_at: [usize; ROWS_MAX],
    residual_at: [usize; ROWS_MAX],
}

impl Span {
    #[inline]
    fn new(window: &Window<'_>, first: usize, end: usize) -> Span {
        let g = window.geometry;
        let (mut y, mut x) = (first / g.output.width, first % g.output.width);
        let origin = g.input.offset - g.pad_top * g.input.row_stride - g.pad_left * g.input.pixel_stride;
        let rows = end - first;
        let mut span = Span { rows, input_at: [0; ROWS_MAX], output_at: [0; ROWS_MAX], residual_at: [0; ROWS_MAX] };
        for row in 0..rows {
            span.input_at[row] = origin + y * g.stride_h * g.input.row_stride + x * g.stride_w * g.input.pixel_stride;
            span.output_at[row] = g.output.at(y, x);
            if let Some((_, image)) = &window.epilogue.residual {
                span.residual_at[row] = image.at(y, x);
            }
            x += 1;
            if x == g.output.width {
                (x, y) = (0, y + 1);
            }
        }
        span
    }
}

impl Window<'_> {
    #[inline]
    fn run_tile(&mut self, span: &Span, panel: usize) {
        let (first, columns, scratch_row) = self.weights.panel_columns(panel);
        let mut pixels = [self.input; ROWS_MAX];
        let mut output = [self.output; ROWS_MAX];
        for row in 0..span.rows {
            // SAFETY: `validate` showed that every pixel of the output, and every tap of it, lies in its buffer.
            unsafe {
                pixels[row] = self.input.add(span.input_at[row]);
                output[row] = self.output.add(span.output_at[row] + first);
            }
        }
        let residual = self.epilogue.residual.map(|(values, _)| {
            let mut rows = [values.as_ptr(); ROWS_MAX];
            for row in 0..span.rows {
                // SAFETY: `Epilogue::check` showed that the residual image lies in its buffer.
                rows[row] = unsafe { values.as_ptr().add(span.residual_at[row] + first) };
            }
            rows
        });
        let tile_input =
            TileInput { pixels, runs: self.runs, run_len: self.run_len, weights: self.weights.panel(panel).as_ptr() };
        let tile_output = TileOutput {
            rows: span.rows,
            columns,
            scratch_row,
            bias: self.epilogue.bias[first..first + columns].as_ptr(),
            lo: self.epilogue.lo,
            hi: self.epilogue.hi,
            residual,
            output,
        };
        let accumulate = self.tiles.accumulate[scratch_row / self.tiles.lanes - 1][span.rows - 1];
        // SAFETY: the tiles belong to an instruction set that `path` found on this machine; every tap of the span's
        // pixels lies in the input, the panel holds one row a product, the scratch holds the largest tile, and the
        // `columns` outputs, biases and residuals after `first` exist.
        unsafe {
            accumulate(&tile_input, self.scratch.0.as_mut_ptr());
            (self.tiles.finish)(&tile_output, self.scratch.0.as_ptr());
        }
    }
}
