//! A loop of multiply-adds and nothing else: what the float kernels are measured against.

use crate::Isa;
use crate::float::dispatch::{Path, path};
use crate::float::vector::Vector;

/// Independent sums, enough to hide the latency of a multiply-add on two pipelines.
const SUMS: usize = 12;

/// Runs `loops` rounds of twelve independent register-wide multiply-adds and returns a value that depends on all.
///
/// Timing it gives the machine's multiply-add peak; [`multiply_add_loop_macs`] says how many it did.
pub fn multiply_add_loop(isa: Isa, loops: usize) -> f32 {
    match path(isa) {
        // SAFETY: the portable register needs no instruction set.
        Path::Portable => unsafe { run::<crate::float::vector::Portable>(loops) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: the base set is always there.
        Path::Neon => unsafe { run::<crate::float::neon::Neon>(loops) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `path` answers this only when the machine has it.
        Path::Avx2 => unsafe { avx2(loops) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `path` answers this only when the machine has it.
        Path::Avx512 => unsafe { avx512(loops) },
    }
}

/// Multiply-accumulates that [`multiply_add_loop`] does.
pub fn multiply_add_loop_macs(isa: Isa, loops: usize) -> u64 {
    (loops * SUMS * super::tile::tiles(isa).lanes) as u64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn avx512(loops: usize) -> f32 {
    // SAFETY: this function's feature is the register type's.
    unsafe { run::<crate::float::vector::Zmm>(loops) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(loops: usize) -> f32 {
    // SAFETY: this function's feature is the register type's.
    unsafe { run::<crate::float::vector::Ymm>(loops) }
}

/// # Safety
///
/// `V`'s instruction set is there.
#[inline(always)]
unsafe fn run<V: Vector>(loops: usize) -> f32 {
    let mut lanes = [0.0f32; 16];
    // SAFETY: the caller gives the instruction set; `lanes` holds the widest register.
    unsafe {
        let factor = V::splat(std::hint::black_box(0.5));
        let addend = V::splat(std::hint::black_box(1.0));
        let mut sums = [V::zero(); SUMS];
        for _ in 0..loops {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, addend);
            }
        }
        let mut total = V::zero();
        for sum in sums {
            total = total.add(sum);
        }
        total.store(lanes.as_mut_ptr());
    }
    lanes.iter().sum()
}
