//! The contract between the drivers, which know images, and the microkernels, which know registers; and the list of
//! the latter.
//!
//! A tile has two halves that are never compiled into one function. The first runs along the depth and leaves i32 sums
//! in a scratch tile that stays in the first-level cache; the second turns the scratch tile into output. Kept together,
//! the compiler has been seen to move accumulators to the stack inside the loop over depth, at a quarter of the speed.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

use super::epilogue::{AddU8, Codes};
use super::pack::Line;
use crate::Isa;
use crate::registry::{Family, Kernel, KernelEntry};

/// Most pixels a tile holds.
pub(crate) const MAX_TILE_ROWS: usize = 16;
/// Most output channels a panel holds.
pub(crate) const MAX_PANEL: usize = 64;
/// Most sums a tile holds.
pub(crate) const MAX_TILE: usize = 384;

/// The sums of one tile, `[row][channel of the panel]`.
#[repr(align(64))]
pub(crate) struct Scratch(pub [i32; MAX_TILE]);

/// The constants of one panel, padded with zeros to its width.
#[repr(align(64))]
pub(crate) struct PanelParams {
    pub bias: [i32; MAX_PANEL],
    pub multiplier: [f32; MAX_PANEL],
    /// What spans of floats add; -0, which changes nothing, where nothing is to be added.
    pub shift: [f32; MAX_PANEL],
}

impl PanelParams {
    /// Everything neutral.
    pub(crate) const NEUTRAL: PanelParams =
        PanelParams { bias: [0; MAX_PANEL], multiplier: [0.0; MAX_PANEL], shift: [-0.0; MAX_PANEL] };
}

/// Where a tile's rows come from and go to; only the first `rows` pointers mean anything.
pub(crate) struct Tile {
    /// Pixels in this tile.
    pub rows: usize,
    /// Output channels to be written, at most the panel's width.
    pub channels: usize,
    /// First input byte under each pixel's window.
    pub input: [*const u8; MAX_TILE_ROWS],
    /// The panel's first channel of each output pixel; floats where the sink stores floats.
    pub output: [*mut u8; MAX_TILE_ROWS],
    /// The panel's first channel of each residual pixel.
    pub residual: [*const u8; MAX_TILE_ROWS],
}

/// The runs of consecutive bytes that make up the depth.
#[derive(Clone, Copy)]
pub(crate) struct Depth<'a> {
    /// Distance of each run from the first byte under the window.
    pub runs: &'a [usize],
    /// Groups of four bytes a run.
    pub groups: usize,
}

/// Sums the whole depth of one tile into scratch, starting from the bias.
///
/// # Safety
/// The instruction set is present. `tile.rows` is the row count the function was made for, and every byte of every
/// run's groups behind each input pointer is readable. `weights` holds `runs x groups` groups of the panel.
pub(crate) type Accumulate = unsafe fn(&Tile, Depth<'_>, *const Line, &PanelParams, &mut Scratch);

/// Output pixels at a constant distance, for one panel.
pub(crate) struct Span<'a> {
    /// First input byte under the first pixel's window, and the distance to the next pixel's.
    pub input: *const u8,
    pub input_step: usize,
    /// The panel's first channel of the first output pixel, and the distance to the next.
    pub output: *mut u8,
    pub output_step: usize,
    /// The same of the residual.
    pub residual: *const u8,
    pub residual_step: usize,
    /// Pixels; a multiple of the rows the function was made for.
    pub pixels: usize,
    /// Output channels to be written.
    pub channels: usize,
    /// How sums become codes.
    pub codes: &'a Codes,
    /// How those are added to the residual; read by functions made for it.
    pub add: &'a AddU8,
    /// Bounds of floats; read by functions that store these.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only AVX-512 has such functions"))]
    pub bounds: (f32, f32),
}

/// Both halves of consecutive tiles at once: sums along the depth, then codes, with nothing in between.
///
/// What a tile costs beside its sums counts where the depth is small. The loop over depth must be seen to stay in
/// registers for every row count a kernel lists here.
///
/// # Safety
/// The instruction set is present. Every byte of every run's groups behind each pixel is readable; `channels`
/// elements of each output pixel are writable, and of each residual pixel readable. |sum x multiplier| and the Add's
/// sums stay below 2^30.
pub(crate) type SpanU8 = unsafe fn(&Span<'_>, Depth<'_>, *const Line, &PanelParams);

/// The span functions of one panel width, by rows less one; empty where they do not pay.
pub(crate) struct Spans {
    pub u8: &'static [SpanU8],
    pub add: &'static [SpanU8],
    /// To floats: output pointers and steps are those of `f32`.
    pub f32: &'static [SpanU8],
    /// Rows of the tile that suits little depth: small, so that the finishing of one overlaps the sums of the next.
    pub shallow_rows: usize,
    /// Depth groups beyond which tiles in two halves are faster.
    pub groups_max: usize,
}

/// Turns sums into codes.
///
/// # Safety
/// The instruction set is present and `tile.channels` elements behind the first `tile.rows` output pointers are
/// writable. For the unclamped form, |sum x multiplier| stays below 2^30.
pub(crate) type StoreU8 = unsafe fn(&Tile, &Scratch, &PanelParams, &Codes);

/// Turns sums into codes and adds the residual.
///
/// # Safety
/// As [`StoreU8`], and `tile.channels` elements behind the residual pointers are readable.
pub(crate) type StoreAdd = unsafe fn(&Tile, &Scratch, &PanelParams, &Codes, &AddU8);

/// Turns sums into floats within bounds.
///
/// # Safety
/// As [`StoreU8`]; the output pointers point to `f32`, aligned as such.
pub(crate) type StoreF32 = unsafe fn(&Tile, &Scratch, &PanelParams, (f32, f32));

/// The second halves of a tile of one width.
pub(crate) struct Stores {
    /// Codes, clamped in float first.
    pub u8: StoreU8,
    /// Codes whose sums are known to convert without overflow.
    pub u8_proven: StoreU8,
    /// Codes and residual.
    pub add: StoreAdd,
    /// Floats.
    pub f32: StoreF32,
}

/// How a microkernel wants a weight written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each architecture wants its own")]
pub(crate) enum WeightForm {
    /// `[group][channel][4]` bytes.
    Bytes,
    /// `[group][first two, last two][channel][2]` bytes.
    BytePairs,
    /// `[group][even, odd][channel][2]` i16: what a 16-bit multiply of the even and the odd bytes of a group wants.
    EvenOddWords,
}

/// Tiles of one panel width, for every number of rows up to `mr`.
pub(crate) struct GemmKernel {
    pub name: &'static str,
    pub lanes: usize,
    pub vectors: usize,
    pub form: WeightForm,
    /// What the kernel takes off every input before it multiplies; the bias it is given makes up for it.
    pub input_offset: i32,
    /// By rows less one.
    pub accumulate: &'static [Accumulate],
    /// Where they pay.
    pub spans: Option<Spans>,
    pub stores: Stores,
}

impl GemmKernel {
    /// Rows of the full tile.
    pub fn mr(&self) -> usize {
        self.accumulate.len()
    }

    /// Output channels of the tile.
    pub fn width(&self) -> usize {
        self.lanes * self.vectors
    }

    /// Bytes of packed weights for one depth group.
    pub fn group_bytes(&self) -> usize {
        match self.form {
            WeightForm::Bytes | WeightForm::BytePairs => self.width() * 4,
            WeightForm::EvenOddWords => self.width() * 8,
        }
    }

    /// Writes the weight of a group, column and slot into a panel's bytes.
    pub fn put_weight(&self, panel: &mut [u8], (group, column, slot): (usize, usize, usize), weight: i8) {
        let start = group * self.group_bytes();
        match self.form {
            WeightForm::Bytes => panel[start + column * 4 + slot] = weight as u8,
            WeightForm::BytePairs => {
                panel[start + (slot / 2) * self.width() * 2 + column * 2 + slot % 2] = weight as u8;
            }
            WeightForm::EvenOddWords => {
                let at = start + (slot % 2) * self.width() * 4 + column * 4 + (slot / 2) * 2;
                panel[at..at + 2].copy_from_slice(&i16::from(weight).to_le_bytes());
            }
        }
    }
}

impl std::fmt::Debug for GemmKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Sums of a few neighbouring output pixels, each channel by itself, into scratch.
///
/// # Safety
/// The instruction set is present. For every filter row and column offset, a panel's width of bytes is readable behind
/// `input`. `weights` holds the panel as packed for this number of outputs.
pub(crate) type DepthwiseAccumulate = unsafe fn(&DepthwiseWindow<'_>, *const Line, &PanelParams, &mut Scratch);

/// The input under a few neighbouring outputs.
pub(crate) struct DepthwiseWindow<'a> {
    /// The panel's first channel under the first tap.
    pub input: *const u8,
    /// Elements from a filter row to the next.
    pub row_step: usize,
    /// Filter rows.
    pub kernel_h: usize,
    /// Distance of every column from the first; a multiple of the kernel's slots in number.
    pub columns: &'a [usize],
}

/// Codes of a few whole output rows of one panel.
///
/// # Safety
/// The instruction set is present, and [`DepthwiseRows`]'s pointers are valid for everything its extents say.
pub(crate) type DepthwiseRowsU8 = unsafe fn(&DepthwiseRows<'_>, *const Line, &PanelParams, &Codes);

/// Neighbouring output rows at least as wide as the number of outputs the weights were packed for.
pub(crate) struct DepthwiseRows<'a> {
    /// The panel's first channel under the first tap of the first output.
    pub input: *const u8,
    /// Elements from an output's window to the next one's, and from an output row's windows to the next row's.
    pub input_step: usize,
    pub input_row_step: usize,
    /// Elements from a filter row to the next.
    pub row_step: usize,
    pub kernel_h: usize,
    /// Distance of every column from the first; a multiple of the kernel's slots in number.
    pub columns: &'a [usize],
    /// The panel's first channel of the first output.
    pub output: *mut u8,
    pub output_step: usize,
    pub output_row_step: usize,
    /// Outputs a row, and rows.
    pub width: usize,
    pub rows: usize,
    /// Channels of the panel that exist.
    pub channels: usize,
}

/// A depthwise microkernel for panels of one width.
pub(crate) struct DepthwiseKernel {
    pub name: &'static str,
    /// Channels a panel.
    pub width: usize,
    /// Columns that one multiply-accumulate takes together.
    pub slots: usize,
    /// Whether weights are stored as i16.
    pub wide: bool,
    /// Whether accumulator `j` holds, in its 128-bit lane `l`, channels `16 l + 4 j ..` rather than consecutive ones.
    pub interleaved: bool,
    /// What the kernel takes off every input before it multiplies; the bias it is given makes up for it.
    pub input_offset: i32,
    /// The functions for 1, 2 and 4 neighbouring outputs.
    pub accumulate: [DepthwiseAccumulate; 3],
    pub stores: &'static Stores,
    /// Whole rows to codes at once, where sums need not pass through scratch; multipliers in accumulator order. Only
    /// for sums proven to convert.
    pub rows_u8: Option<fn(DepthwiseShape) -> DepthwiseRowsU8>,
}

/// What a depthwise row function may be specialised for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DepthwiseShape {
    /// Filter rows as the columns are laid out; 1 where all taps are columns.
    pub kernel_h: usize,
    /// Groups of columns.
    pub groups: usize,
    /// Index of the outputs computed together: 1, 2 or 4.
    pub outputs_index: usize,
}

impl DepthwiseKernel {
    /// The index of a channel's sum among the panel's accumulators.
    pub fn position(&self, channel: usize) -> usize {
        if self.interleaved {
            let (lane, vector, element) = (channel / 16, channel / 4 % 4, channel % 4);
            vector * (self.width / 4) + lane * 4 + element
        } else {
            channel
        }
    }
}

impl DepthwiseKernel {
    /// Writes a panel's per-channel constants in the order of its accumulators, or of its channels, zeros behind them.
    pub fn arrange<T: Copy + Default>(&self, values: &[T], to: &mut [T; MAX_PANEL], in_accumulators: bool) {
        let mut padded = [T::default(); MAX_PANEL];
        padded[..values.len()].copy_from_slice(values);
        if !(in_accumulators && self.interleaved) {
            *to = padded;
            return;
        }
        // Fours of channels stay together.
        for (four, values) in padded[..self.width].as_chunks::<4>().0.iter().enumerate() {
            to[self.position(four * 4)..][..4].copy_from_slice(values);
        }
    }
}

impl std::fmt::Debug for DepthwiseKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The payload of a registry entry for kernels of this module.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Int8Kernel {
    Gemm(&'static GemmKernel),
    Depthwise(&'static DepthwiseKernel),
    Elements(&'static super::elements::ElementKernels),
}

impl Int8Kernel {
    /// Output pixels and channels computed at once.
    pub(crate) fn tile(self) -> (usize, usize) {
        match self {
            Int8Kernel::Gemm(kernel) => (kernel.mr(), kernel.width()),
            Int8Kernel::Depthwise(kernel) => (1 << (kernel.accumulate.len() - 1), kernel.width),
            Int8Kernel::Elements(_) => (1, super::elements::POOL_CHANNELS),
        }
    }
}

/// Every int8 kernel there is.
pub(crate) static KERNELS: &[&[KernelEntry]] = &[
    scalar::KERNELS,
    #[cfg(target_arch = "x86_64")]
    avx2::KERNELS,
    #[cfg(target_arch = "x86_64")]
    avx512vnni::KERNELS,
    #[cfg(target_arch = "aarch64")]
    neon::KERNELS,
];

/// Builds a registry line.
pub(crate) const fn entry(family: Family, isa: Isa, name: &'static str, kernel: Int8Kernel) -> KernelEntry {
    KernelEntry { family, isa, name, kernel: Kernel::Int8(kernel) }
}

/// The bias of a sum whose inputs have lost `input_offset`: what is taken off them comes back through their weights.
pub(crate) fn offset_bias(bias: i32, weight_sum: i32, input_offset: i32) -> i32 {
    bias.wrapping_add(weight_sum.wrapping_mul(input_offset))
}

/// The instruction set whose kernels serve a request for `isa`.
fn served_by(isa: Isa) -> Isa {
    match isa {
        Isa::Avx2 | Isa::Avx512Vnni if cfg!(target_arch = "x86_64") => isa,
        Isa::Neon | Isa::NeonDotprod if cfg!(target_arch = "aarch64") => isa,
        Isa::Scalar | Isa::Avx2 | Isa::Avx512Vnni | Isa::Neon | Isa::NeonDotprod => Isa::Scalar,
    }
}

fn of_isa(isa: Isa) -> impl Iterator<Item = Int8Kernel> {
    let isa = served_by(isa);
    KERNELS.iter().flat_map(|list| list.iter()).filter(move |entry| entry.isa == isa).map(|entry| match entry.kernel {
        Kernel::Int8(kernel) => kernel,
    })
}

/// The dense kernels of an instruction set, by vectors a panel less one.
pub(crate) fn gemm_kernels(isa: Isa) -> Vec<&'static GemmKernel> {
    let mut kernels: Vec<_> = of_isa(isa)
        .filter_map(|kernel| match kernel {
            Int8Kernel::Gemm(kernel) => Some(kernel),
            Int8Kernel::Depthwise(_) | Int8Kernel::Elements(_) => None,
        })
        .collect();
    kernels.sort_by_key(|kernel| kernel.vectors);
    assert!(kernels.iter().enumerate().all(|(index, kernel)| kernel.vectors == index + 1), "a panel width is missing");
    kernels
}

/// The depthwise kernels of an instruction set, narrowest first.
pub(crate) fn depthwise_kernels(isa: Isa) -> Vec<&'static DepthwiseKernel> {
    let mut kernels: Vec<_> = of_isa(isa)
        .filter_map(|kernel| match kernel {
            Int8Kernel::Depthwise(kernel) => Some(kernel),
            Int8Kernel::Gemm(_) | Int8Kernel::Elements(_) => None,
        })
        .collect();
    kernels.sort_by_key(|kernel| kernel.width);
    kernels
}

/// The element kernels of an instruction set; the machine must have it.
pub(crate) fn element_kernels(isa: Isa) -> &'static super::elements::ElementKernels {
    assert!(isa.is_available(), "element kernels asked for {isa}, which this machine does not have");
    of_isa(isa)
        .find_map(|kernel| match kernel {
            Int8Kernel::Elements(kernels) => Some(kernels),
            Int8Kernel::Gemm(_) | Int8Kernel::Depthwise(_) => None,
        })
        .expect("every served instruction set registers its element kernels")
}
