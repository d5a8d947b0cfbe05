//! The few vector steps that the hand-blocked kernels are written in, one implementation per register type.

/// A register of f32 lanes.
///
/// Every method is one IEEE operation a lane, so an algorithm written over `Vector` gives the same bits whatever the
/// lane count, as long as lanes never meet.
///
/// # Safety
///
/// Every method may only be called where the implementing type's instruction set is available. Pointers must be valid
/// for the lanes the method names; no alignment is needed.
pub(super) trait Vector: Copy {
    /// Lanes of one register.
    const LANES: usize;

    /// All lanes +0.
    unsafe fn zero() -> Self;
    /// All lanes `value`.
    unsafe fn splat(value: f32) -> Self;
    /// Reads `LANES` values.
    unsafe fn load(from: *const f32) -> Self;
    /// Writes `LANES` values.
    unsafe fn store(self, to: *mut f32);
    /// Reads `count < LANES` values; the other lanes are +0.
    unsafe fn load_partial(from: *const f32, count: usize) -> Self;
    /// Writes the first `count < LANES` values.
    unsafe fn store_partial(self, to: *mut f32, count: usize);
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// Clears the sign.
    unsafe fn abs(self) -> Self;
    /// `self * factor + addend`, rounded once.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// `if self > other { self } else { other }`.
    unsafe fn greater(self, other: Self) -> Self;
    /// `if self < other { self } else { other }`.
    unsafe fn less(self, other: Self) -> Self;
}

/// Defines an unsafe function with a leading `isa: Isa` parameter whose body, written over a [`Vector`], is compiled once
/// per register type inside functions that enable its instruction set.
///
/// The functions are unsafe for what their bodies do with pointers; the instruction set is proven here.
macro_rules! per_register {
    ($(
        $(#[$attribute:meta])*
        unsafe fn $name:ident<$vector:ident>($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    )+) => {$(
        $(#[$attribute])*
        unsafe fn $name(isa: $crate::Isa, $($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            unsafe fn body<$vector: $crate::float::vector::Vector>($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
            unsafe fn avx512($($argument: $type),*) $(-> $result)? {
                // SAFETY: this function enables the register's instruction set; the rest is the caller's contract.
                unsafe { body::<$crate::float::vector::Zmm>($($argument),*) }
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($argument: $type),*) $(-> $result)? {
                // SAFETY: this function enables the register's instruction set; the rest is the caller's contract.
                unsafe { body::<$crate::float::vector::Ymm>($($argument),*) }
            }

            match $crate::float::dispatch::path(isa) {
                // SAFETY: the portable register needs no instruction set; the rest is the caller's contract.
                $crate::float::dispatch::Path::Portable => unsafe {
                    body::<$crate::float::vector::Portable>($($argument),*)
                },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: the base set is always there; the rest is the caller's contract.
                $crate::float::dispatch::Path::Neon => unsafe { body::<$crate::float::neon::Neon>($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `path` answers this only when the machine has it; the rest is the caller's contract.
                $crate::float::dispatch::Path::Avx2 => unsafe { avx2($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `path` answers this only when the machine has it; the rest is the caller's contract.
                $crate::float::dispatch::Path::Avx512 => unsafe { avx512($($argument),*) },
            }
        }
    )+};
}

pub(super) use per_register;

/// Eight lanes of plain Rust: the portable register.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 8]);

impl Vector for Portable {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Portable([0.0; 8])
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Portable([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller answers for eight readable values; an array of f32 has the alignment of f32.
        Portable(unsafe { from.cast::<[f32; 8]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller answers for eight writable values.
        unsafe { to.cast::<[f32; 8]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; 8];
        for (i, lane) in lanes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller answers for `count` readable values.
            *lane = unsafe { from.add(i).read() };
        }
        Portable(lanes)
    }
    #[inline(always)]
    unsafe fn store_partial(self, to: *mut f32, count: usize) {
        for (i, lane) in self.0.into_iter().enumerate().take(count) {
            // SAFETY: the caller answers for `count` writable values.
            unsafe { to.add(i).write(lane) };
        }
    }
    #[inline(always)]
    unsafe fn add(mut self, other: Self) -> Self {
        for (lane, other) in self.0.iter_mut().zip(other.0) {
            *lane += other;
        }
        self
    }
    #[inline(always)]
    unsafe fn abs(mut self) -> Self {
        for lane in &mut self.0 {
            *lane = lane.abs();
        }
        self
    }
    #[inline(always)]
    unsafe fn mul_add(mut self, factor: Self, addend: Self) -> Self {
        for (i, lane) in self.0.iter_mut().enumerate() {
            *lane = lane.mul_add(factor.0[i], addend.0[i]);
        }
        self
    }
    #[inline(always)]
    unsafe fn greater(mut self, other: Self) -> Self {
        for (lane, other) in self.0.iter_mut().zip(other.0) {
            *lane = if *lane > other { *lane } else { other };
        }
        self
    }
    #[inline(always)]
    unsafe fn less(mut self, other: Self) -> Self {
        for (lane, other) in self.0.iter_mut().zip(other.0) {
            *lane = if *lane < other { *lane } else { other };
        }
        self
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Ymm, Zmm};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    /// Sixteen lanes: one AVX-512 register.
    #[derive(Clone, Copy)]
    pub(crate) struct Zmm(__m512);

    /// Eight lanes: one AVX2 register.
    #[derive(Clone, Copy)]
    pub(crate) struct Ymm(__m256);

    // SAFETY (every block in this module): the trait's contract gives the instruction set and the pointers.
    impl Vector for Zmm {
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see the trait's contract.
            Zmm(unsafe { _mm512_setzero_ps() })
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see the trait's contract.
            Zmm(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see the trait's contract.
            Zmm(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see the trait's contract.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn load_partial(from: *const f32, count: usize) -> Self {
            // SAFETY: see the trait's contract; masked lanes are not read.
            Zmm(unsafe { _mm512_maskz_loadu_ps((1u16 << count) - 1, from) })
        }
        #[inline(always)]
        unsafe fn store_partial(self, to: *mut f32, count: usize) {
            // SAFETY: see the trait's contract; masked lanes are not written.
            unsafe { _mm512_mask_storeu_ps(to, (1u16 << count) - 1, self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: see the trait's contract.
            Zmm(unsafe { _mm512_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn abs(self) -> Self {
            // SAFETY: see the trait's contract.
            Zmm(unsafe { _mm512_abs_ps(self.0) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: see the trait's contract.
            Zmm(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
        }
        #[inline(always)]
        unsafe fn greater(self, other: Self) -> Self {
            // SAFETY: see the trait's contract.
            Zmm(unsafe { _mm512_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn less(self, other: Self) -> Self {
            // SAFETY: see the trait's contract.
            Zmm(unsafe { _mm512_min_ps(self.0, other.0) })
        }
    }

    /// Eight set lanes, then eight clear ones: the mask of `count` lanes starts at `8 - count`.
    const LANE_MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

    #[inline(always)]
    unsafe fn lane_mask(count: usize) -> __m256i {
        // SAFETY: `count <= 8`, so eight entries follow `8 - count`; the instruction set is the caller's contract.
        unsafe { _mm256_loadu_si256(LANE_MASKS.as_ptr().add(8 - count).cast()) }
    }

    impl Vector for Ymm {
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see the trait's contract.
            Ymm(unsafe { _mm256_setzero_ps() })
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see the trait's contract.
            Ymm(unsafe { _mm256_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see the trait's contract.
            Ymm(unsafe { _mm256_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see the trait's contract.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn load_partial(from: *const f32, count: usize) -> Self {
            // SAFETY: see the trait's contract; masked lanes are not read.
            Ymm(unsafe { _mm256_maskload_ps(from, lane_mask(count)) })
        }
        #[inline(always)]
        unsafe fn store_partial(self, to: *mut f32, count: usize) {
            // SAFETY: see the trait's contract; masked lanes are not written.
            unsafe { _mm256_maskstore_ps(to, lane_mask(count), self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: see the trait's contract.
            Ymm(unsafe { _mm256_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn abs(self) -> Self {
            // SAFETY: see the trait's contract.
            Ymm(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: see the trait's contract.
            Ymm(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
        }
        #[inline(always)]
        unsafe fn greater(self, other: Self) -> Self {
            // SAFETY: see the trait's contract.
            Ymm(unsafe { _mm256_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn less(self, other: Self) -> Self {
            // SAFETY: see the trait's contract.
            Ymm(unsafe { _mm256_min_ps(self.0, other.0) })
        }
    }
}
