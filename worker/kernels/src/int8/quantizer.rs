//! Quantization without division: two multiplications give the code that a division gives, which is checked beforehand.

use super::arch::element_kernels;
use super::epilogue::Codes;
use super::layout::{assert_same_extents, for_each_run};
use super::{CodeParams, quantize_f32_u8};
use crate::{Image, Isa};

/// Scales whose reciprocals and bounds are far from the ends of the range of floats.
const SCALES: std::ops::Range<f32> = 1e-30..1e30;

/// Quantizes as [`quantize_f32_u8`] does.
///
/// With `high = 1 / scale` rounded and `low` the rest of it, `fma(x, high, x * low)` is within 2^-48 of the quotient
/// before it is rounded, so it can only round to another float than the division where the quotient is that near to the
/// middle of two floats. A code depends on that at the two middles beside each half-integer alone, and one float at most
/// is near enough to each: these are tried, and a scale that fails is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantizer {
    params: CodeParams,
    product: Option<Product>,
}

/// What replaces a division.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Product {
    /// The reciprocal in two parts.
    high: f32,
    low: f32,
    /// What the lowest and the highest code stand for; beyond lies nothing else.
    bounds: [f32; 2],
    zero_point: u8,
}

impl Product {
    /// The code of a number; NaN gives the lowest.
    #[inline(always)]
    pub(crate) fn code(&self, x: f32) -> u8 {
        let x = super::epilogue::clamp_f32(x, self.bounds[0], self.bounds[1]);
        // As in `Codes::round`; the bounds have clamped already.
        let shifted = x.mul_add(self.high, x * self.low) + 12_582_912.0;
        (shifted.to_bits().wrapping_sub(0x4B40_0000).wrapping_add(u32::from(self.zero_point))) as u8
    }
}

impl Quantizer {
    /// Finds and checks the reciprocal.
    pub fn new(params: CodeParams) -> Quantizer {
        let CodeParams { scale, zero_point, lo, hi } = params;
        if !SCALES.contains(&scale) || lo > hi {
            return Quantizer { params, product: None };
        }
        let steps = |code: u8| f32::from(code) - f32::from(zero_point);
        let high = 1.0 / scale;
        let low = ((1.0 - f64::from(high) * f64::from(scale)) / f64::from(scale)) as f32;
        let product = Product { high, low, bounds: [lo, hi].map(|code| steps(code) * scale), zero_point };
        let codes = Codes::new(zero_point, lo, hi);
        let agrees = |x: f32| product.code(x) == codes.round(x / scale);
        let checked = (lo..hi).all(|code| {
            let half = steps(code) + 0.5;
            [half.next_down(), half.next_up()].into_iter().all(|beside| {
                // Exact: 25 bits by 24.
                agrees(((f64::from(half) + f64::from(beside)) / 2.0 * f64::from(scale)) as f32)
            })
        });
        Quantizer { params, product: checked.then_some(product) }
    }

    /// Scale, zero point and bounds.
    pub fn params(&self) -> CodeParams {
        self.params
    }

    /// Quantizes an image.
    ///
    /// # Panics
    /// When the images differ in extents, reach beyond their slices, or the machine lacks `isa`.
    pub fn run(&self, isa: Isa, (input, input_image): (&[f32], &Image), (output, output_image): (&mut [u8], &Image)) {
        // Without fused multiply-add a division is the cheaper one.
        let Some(product) = self.product.filter(|_| isa != Isa::Scalar) else {
            return quantize_f32_u8(isa, &self.params, (input, input_image), (output, output_image));
        };
        let kernel = element_kernels(isa).quantize_by_product;
        assert_same_extents(input_image, output_image);
        for_each_run([input_image, output_image], |[from, to], length| {
            // SAFETY: `element_kernels` made sure of the instruction set.
            unsafe { kernel(&input[from..][..length], &product, &mut output[to..][..length]) }
        });
    }
}

#[inline(always)]
pub(crate) fn quantize_by_product_loop(input: &[f32], product: &Product, output: &mut [u8]) {
    let product = *product;
    for (out, &x) in output.iter_mut().zip(input) {
        *out = product.code(x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_every_scale_is_multiplied_with() {
        let scales = (0..400u32).map(|index| f32::from_bits(0x3C23_D70A + index * 20_011));
        let params = |scale| CodeParams { scale, zero_point: 7, lo: 0, hi: 255 };
        assert!(scales.filter(|scale| Quantizer::new(params(*scale)).product.is_none()).count() < 2);
        assert!(Quantizer::new(params(1e-38)).product.is_none());
    }
}
