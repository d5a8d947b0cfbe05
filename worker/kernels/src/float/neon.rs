//! The AArch64 register of the hand-blocked float kernels.

use std::arch::aarch64::*;

use crate::float::vector::Vector;

/// Eight lanes: two base vector registers, so that a tile of two of them fills the machine's thirty-two.
#[derive(Clone, Copy)]
pub(super) struct Neon(float32x4_t, float32x4_t);

/// Lanes of one machine register.
const HALF: usize = 4;

/// Reads `count < 4` values; the other lanes are +0.
///
/// # Safety
///
/// They are readable.
#[inline(always)]
unsafe fn load_part(from: *const f32, count: usize) -> float32x4_t {
    // SAFETY: the caller's contract.
    unsafe {
        let zero = vdupq_n_f32(0.0);
        match count {
            0 => zero,
            1 => vsetq_lane_f32::<0>(*from, zero),
            2 => vcombine_f32(vld1_f32(from), vget_low_f32(zero)),
            _ => vsetq_lane_f32::<2>(*from.add(2), vcombine_f32(vld1_f32(from), vget_low_f32(zero))),
        }
    }
}

/// Writes the first `count < 4` lanes.
///
/// # Safety
///
/// They are writable.
#[inline(always)]
unsafe fn store_part(lanes: float32x4_t, to: *mut f32, count: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        if count >= 2 {
            vst1_f32(to, vget_low_f32(lanes));
        }
        match count {
            1 => *to = vgetq_lane_f32::<0>(lanes),
            3 => *to.add(2) = vgetq_lane_f32::<2>(lanes),
            _ => {}
        }
    }
}

// SAFETY (every block here): the base vector instructions are part of every AArch64 target this is built for; pointers
// are the trait's contract.
impl Vector for Neon {
    const LANES: usize = 2 * HALF;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see above.
        unsafe { Self::splat(0.0) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: see above.
        let lanes = unsafe { vdupq_n_f32(value) };
        Neon(lanes, lanes)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe { Neon(vld1q_f32(from), vld1q_f32(from.add(HALF))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe {
            vst1q_f32(to, self.0);
            vst1q_f32(to.add(HALF), self.1);
        }
    }
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        // SAFETY: see above; each half reads what is left for it.
        unsafe {
            if count < HALF {
                Neon(load_part(from, count), vdupq_n_f32(0.0))
            } else {
                Neon(vld1q_f32(from), load_part(from.add(HALF), count - HALF))
            }
        }
    }
    #[inline(always)]
    unsafe fn store_partial(self, to: *mut f32, count: usize) {
        // SAFETY: see above; each half writes what is left for it.
        unsafe {
            if count < HALF {
                store_part(self.0, to, count);
            } else {
                vst1q_f32(to, self.0);
                store_part(self.1, to.add(HALF), count - HALF);
            }
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Neon(vaddq_f32(self.0, other.0), vaddq_f32(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: see above.
        unsafe { Neon(vabsq_f32(self.0), vabsq_f32(self.1)) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe { Neon(vfmaq_f32(addend.0, self.0, factor.0), vfmaq_f32(addend.1, self.1, factor.1)) }
    }
    #[inline(always)]
    unsafe fn greater(self, other: Self) -> Self {
        // The instruction for maxima keeps NaNs; a comparison and a selection are the definition.
        let half = |a, b| {
            // SAFETY: see above.
            unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
        };
        Neon(half(self.0, other.0), half(self.1, other.1))
    }
    #[inline(always)]
    unsafe fn less(self, other: Self) -> Self {
        let half = |a, b| {
            // SAFETY: see above.
            unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
        };
        Neon(half(self.0, other.0), half(self.1, other.1))
    }
}
