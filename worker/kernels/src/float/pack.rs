//! Weights laid out for the tile: panels of adjacent output channels, depth by depth, each panel read straight through.

use crate::Isa;
use crate::float::tile::{LINE, tiles};

/// How a weight matrix lies in its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[output channel][depth]`: ONNX `Conv` in NHWC order, `Gemm` with `transB`, attention's keys.
    OutputMajor,
    /// `[depth][output channel]`: ONNX `MatMul`'s right operand, attention's values.
    DepthMajor,
}

/// One cache line, so that panels start on a line and no vector load straddles two.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// The weights of one convolution or matrix product, packed for one instruction set.
///
/// Panels are as wide as the tile (the last one half as wide where that is enough), padded with zeros, so the vector
/// width decides where a weight lies but never enters a sum.
#[derive(Clone, Debug)]
pub struct PackedF32 {
    isa: Isa,
    out_channels: usize,
    depth: usize,
    lines: Vec<Line>,
}

impl PackedF32 {
    /// Packs constant weights `[out_channels][taps][in_channels]` (`taps` is kernel height times kernel width).
    ///
    /// # Panics
    ///
    /// If `weights` does not have `out_channels * taps * in_channels` elements.
    pub fn pack(isa: Isa, out_channels: usize, taps: usize, in_channels: usize, weights: &[f32]) -> PackedF32 {
        let mut packed = PackedF32::empty(isa);
        let depth = taps * in_channels;
        packed.repack(out_channels, depth, WeightLayout::OutputMajor, depth, weights);
        packed
    }

    /// Holds nothing yet; [`PackedF32::repack`] fills it.
    pub fn empty(isa: Isa) -> PackedF32 {
        PackedF32 { isa, out_channels: 0, depth: 0, lines: Vec::new() }
    }

    /// Makes room, so that repacking matrices up to this size does not allocate.
    pub fn reserve(&mut self, out_channels: usize, depth: usize) {
        let lines = self.lines_for(out_channels, depth);
        self.lines.reserve(lines.saturating_sub(self.lines.len()));
    }

    /// Replaces the contents by the matrix in `data`, whose rows (see [`WeightLayout`]) are `stride` elements apart.
    ///
    /// This is the packing for a right operand that is computed rather than constant. It allocates only when the
    /// matrix is larger than any before it or reserved.
    ///
    /// # Panics
    ///
    /// If `stride` is shorter than a row or `data` ends before the last row does.
    pub fn repack(&mut self, out_channels: usize, depth: usize, layout: WeightLayout, stride: usize, data: &[f32]) {
        let (rows, row_len) = match layout {
            WeightLayout::OutputMajor => (out_channels, depth),
            WeightLayout::DepthMajor => (depth, out_channels),
        };
        if rows > 0 && row_len > 0 {
            assert!(stride >= row_len, "weight rows of {row_len} elements cannot lie {stride} apart");
            let needed = (rows - 1).checked_mul(stride).and_then(|start| start.checked_add(row_len));
            assert!(
                needed.is_some_and(|needed| needed <= data.len()),
                "a weight slice of {} elements is too short for {rows} rows of {row_len}",
                data.len()
            );
        }
        (self.out_channels, self.depth) = (out_channels, depth);
        let lines = self.lines_for(out_channels, depth);
        self.lines.clear();
        self.lines.resize(lines, Line([0.0; LINE]));
        let panels = if depth == 0 { 0 } else { self.panels() };
        for panel in 0..panels {
            let Panel { first, columns: width, row, .. } = self.walk().get(panel);
            let start = first * depth;
            let values = &mut self.as_mut_slice()[start..start + row * depth];
            match layout {
                WeightLayout::OutputMajor => {
                    for column in 0..width {
                        let source = &data[(first + column) * stride..][..depth];
                        for (to, &from) in values[column..].iter_mut().step_by(row).zip(source) {
                            *to = from;
                        }
                    }
                }
                WeightLayout::DepthMajor => {
                    for (k, to) in values.chunks_exact_mut(row).enumerate() {
                        to[..width].copy_from_slice(&data[k * stride + first..][..width]);
                    }
                }
            }
        }
    }

    /// The instruction set these weights are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Output channels (columns of the product).
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// Products a sum: taps times input channels.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    /// Panels, the narrow last one included.
    pub(super) fn panels(&self) -> usize {
        self.out_channels.div_ceil(tiles(self.isa).columns())
    }

    /// The panels in order; finding the instruction set's tile once for all of them.
    pub(super) fn walk(&self) -> Panels<'_> {
        let tiles = tiles(self.isa);
        // SAFETY: a line is sixteen f32 without padding, so the lines are one initialised slice of f32.
        let values = unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast::<f32>(), self.lines.len() * LINE) };
        Panels {
            values,
            depth: self.depth,
            out_channels: self.out_channels,
            lanes: tiles.lanes,
            columns: tiles.columns(),
        }
    }

    fn as_mut_slice(&mut self) -> &mut [f32] {
        let len = self.lines.len() * LINE;
        // SAFETY: a line is sixteen f32 without padding, so the lines are one initialised slice of f32, borrowed once.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast::<f32>(), len) }
    }

    fn lines_for(&self, out_channels: usize, depth: usize) -> usize {
        let tiles = tiles(self.isa);
        let full = out_channels / tiles.columns();
        let rest = out_channels % tiles.columns();
        let rest_row = if rest == 0 { 0 } else { rest.div_ceil(tiles.lanes) * tiles.lanes };
        ((full * tiles.columns() + rest_row) * depth).div_ceil(LINE)
    }
}

/// One panel of packed weights.
pub(super) struct Panel<'a> {
    /// Its first output channel.
    pub first: usize,
    /// Output channels it holds.
    pub columns: usize,
    /// Elements of one depth step: the output channels and the zeros that fill the last register.
    pub row: usize,
    /// `row` elements for each depth step.
    pub weights: &'a [f32],
}

/// All panels of packed weights.
pub(super) struct Panels<'a> {
    values: &'a [f32],
    depth: usize,
    out_channels: usize,
    lanes: usize,
    columns: usize,
}

impl<'a> Panels<'a> {
    /// The panel at `index`.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Panel<'a> {
        let first = index * self.columns;
        let columns = (self.out_channels - first).min(self.columns);
        let row = if columns <= self.lanes { self.lanes } else { self.columns };
        let start = first * self.depth;
        Panel { first, columns, row, weights: &self.values[start..start + row * self.depth] }
    }
}
