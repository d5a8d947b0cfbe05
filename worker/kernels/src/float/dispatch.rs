//! From an [`Isa`] to the one copy of a function that was compiled for it.
//!
//! A body is written once as plain Rust with explicit fused multiply-adds and compiled once per instruction set; the
//! compiler may vectorise it but never reorder or contract it, so every copy gives the same bits.

#[cfg(target_arch = "x86_64")]
use std::sync::atomic::{AtomicU8, Ordering};

use crate::Isa;

/// The copies that exist in this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// The copy to run for `isa`.
///
/// An instruction set that this machine lacks falls back to the portable copy: the result is the same, and no value of
/// [`Isa`] can make the program execute an instruction the machine does not have.
#[inline]
pub(super) fn path(isa: Isa) -> Path {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni if detected() & bit(Isa::Avx512Vnni) != 0 => Path::Avx512,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if detected() & bit(Isa::Avx2) != 0 => Path::Avx2,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDotprod => Path::Neon,
        #[cfg(not(target_arch = "aarch64"))]
        Isa::Neon | Isa::NeonDotprod => Path::Portable,
        Isa::Scalar | Isa::Avx2 | Isa::Avx512Vnni => Path::Portable,
    }
}

#[cfg(target_arch = "x86_64")]
fn bit(isa: Isa) -> u8 {
    1 << isa as u8
}

/// One bit an available instruction set. Asking the machine takes a dozen loads and branches, and row functions ask
/// several times a row, so the answer is kept; 0 means it has not been asked yet, since `Scalar` is always there.
#[cfg(target_arch = "x86_64")]
#[inline]
fn detected() -> u8 {
    static DETECTED: AtomicU8 = AtomicU8::new(0);
    let known = DETECTED.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let found = Isa::available().into_iter().fold(0, |bits, isa| bits | bit(isa));
    DETECTED.store(found, Ordering::Relaxed);
    found
}

/// Defines a function with a leading `isa: Isa` parameter whose body is compiled once per instruction set.
///
/// The body must be inlinable to the last call: it may call only `#[inline(always)]` functions and compiler builtins,
/// otherwise the callee would run without the instruction set's vectors.
macro_rules! per_isa {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident $(<$($generic:ident: $bound:path),+>)? (
            $($argument:ident: $type:ty),* $(,)?
        ) $(-> $result:ty)? $body:block
    )+) => {$(
        $(#[$attribute])*
        $visibility fn $name $(<$($generic: $bound),+>)? (
            isa: $crate::Isa, $($argument: $type),*
        ) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body $(<$($generic: $bound),+>)? ($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512 $(<$($generic: $bound),+>)? ($($argument: $type),*) $(-> $result)? {
                body($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2 $(<$($generic: $bound),+>)? ($($argument: $type),*) $(-> $result)? {
                body($($argument),*)
            }

            match $crate::float::dispatch::path(isa) {
                $crate::float::dispatch::Path::Portable => body($($argument),*),
                // The base set has vectors and fused multiply-add, so every copy is compiled for them.
                #[cfg(target_arch = "aarch64")]
                $crate::float::dispatch::Path::Neon => body($($argument),*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `path` answers this only when the machine has AVX2 and FMA.
                $crate::float::dispatch::Path::Avx2 => unsafe { avx2($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `path` answers this only when the machine has every AVX-512 subset named above.
                $crate::float::dispatch::Path::Avx512 => unsafe { avx512($($argument),*) },
            }
        }
    )+};
}

pub(super) use per_isa;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_instruction_set_falls_back_to_the_portable_copy() {
        for isa in Isa::ALL {
            // Floats need nothing of AArch64 but its base set, whether or not there are dot products.
            let needed = if isa == Isa::NeonDotprod { Isa::Neon } else { isa };
            if !needed.is_available() {
                assert_eq!(path(isa), Path::Portable, "{isa}");
            }
        }
        assert_eq!(path(Isa::Scalar), Path::Portable);
    }
}
