//! Plain Rust for machines without a kernel of their own; small tiles that a compiler can keep in registers.

use super::super::elements::element_kernels_for;
use super::super::epilogue::{AddU8, Codes, clamp_f32};
use super::super::pack::Line;
use super::{
    Depth, DepthwiseKernel, DepthwiseWindow, GemmKernel, Int8Kernel, PanelParams, Scratch, Stores, Tile, WeightForm,
    entry,
};
use crate::Isa;
use crate::registry::{Family, KernelEntry};

/// Output channels a panel.
const WIDTH: usize = 16;

element_kernels_for!("elements_u8_scalar");

pub(super) static KERNELS: &[KernelEntry] = &[
    entry(Family::GemmU8S8, Isa::Scalar, GEMM.name, Int8Kernel::Gemm(&GEMM)),
    entry(Family::DepthwiseU8S8, Isa::Scalar, DEPTHWISE.name, Int8Kernel::Depthwise(&DEPTHWISE)),
    entry(Family::ElementsU8, Isa::Scalar, ELEMENTS.name, Int8Kernel::Elements(&ELEMENTS)),
];

static GEMM: GemmKernel = GemmKernel {
    name: "gemm_u8s8s32_4x16_scalar",
    lanes: WIDTH,
    vectors: 1,
    form: WeightForm::Bytes,
    input_offset: 0,
    accumulate: &[accumulate::<1>, accumulate::<2>, accumulate::<3>, accumulate::<4>],
    spans: None,
    stores: Stores { u8: store_u8, u8_proven: store_u8, add: store_add, f32: store_f32 },
};

static DEPTHWISE: DepthwiseKernel = DepthwiseKernel {
    name: "depthwise_u8s8s32_4x16_scalar",
    width: WIDTH,
    slots: 1,
    wide: false,
    interleaved: false,
    input_offset: 0,
    accumulate: [depthwise::<1>, depthwise::<2>, depthwise::<4>],
    stores: &GEMM.stores,
    rows_u8: None,
};

/// # Safety
/// As [`Accumulate`](super::Accumulate).
unsafe fn accumulate<const MR: usize>(
    tile: &Tile,
    depth: Depth<'_>,
    weights: *const Line,
    params: &PanelParams,
    scratch: &mut Scratch,
) {
    let mut sums = [[0i32; WIDTH]; MR];
    for row in &mut sums {
        row.copy_from_slice(&params.bias[..WIDTH]);
    }
    let mut weights: *const [[i8; 4]; WIDTH] = weights.cast();
    for &run in depth.runs {
        for group in 0..depth.groups {
            // SAFETY: the caller vouches for one line of weights a group.
            let columns = unsafe { &*weights };
            weights = weights.wrapping_add(1);
            for (r, row) in sums.iter_mut().enumerate() {
                // SAFETY: the caller vouches for every byte of every group.
                let bytes = unsafe { tile.input[r].add(run + group * 4).cast::<[u8; 4]>().read() };
                for (sum, column) in row.iter_mut().zip(columns) {
                    for (&byte, &weight) in bytes.iter().zip(column) {
                        *sum = sum.wrapping_add(i32::from(byte) * i32::from(weight));
                    }
                }
            }
        }
    }
    for (r, row) in sums.iter().enumerate() {
        scratch.0[r * WIDTH..][..WIDTH].copy_from_slice(row);
    }
}

/// # Safety
/// As [`DepthwiseAccumulate`](super::DepthwiseAccumulate).
unsafe fn depthwise<const P: usize>(
    window: &DepthwiseWindow<'_>,
    weights: *const Line,
    params: &PanelParams,
    scratch: &mut Scratch,
) {
    let mut sums = [[0i32; WIDTH]; P];
    for row in &mut sums {
        row.copy_from_slice(&params.bias[..WIDTH]);
    }
    let mut weights: *const [i8; WIDTH] = weights.cast();
    for ky in 0..window.kernel_h {
        for &column in window.columns {
            // SAFETY: the caller vouches for a panel's width of bytes at every column.
            let bytes = unsafe { window.input.add(ky * window.row_step + column).cast::<[u8; WIDTH]>().read() };
            for row in &mut sums {
                // SAFETY: the caller vouches for a vector of weights an output and column.
                let filter = unsafe { *weights };
                weights = weights.wrapping_add(1);
                for ((sum, &byte), &weight) in row.iter_mut().zip(&bytes).zip(&filter) {
                    *sum = sum.wrapping_add(i32::from(byte) * i32::from(weight));
                }
            }
        }
    }
    for (p, row) in sums.iter().enumerate() {
        scratch.0[p * WIDTH..][..WIDTH].copy_from_slice(row);
    }
}

/// # Safety
/// As [`StoreU8`](super::StoreU8).
unsafe fn store_u8(tile: &Tile, scratch: &Scratch, params: &PanelParams, codes: &Codes) {
    for row in 0..tile.rows {
        for c in 0..tile.channels {
            let code = codes.requantize(scratch.0[row * WIDTH + c], params.multiplier[c]);
            // SAFETY: the caller vouches for `tile.channels` elements.
            unsafe { tile.output[row].add(c).write(code) };
        }
    }
}

/// # Safety
/// As [`StoreAdd`](super::StoreAdd).
unsafe fn store_add(tile: &Tile, scratch: &Scratch, params: &PanelParams, codes: &Codes, add: &AddU8) {
    for row in 0..tile.rows {
        for c in 0..tile.channels {
            let code = codes.requantize(scratch.0[row * WIDTH + c], params.multiplier[c]);
            // SAFETY: the caller vouches for `tile.channels` elements.
            unsafe {
                let residual = tile.residual[row].add(c).read();
                let total = if add.conv_is_a { add.apply(code, residual) } else { add.apply(residual, code) };
                tile.output[row].add(c).write(total);
            }
        }
    }
}

/// # Safety
/// As [`StoreF32`](super::StoreF32).
unsafe fn store_f32(tile: &Tile, scratch: &Scratch, params: &PanelParams, (lo, hi): (f32, f32)) {
    for row in 0..tile.rows {
        let out: *mut f32 = tile.output[row].cast();
        for c in 0..tile.channels {
            let value = clamp_f32(scratch.0[row * WIDTH + c] as f32 * params.multiplier[c], lo, hi);
            // SAFETY: the caller vouches for `tile.channels` floats.
            unsafe { out.add(c).write(value) };
        }
    }
}
