//! The rate of the bare multiply-accumulate instruction of an instruction set: the limit kernels are measured against.

use holdfast_kernels::Isa;
use std::hint::black_box;
use std::time::Instant;

/// Multiply-accumulates of one call of the loop.
const STEPS: usize = 20_000;

/// The best rate of one short loop, in GMAC/s; `None` where no limit is known for the instruction set.
pub fn gmacs(isa: Isa) -> Option<f64> {
    if !isa.is_available() {
        return None;
    }
    let start = Instant::now();
    let macs = match isa {
        // SAFETY: the instruction set was just detected.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => unsafe { vnni_loop() },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { words_loop() },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => pairs_loop(),
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDotprod => unsafe { dotprod_loop() },
        _ => return None,
    };
    Some(macs as f64 / start.elapsed().as_nanos() as f64)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn vnni_loop() -> usize {
    use std::arch::x86_64::*;
    let mut sums = [_mm512_setzero_si512(); 12];
    let (a, b) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(-2)));
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    black_box(sums);
    STEPS * sums.len() * 64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn words_loop() -> usize {
    use std::arch::x86_64::*;
    let mut sums = [_mm256_set1_epi16(black_box(3)); 12];
    let b = _mm256_set1_epi16(black_box(-2));
    for _ in 0..STEPS {
        for sum in &mut sums {
            // The product depends on the sum, or the compiler would compute it once for all of them.
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*sum, b));
        }
    }
    black_box(sums);
    STEPS * sums.len() * 16
}

#[cfg(target_arch = "aarch64")]
fn pairs_loop() -> usize {
    use std::arch::aarch64::*;
    // SAFETY: the base vector instructions are part of every target this is built for.
    let sums = unsafe {
        let mut sums = [vdupq_n_s32(black_box(3)); 12];
        let b = vdup_n_s8(black_box(-2));
        for _ in 0..STEPS {
            for sum in &mut sums {
                // The product depends on the sum, or the compiler would compute it once for all of them.
                *sum = vpadalq_s16(*sum, vmull_s8(vget_low_s8(vreinterpretq_s8_s32(*sum)), b));
            }
        }
        sums
    };
    black_box(sums);
    STEPS * sums.len() * 8
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "dotprod")]
fn dotprod_loop() -> usize {
    use std::arch::aarch64::*;
    let mut sums = [vdupq_n_s32(0); 12];
    let (a, b) = (vdupq_n_s8(black_box(3)), vdupq_n_s8(black_box(-2)));
    for _ in 0..STEPS {
        for sum in &mut sums {
            // SAFETY: the instruction is enabled here and touches nothing but these registers.
            unsafe {
                std::arch::asm!(
                    "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
                    sum = inout(vreg) *sum,
                    a = in(vreg) a,
                    b = in(vreg) b,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
        }
    }
    black_box(sums);
    STEPS * sums.len() * 16
}
