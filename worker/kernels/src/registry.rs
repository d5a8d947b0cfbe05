//! The one list of kernels that dispatch, tests and benchmarks walk: what is not in it does not exist.

use crate::Isa;
use crate::int8::{self, Int8Kernel};

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Dense convolution and matrix product, u8 x s8.
    GemmU8S8,
    /// Depthwise convolution, u8 x s8.
    DepthwiseU8S8,
    /// Conversions, Add, lookup and pooling on u8.
    ElementsU8,
}

/// One kernel.
#[derive(Clone, Copy, Debug)]
pub struct KernelEntry {
    /// What it computes.
    pub family: Family,
    /// What it needs of the machine.
    pub isa: Isa,
    /// Its name, `<op>_<lhs><rhs><out>_<mr>x<nr>_<isa>`.
    pub name: &'static str,
    pub(crate) kernel: Kernel,
}

/// The functions behind an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kernel {
    Int8(Int8Kernel),
}

impl KernelEntry {
    /// Output pixels and channels that the kernel computes at once: the sizes whose neighbourhood a test has to visit.
    pub fn tile(&self) -> (usize, usize) {
        match self.kernel {
            Kernel::Int8(kernel) => kernel.tile(),
        }
    }
}

static LISTS: &[&[&[KernelEntry]]] = &[int8::KERNELS];

/// Every kernel of this build, whether or not the machine can run it.
pub fn kernels() -> impl Iterator<Item = &'static KernelEntry> {
    LISTS.iter().flat_map(|lists| lists.iter()).flat_map(|list| list.iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_end_in_their_instruction_set() {
        let mut seen = BTreeSet::new();
        for entry in kernels() {
            assert!(seen.insert(entry.name), "{} is listed twice", entry.name);
            assert!(entry.name.ends_with(&format!("_{}", entry.isa)), "{}", entry.name);
        }
    }

    #[test]
    fn every_family_has_a_scalar_kernel() {
        for family in [Family::GemmU8S8, Family::DepthwiseU8S8, Family::ElementsU8] {
            assert!(kernels().any(|entry| entry.family == family && entry.isa == Isa::Scalar), "{family:?}");
        }
    }
}
