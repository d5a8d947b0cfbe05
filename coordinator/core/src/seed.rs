//! The only randomness there is: a small generator that a seed decides entirely.

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// The generator this seed starts.
    pub fn new(seed: u64) -> SplitMix64 {
        SplitMix64 { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, every one as likely as the others; 0 where the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // Values of the incomplete last block would favour small numbers, so they are drawn again.
        let usable = u64::MAX - u64::MAX % bound;
        loop {
            let drawn = self.next_u64();
            if drawn < usable {
                return drawn % bound;
            }
        }
    }

    /// `count` different positions below `total`, ascending; all of them where `count` is larger.
    pub fn choose(&mut self, count: usize, total: usize) -> Vec<usize> {
        let mut positions: Vec<usize> = (0..total).collect();
        let count = count.min(total);
        for index in 0..count {
            let other = index + self.below((total - index) as u64) as usize;
            positions.swap(index, other);
        }
        positions.truncate(count);
        positions.sort_unstable();
        positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        let mut generator = SplitMix64::new(1_234_567);
        let drawn = [generator.next_u64(), generator.next_u64()];
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn a_choice_is_ascending_without_repetition_and_repeatable() {
        let chosen = SplitMix64::new(7).choose(50, 100);
        assert_eq!(chosen.len(), 50);
        assert!(chosen.is_sorted_by(|a, b| a < b) && chosen.iter().all(|&position| position < 100));
        assert_eq!(chosen, SplitMix64::new(7).choose(50, 100));
        assert_ne!(chosen, SplitMix64::new(8).choose(50, 100));
        assert_eq!(SplitMix64::new(7).choose(9, 3), [0, 1, 2]);
    }
}
