//! What the float tests share: seeded values, bit comparison, the instruction sets of this machine.

#![allow(dead_code)] // Each test binary uses its own part.

use holdfast_kernels::Isa;

/// A small seeded generator (SplitMix64's mixing constants), so that a failure can be replayed from its printed seed.
pub struct Random(u64);

impl Random {
    /// Takes the seed from `HOLDFAST_TEST_SEED` or the default, and prints it.
    pub fn seeded(default: u64) -> Random {
        let seed = std::env::var("HOLDFAST_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(default);
        println!("HOLDFAST_TEST_SEED={seed}");
        Random(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..=high`.
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        low + (self.bits() % (high - low + 1) as u64) as usize
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.bits().is_multiple_of(one_in)
    }

    /// A value in -1..1 with a full mantissa, sometimes zero of either sign.
    pub fn value(&mut self) -> f32 {
        match self.bits() % 32 {
            0 => 0.0,
            1 => -0.0,
            _ => ((self.bits() >> 40) as f32 / (1u64 << 23) as f32) - 1.0,
        }
    }

    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }

    /// Values of every magnitude, among them infinities, NaNs, zeros and denormals.
    pub fn wild_values(&mut self, count: usize) -> Vec<f32> {
        const SPECIAL: [f32; 12] = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            2.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            f32::MIN_POSITIVE,
            f32::MAX,
            1e-42,
        ];
        (0..count)
            .map(|_| match self.bits() % 4 {
                0 => SPECIAL[self.within(0, SPECIAL.len() - 1)],
                1 => f32::from_bits(self.bits() as u32),
                2 => self.value() * 100.0,
                _ => self.value() * 4.0,
            })
            .collect()
    }
}

/// Asserts equal bits; two NaNs are equal whatever their payload.
pub fn assert_same_bits(found: &[f32], expected: &[f32], what: &dyn std::fmt::Debug) {
    assert_eq!(found.len(), expected.len(), "{what:?}: lengths");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let same = found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
        assert!(
            same,
            "{what:?}: element {i} is {found:e} ({:#010x}), expected {expected:e} ({:#010x})",
            found.to_bits(),
            expected.to_bits()
        );
    }
}

/// The instruction sets of this machine; prints the ones that are skipped.
pub fn isas() -> Vec<Isa> {
    for isa in Isa::ALL {
        if !isa.is_available() {
            println!("skipped: {isa} is not available on this machine");
        }
    }
    Isa::available()
}
