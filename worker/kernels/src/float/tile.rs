//! The register tiles of the float matrix product: up to 14x32 on AVX-512, 6x16 elsewhere.
//!
//! A tile keeps one accumulator per output, walks depth in ascending order with fused multiply-add and holds adjacent
//! output channels in its lanes. The depth loop ends by storing the accumulators to a scratch tile; bias, residual and
//! clamp are a second function that reads it. In one function the compiler spills accumulators inside the depth loop.

// Registers are indexed by tile position: an iterator would hide that every array is walked in step.
#![allow(clippy::needless_range_loop)]

use crate::Isa;
use crate::float::dispatch::{Path, path};
#[cfg(target_arch = "aarch64")]
use crate::float::neon::Neon;
use crate::float::vector::Vector;
#[cfg(target_arch = "x86_64")]
use crate::float::vector::{Ymm, Zmm};

/// f32 values a cache line.
pub(super) const LINE: usize = 16;
/// The most rows of any tile.
pub(super) const ROWS_MAX: usize = 14;
/// The most columns of any tile.
pub(super) const COLUMNS_MAX: usize = 32;

/// Accumulators between the depth loop and the epilogue.
#[repr(C, align(64))]
pub(super) struct Scratch(pub [f32; ROWS_MAX * COLUMNS_MAX]);

/// What the depth loop of one tile reads.
pub(super) struct TileInput<'a> {
    /// The first tap's first channel of each output pixel of the tile.
    pub pixels: [*const f32; ROWS_MAX],
    /// Offsets from there to each contiguous run of products.
    pub runs: &'a [usize],
    /// Products a run.
    pub run_len: usize,
    /// The panel: `runs.len() * run_len` rows of the tile's columns.
    pub weights: *const f32,
}

/// What the epilogue of one tile reads and writes.
pub(super) struct TileOutput {
    /// Output pixels.
    pub rows: usize,
    /// The first output channel.
    pub first: usize,
    /// Output channels, at most the tile's.
    pub columns: usize,
    /// Elements from one row of the scratch tile to the next.
    pub scratch_row: usize,
    /// `columns` biases.
    pub bias: *const f32,
    /// Lower bound.
    pub lo: f32,
    /// Upper bound.
    pub hi: f32,
    /// The residual's channel 0 of each pixel, if there is a residual.
    pub residual: Option<[*const f32; ROWS_MAX]>,
    /// The output's channel 0 of each pixel.
    pub output: [*mut f32; ROWS_MAX],
}

/// Computes `rows` x (`LANES` or twice that) sums into the scratch tile.
pub(super) type Accumulate = unsafe fn(&TileInput<'_>, *mut f32);
/// Adds bias and residual, clamps, stores.
pub(super) type Finish = unsafe fn(&TileOutput, *const f32);

/// The tile functions of one instruction set.
pub(super) struct Tiles {
    /// Lanes of a register.
    pub lanes: usize,
    /// Most rows of a tile.
    pub rows: usize,
    /// `accumulate[0][r - 1]` computes `r` rows of one register, `accumulate[1][r - 1]` of two.
    pub accumulate: [&'static [Accumulate]; 2],
    /// The epilogue.
    pub finish: Finish,
}

impl Tiles {
    /// Columns of a full tile.
    pub(super) fn columns(&self) -> usize {
        2 * self.lanes
    }
}

/// The tiles of an instruction set.
#[inline]
pub(super) fn tiles(isa: Isa) -> &'static Tiles {
    match path(isa) {
        Path::Portable => &portable::TILES,
        #[cfg(target_arch = "aarch64")]
        Path::Neon => &neon::TILES,
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => &avx2::TILES,
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => &avx512::TILES,
    }
}

/// The depth loop.
///
/// # Safety
///
/// `V`'s instruction set is there; each of the first `ROWS` pixels is readable for every run, the weights for
/// `runs * run_len` rows, and `scratch` takes `ROWS` rows of `REGISTERS` registers.
#[inline(always)]
unsafe fn accumulate<V: Vector, const ROWS: usize, const REGISTERS: usize>(input: &TileInput<'_>, scratch: *mut f32) {
    // SAFETY: the caller's contract covers every access below; steps beyond it are not taken.
    unsafe {
        let mut sums = [[V::zero(); REGISTERS]; ROWS];
        let mut weights = input.weights;
        for &run in input.runs {
            let mut pixels = [input.weights; ROWS];
            for row in 0..ROWS {
                pixels[row] = input.pixels[row].add(run);
            }
            for k in 0..input.run_len {
                let mut factors = [V::zero(); REGISTERS];
                for register in 0..REGISTERS {
                    factors[register] = V::load(weights.add(register * V::LANES));
                }
                weights = weights.add(REGISTERS * V::LANES);
                for row in 0..ROWS {
                    let value = V::splat(*pixels[row].add(k));
                    for register in 0..REGISTERS {
                        sums[row][register] = value.mul_add(factors[register], sums[row][register]);
                    }
                }
            }
        }
        for row in 0..ROWS {
            for register in 0..REGISTERS {
                sums[row][register].store(scratch.add((row * REGISTERS + register) * V::LANES));
            }
        }
    }
}

/// The epilogue.
///
/// # Safety
///
/// `V`'s instruction set is there, and every pointer of `output` and `scratch` is valid for the tile's rows and columns.
#[inline(always)]
unsafe fn finish<V: Vector>(output: &TileOutput, scratch: *const f32) {
    // SAFETY: the columns handed on add up to the tile's.
    unsafe {
        let mut column = 0;
        while column + 2 * V::LANES <= output.columns {
            finish_columns::<V, 2>(output, scratch, column, V::LANES);
            column += 2 * V::LANES;
        }
        while column < output.columns {
            finish_columns::<V, 1>(output, scratch, column, V::LANES.min(output.columns - column));
            column += V::LANES;
        }
    }
}

/// The epilogue of `REGISTERS` registers of columns, `lanes` of each real.
///
/// # Safety
///
/// As [`finish`], for these columns.
#[inline(always)]
unsafe fn finish_columns<V: Vector, const REGISTERS: usize>(
    output: &TileOutput,
    scratch: *const f32,
    column: usize,
    lanes: usize,
) {
    let whole = lanes == V::LANES;
    // SAFETY: the caller's contract covers every access below; a partial register is masked.
    unsafe {
        let load = |from: *const f32| if whole { V::load(from) } else { V::load_partial(from, lanes) };
        let (lo, hi) = (V::splat(output.lo), V::splat(output.hi));
        let mut bias = [V::zero(); REGISTERS];
        for register in 0..REGISTERS {
            bias[register] = load(output.bias.add(column + register * V::LANES));
        }
        for row in 0..output.rows {
            let to = output.output[row].add(output.first + column);
            for register in 0..REGISTERS {
                let at = register * V::LANES;
                let mut value = V::load(scratch.add(row * output.scratch_row + column + at)).add(bias[register]);
                if let Some(residual) = &output.residual {
                    value = value.add(load(residual[row].add(output.first + column + at)));
                }
                value = value.greater(lo).less(hi);
                if whole {
                    value.store(to.add(at));
                } else {
                    value.store_partial(to.add(at), lanes);
                }
            }
        }
    }
}

/// Instantiates the tiles of one register type inside functions that enable its instruction set.
macro_rules! tiles_of {
    ($module:ident, $vector:ty, $rows:literal, [$($count:literal),+], $(#[$feature:meta])?) => {
        mod $module {
            use super::*;

            $(#[$feature])?
            #[inline(never)]
            unsafe fn accumulate<const ROWS: usize, const REGISTERS: usize>(
                input: &TileInput<'_>,
                scratch: *mut f32,
            ) {
                // SAFETY: the caller's contract is the same; this function's feature is the register type's.
                unsafe { super::accumulate::<$vector, ROWS, REGISTERS>(input, scratch) }
            }

            $(#[$feature])?
            #[inline(never)]
            unsafe fn finish(output: &TileOutput, scratch: *const f32) {
                // SAFETY: the caller's contract is the same; this function's feature is the register type's.
                unsafe { super::finish::<$vector>(output, scratch) }
            }

            pub(super) static TILES: Tiles = Tiles {
                lanes: <$vector>::LANES,
                rows: $rows,
                accumulate: [&[$(accumulate::<$count, 1>),+], &[$(accumulate::<$count, 2>),+]],
                finish,
            };
        }
    };
}

use crate::float::vector::Portable;
tiles_of!(portable, Portable, 6, [1, 2, 3, 4, 5, 6],);
#[cfg(target_arch = "aarch64")]
tiles_of!(neon, Neon, 6, [1, 2, 3, 4, 5, 6],);
#[cfg(target_arch = "x86_64")]
tiles_of!(avx2, Ymm, 6, [1, 2, 3, 4, 5, 6], #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
tiles_of!(
    avx512,
    Zmm,
    14,
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
);
