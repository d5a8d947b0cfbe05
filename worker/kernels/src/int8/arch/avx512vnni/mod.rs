//! AVX-512 with VNNI: four u8 x s8 products a lane and instruction, 24 accumulators a tile.

mod depthwise;
mod span;
mod tile;

use std::arch::x86_64::*;

use super::super::elements::element_kernels_for;
use super::super::epilogue::Codes;
use super::{GemmKernel, Int8Kernel, Spans, Stores, WeightForm, entry};
use crate::Isa;
use crate::registry::{Family, KernelEntry};

/// Channels a vector of sums.
const LANES: usize = 16;

element_kernels_for!("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq", "elements_u8_avx512vnni");

pub(super) static KERNELS: &[KernelEntry] = &[
    entry(Family::GemmU8S8, Isa::Avx512Vnni, GEMM_1.name, Int8Kernel::Gemm(&GEMM_1)),
    entry(Family::GemmU8S8, Isa::Avx512Vnni, GEMM_2.name, Int8Kernel::Gemm(&GEMM_2)),
    entry(Family::GemmU8S8, Isa::Avx512Vnni, GEMM_3.name, Int8Kernel::Gemm(&GEMM_3)),
    entry(Family::GemmU8S8, Isa::Avx512Vnni, GEMM_4.name, Int8Kernel::Gemm(&GEMM_4)),
    entry(Family::DepthwiseU8S8, Isa::Avx512Vnni, depthwise::WIDE_32.name, Int8Kernel::Depthwise(&depthwise::WIDE_32)),
    entry(Family::DepthwiseU8S8, Isa::Avx512Vnni, depthwise::WIDE_64.name, Int8Kernel::Depthwise(&depthwise::WIDE_64)),
    entry(Family::ElementsU8, Isa::Avx512Vnni, ELEMENTS.name, Int8Kernel::Elements(&ELEMENTS)),
];

/// The kernel of one panel width; the row counts fill the registers that its columns leave.
macro_rules! gemm_kernel {
    ($name:literal, $vectors:literal, shallow $shallow:literal, add $($add:literal)*, rows $($rows:literal)*) => {
        GemmKernel {
            name: $name,
            lanes: LANES,
            vectors: $vectors,
            form: WeightForm::Bytes,
            input_offset: 0,
            accumulate: &[$(tile::accumulate::<$rows, $vectors>),*],
            spans: Some(Spans {
                u8: &[$(span::span::<$rows, $vectors, { span::CODES }>),*],
                add: &[$(span::span::<$add, $vectors, { span::ADD }>),*],
                f32: &[$(span::span::<$rows, $vectors, { span::FLOATS }>),*],
                shallow_rows: $shallow,
                groups_max: usize::MAX,
            }),
            stores: Stores {
                u8: tile::store_u8::<$vectors, true>,
                u8_proven: tile::store_u8::<$vectors, false>,
                add: tile::store_add::<$vectors>,
                f32: tile::store_f32::<$vectors>,
            },
        }
    };
}

static GEMM_4: GemmKernel = gemm_kernel!("gemm_u8s8s32_6x64_avx512vnni", 4, shallow 2, add 1 2 3 4, rows 1 2 3 4 5 6);
static GEMM_3: GemmKernel =
    gemm_kernel!("gemm_u8s8s32_8x48_avx512vnni", 3, shallow 4, add 1 2 3 4 5, rows 1 2 3 4 5 6 7 8);
static GEMM_2: GemmKernel =
    gemm_kernel!("gemm_u8s8s32_12x32_avx512vnni", 2, shallow 4, add 1 2 3 4 5 6 7 8, rows 1 2 3 4 5 6 7 8 9 10 11 12);
static GEMM_1: GemmKernel =
    gemm_kernel!("gemm_u8s8s32_12x16_avx512vnni", 1, shallow 8, add 1 2 3 4 5 6 7 8, rows 1 2 3 4 5 6 7 8 9 10 11 12);

/// How many of a tile's vectors are packed together.
///
/// Three vectors a row leave a quarter of each pack empty; with one, two or four, vectors of consecutive rows fill it.
const fn vectors_a_pack(nv: usize) -> usize {
    if nv == 3 { 3 } else { 4 }
}

/// Packs four vectors of codes less the zero point to 64 codes in order of channels.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
fn pack_codes(v: [__m512i; 4], codes: &Codes) -> __m512i {
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(order, pack_interleaved(v, codes))
}

/// Packs four vectors to 64 codes, lane by lane: 16 codes of lane 0 of all four, then of lane 1, and so on.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
fn pack_interleaved(v: [__m512i; 4], codes: &Codes) -> __m512i {
    // Saturation does the clamp to 0..=255, which is often all of it: every step here is monotone, and a sum beyond
    // the range of i16 is beyond the codes as well, zero point or not.
    let mut low = _mm512_packs_epi32(v[0], v[1]);
    let mut high = _mm512_packs_epi32(v[2], v[3]);
    if codes.zero_point != 0 {
        let zero_point = _mm512_set1_epi16(i16::from(codes.zero_point));
        low = _mm512_adds_epi16(low, zero_point);
        high = _mm512_adds_epi16(high, zero_point);
    }
    let bytes = _mm512_packus_epi16(low, high);
    if codes.lo == 0 && codes.hi == 255 {
        return bytes;
    }
    let bytes = _mm512_min_epu8(bytes, _mm512_set1_epi8(codes.hi as i8));
    _mm512_max_epu8(bytes, _mm512_set1_epi8(codes.lo as i8))
}

/// Which of the 16 channels from `column` on exist.
fn tail_mask(channels: usize, column: usize) -> u16 {
    let left = channels.saturating_sub(column);
    if left >= LANES { u16::MAX } else { (1u16 << left) - 1 }
}
