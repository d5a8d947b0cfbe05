//! What happens to a finished i32 sum: requantize, add a residual, or turn into a float; the one scalar definition.

use super::Int8Error;
use crate::Image;

/// From an i32 sum to a u8 code.
///
/// `code = round(clamp(sum as f32 * multiplier, lo - zero_point, hi - zero_point)) + zero_point`, rounding half to
/// even, every step one IEEE f32 operation. `lo` and `hi` express a fused ReLU, ReLU6 or Clip in codes.
#[derive(Clone, Debug, PartialEq)]
pub struct Requant {
    multiplier: Vec<f32>,
    zero_point: u8,
    lo: u8,
    hi: u8,
}

impl Requant {
    /// One multiplier per output channel (input scale x weight scale / output scale), all finite.
    pub fn new(multiplier: Vec<f32>, zero_point: u8, lo: u8, hi: u8) -> Result<Requant, Int8Error> {
        if let Some(&value) = multiplier.iter().find(|m| !m.is_finite()) {
            return Err(Int8Error::NotUsable { what: "a requantization multiplier", value });
        }
        if lo > hi {
            return Err(Int8Error::EmptyRange { lo, hi });
        }
        Ok(Requant { multiplier, zero_point, lo, hi })
    }

    /// Multipliers, one per output channel.
    pub fn multiplier(&self) -> &[f32] {
        &self.multiplier
    }

    /// The output's zero point.
    pub fn zero_point(&self) -> u8 {
        self.zero_point
    }

    /// The lowest and the highest code.
    pub fn bounds(&self) -> (u8, u8) {
        (self.lo, self.hi)
    }

    /// The codes of sums that share the first multiplier, over the shorter slice.
    pub fn apply(&self, sums: &[i32], output: &mut [u8]) {
        let Some(&multiplier) = self.multiplier.first() else { return };
        let codes = self.codes();
        for (to, &sum) in output.iter_mut().zip(sums) {
            *to = codes.requantize(sum, multiplier);
        }
    }

    pub(crate) fn codes(&self) -> Codes {
        Codes::new(self.zero_point, self.lo, self.hi)
    }
}

/// One operand or the result of a quantized Add.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantizedOperand {
    /// Real value of one step.
    pub scale: f32,
    /// The code of real 0.
    pub zero_point: u8,
}

/// The constants of a quantized Add as ONNX Runtime computes QLinearAdd on x86.
///
/// With `ra = sA/sC`, `rb = sB/sC` and `fixed = zC - fma(ra, zA, rb * zB)`:
/// `code = round(clamp(fma(a, ra, fma(b, rb, fixed)), lo, hi))`, all in f32, half to even.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AddU8 {
    pub(crate) ra: f32,
    pub(crate) rb: f32,
    pub(crate) fixed: f32,
    pub(crate) lo: u8,
    pub(crate) hi: u8,
    pub(crate) conv_is_a: bool,
}

impl AddU8 {
    /// Constants of `C = A + B`, clamped to `[lo, hi]`.
    ///
    /// Fused behind a convolution, `conv_is_a` says whether the convolution is the first operand; the standalone Add
    /// ignores it.
    pub fn new(
        a: QuantizedOperand,
        b: QuantizedOperand,
        c: QuantizedOperand,
        (lo, hi): (u8, u8),
        conv_is_a: bool,
    ) -> Result<AddU8, Int8Error> {
        if lo > hi {
            return Err(Int8Error::EmptyRange { lo, hi });
        }
        let ra = a.scale / c.scale;
        let rb = b.scale / c.scale;
        let fixed = f32::from(c.zero_point) - ra.mul_add(f32::from(a.zero_point), rb * f32::from(b.zero_point));
        // Three terms of at most a third of f32's range each cannot meet as inf - inf, so no code comes from a NaN.
        for (what, value, limit) in
            [("sA/sC of an Add", ra, 4e35), ("sB/sC of an Add", rb, 4e35), ("the fixed part of an Add", fixed, 1e38)]
        {
            if !value.is_finite() || value.abs() > limit {
                return Err(Int8Error::NotUsable { what, value });
            }
        }
        Ok(AddU8 { ra, rb, fixed, lo, hi, conv_is_a })
    }

    /// Stands where an operation has no Add.
    pub(crate) const NOTHING: AddU8 = AddU8 { ra: 0.0, rb: 0.0, fixed: 0.0, lo: 0, hi: 255, conv_is_a: true };

    /// Whether every sum of codes converts to i32 without a clamp.
    pub(crate) fn converts(&self) -> bool {
        255.0 * (self.ra.abs() + self.rb.abs()) + self.fixed.abs() < (1u32 << 30) as f32
    }

    /// The sum of two codes.
    pub fn apply(&self, a: u8, b: u8) -> u8 {
        let t = f32::from(b).mul_add(self.rb, self.fixed);
        let t = f32::from(a).mul_add(self.ra, t);
        clamp_f32(t, f32::from(self.lo), f32::from(self.hi)).round_ties_even() as u8
    }
}

/// What to do with the sums of a convolution.
#[derive(Debug)]
pub enum Epilogue<'a> {
    /// Codes of the output tensor.
    U8 {
        /// How sums become codes.
        requant: &'a Requant,
        /// The output buffer.
        output: &'a mut [u8],
    },
    /// Codes of the convolution, then added to a residual.
    U8Add {
        /// How sums become the convolution's own codes.
        requant: &'a Requant,
        /// How those and the residual become output codes.
        add: &'a AddU8,
        /// The other operand's buffer.
        residual: &'a [u8],
        /// Where the other operand lies; its extents are the output's.
        residual_image: Image,
        /// The output buffer.
        output: &'a mut [u8],
    },
    /// Codes of the convolution, then added to those that the output holds.
    U8Accumulate {
        /// How sums become the convolution's own codes.
        requant: &'a Requant,
        /// How those and the output's become output codes.
        add: &'a AddU8,
        /// The output buffer.
        output: &'a mut [u8],
    },
    /// Real numbers, for a consumer in float.
    F32 {
        /// Input scale x weight scale, one per output channel.
        scale: &'a [f32],
        /// Added to the scaled sum, rounded by itself; one per output channel.
        shift: Option<&'a [f32]>,
        /// Lower bound; negative infinity for none.
        lo: f32,
        /// Upper bound; infinity for none.
        hi: f32,
        /// The output buffer.
        output: &'a mut [f32],
    },
}

/// Zero point and bounds in the forms the kernels want them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codes {
    pub zero_point: u8,
    pub lo: u8,
    pub hi: u8,
    /// `lo - zero_point`.
    pub min: f32,
    /// `hi - zero_point`.
    pub max: f32,
}

impl Codes {
    /// Stands where nothing becomes a code.
    pub(crate) const NOTHING: Codes = Codes { zero_point: 0, lo: 0, hi: 255, min: 0.0, max: 255.0 };

    pub(crate) fn new(zero_point: u8, lo: u8, hi: u8) -> Codes {
        let zp = f32::from(zero_point);
        Codes { zero_point, lo, hi, min: f32::from(lo) - zp, max: f32::from(hi) - zp }
    }

    /// The definition of requantization for one sum.
    #[inline(always)]
    pub(crate) fn requantize(&self, sum: i32, multiplier: f32) -> u8 {
        self.round(sum as f32 * multiplier)
    }

    /// Clamp, round half to even, add the zero point; NaN gives `lo`.
    #[inline(always)]
    pub(crate) fn round(&self, value: f32) -> u8 {
        let clamped = clamp_f32(value, self.min, self.max);
        // Adding 1.5 * 2^23 leaves the integer nearest to the value (half to even) in the low bits of the sum; the
        // bounds keep it within a byte. Unlike a conversion it compiles to plain vector code on every target.
        let shifted = clamped + 12_582_912.0;
        (shifted.to_bits().wrapping_sub(0x4B40_0000).wrapping_add(u32::from(self.zero_point))) as u8
    }
}

/// Clamps with the operand order of `maxps` and `minps`, so that NaN becomes `lo` on every instruction set.
#[inline(always)]
pub(crate) fn clamp_f32(value: f32, lo: f32, hi: f32) -> f32 {
    let value = if value > lo { value } else { lo };
    if value < hi { value } else { hi }
}
