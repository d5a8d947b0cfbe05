//! AArch64: exact signed byte multiplies, added in pairs where the base set is all there is, by fours with `sdot`.
//!
//! Neither instruction multiplies unsigned by signed bytes. Inputs lose 128 on their way into the registers, by
//! flipping their top bit, and the bias gives it back: `sum of (x - 128) w + 128 sum of w`, exact as integers wrap.

mod dense;
mod depthwise;
mod finish;
mod multiply;

use super::super::elements::element_kernels_for;
use super::{DepthwiseKernel, GemmKernel, Int8Kernel, Spans, Stores, WeightForm, entry};
use crate::Isa;
use crate::registry::{Family, KernelEntry};

/// Channels a register of sums.
const LANES: usize = 4;

/// What inputs lose.
const INPUT_OFFSET: i32 = 128;

element_kernels_for!("elements_u8_neon");

pub(super) static KERNELS: &[KernelEntry] = &[
    entry(Family::GemmU8S8, Isa::Neon, GEMM_8.name, Int8Kernel::Gemm(&GEMM_8)),
    entry(Family::GemmU8S8, Isa::Neon, GEMM_16.name, Int8Kernel::Gemm(&GEMM_16)),
    entry(Family::DepthwiseU8S8, Isa::Neon, DEPTHWISE.name, Int8Kernel::Depthwise(&DEPTHWISE)),
    entry(Family::ElementsU8, Isa::Neon, ELEMENTS.name, Int8Kernel::Elements(&ELEMENTS)),
    entry(Family::GemmU8S8, Isa::NeonDotprod, GEMM_8_DOTPROD.name, Int8Kernel::Gemm(&GEMM_8_DOTPROD)),
    entry(Family::GemmU8S8, Isa::NeonDotprod, GEMM_16_DOTPROD.name, Int8Kernel::Gemm(&GEMM_16_DOTPROD)),
    entry(Family::DepthwiseU8S8, Isa::NeonDotprod, DEPTHWISE_DOTPROD.name, Int8Kernel::Depthwise(&DEPTHWISE_DOTPROD)),
    entry(Family::ElementsU8, Isa::NeonDotprod, "elements_u8_neon_dotprod", Int8Kernel::Elements(&ELEMENTS)),
];

/// The kernel of one panel width: `$vectors` times eight channels in `$registers` registers.
macro_rules! gemm_kernel {
    ($name:literal, $of:ident, $form:ident, $vectors:literal, $registers:literal, rows $($rows:literal)*) => {
        GemmKernel {
            name: $name,
            lanes: 2 * LANES,
            vectors: $vectors,
            form: WeightForm::$form,
            input_offset: INPUT_OFFSET,
            accumulate: &[$(dense::$of::accumulate::<$rows, $registers>),*],
            spans: Some(Spans {
                u8: &[$(dense::$of::span::<$rows, $registers, false>),*],
                add: &[$(dense::$of::span::<$rows, $registers, true>),*],
                f32: &[],
                shallow_rows: 4,
                groups_max: usize::MAX,
            }),
            stores: stores::<$registers>(),
        }
    };
}

static GEMM_16: GemmKernel = gemm_kernel!("gemm_u8s8s32_4x16_neon", base, BytePairs, 2, 4, rows 1 2 3 4);
static GEMM_8: GemmKernel = gemm_kernel!("gemm_u8s8s32_6x8_neon", base, BytePairs, 1, 2, rows 1 2 3 4 5 6);
static GEMM_16_DOTPROD: GemmKernel = gemm_kernel!("gemm_u8s8s32_4x16_neon_dotprod", dotprod, Bytes, 2, 4, rows 1 2 3 4);
static GEMM_8_DOTPROD: GemmKernel =
    gemm_kernel!("gemm_u8s8s32_8x8_neon_dotprod", dotprod, Bytes, 1, 2, rows 1 2 3 4 5 6 7 8);

const fn stores<const REGISTERS: usize>() -> Stores {
    Stores {
        u8: finish::store_u8::<REGISTERS>,
        u8_proven: finish::store_u8::<REGISTERS>,
        add: finish::store_add::<REGISTERS>,
        f32: finish::store_f32::<REGISTERS>,
    }
}

static DEPTHWISE: DepthwiseKernel = DepthwiseKernel {
    name: "depthwise_u8s8s32_4x16_neon",
    width: depthwise::WIDTH,
    slots: 2,
    wide: false,
    interleaved: false,
    input_offset: INPUT_OFFSET,
    accumulate: [depthwise::base::window::<1>, depthwise::base::window::<2>, depthwise::base::window::<4>],
    stores: &GEMM_16.stores,
    rows_u8: Some(depthwise::base::rows_for),
};

static DEPTHWISE_DOTPROD: DepthwiseKernel = DepthwiseKernel {
    name: "depthwise_u8s8s32_4x16_neon_dotprod",
    width: depthwise::WIDTH,
    slots: 4,
    wide: false,
    interleaved: false,
    input_offset: INPUT_OFFSET,
    accumulate: [depthwise::dotprod::window::<1>, depthwise::dotprod::window::<2>, depthwise::dotprod::window::<4>],
    stores: &GEMM_16_DOTPROD.stores,
    rows_u8: Some(depthwise::dotprod::rows_for),
};
