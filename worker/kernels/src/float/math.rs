//! The elementary functions: one polynomial each, in explicit fused multiply-adds, so that every machine gives the same bits.
//!
//! The coefficients are weighted minimax fits made for this file (Lawson's iteration on Chebyshev nodes, coefficients
//! rounded to f32 one by one and the rest fitted again). Errors are stated in units in the last place of the exact
//! result and tested over dense samples. Every function is a straight line of selects, so loops over it vectorise. None
//! selects its own argument as the result: in place, the compiler would make that a masked store, which AVX2 is slow at.

#![allow(clippy::excessive_precision, clippy::approx_constant)] // The printed digits are the rounded fits themselves.

/// `1.5 * 2^23`: adding and subtracting it rounds to the nearest integer, ties to even, below `2^22`.
const ROUND: f32 = 12_582_912.0;
/// ln 2 to 16 bits, so that a product with an exponent is exact, and the rest of it.
const LN2_HI: f32 = 0.693_145_75;
const LN2_LO: f32 = 1.428_606_8e-6;

/// `2^exponent` for an exponent in -126..=127.
#[inline(always)]
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits((exponent.wrapping_add(127) as u32) << 23)
}

/// The polynomial `c[0] + c[1] x + c[2] x^2 + …` by Horner's rule.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut value = c[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        value = value.mul_add(x, c[i]);
    }
    value
}

/// e^x, at most 1.1 ulp off; denormal results are rounded once, not flushed.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let (value, exponent) = exp_parts(x);
    // Two factors, because 2^n itself may lie outside the normal range where the result does not.
    let half = exponent >> 1;
    value * power_of_two(half) * power_of_two(exponent.wrapping_sub(half))
}

/// [`exp`] for -80..=80, where neither the argument has to be bounded nor the power of two taken apart.
#[inline(always)]
fn exp_within(x: f32) -> f32 {
    let (value, exponent) = exp_parts(x);
    value * power_of_two(exponent)
}

/// e^x as a number near 1 and an exponent of 2.
#[inline(always)]
fn exp_parts(x: f32) -> (f32, i32) {
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, x));
    let tail = polynomial(r, [0.5, 0.16666515, 0.041666377, 0.008369394, 0.0013942922]);
    (1.0 + (r * r).mul_add(tail, r), shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32)
}

/// The natural logarithm, at most 2 ulp off; NaN below zero, negative infinity at zero.
#[inline(always)]
pub fn log(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits();
    // Distance from sqrt(1/2), so that the mantissa lies in [sqrt(1/2), sqrt(2)).
    let exponent = (bits.wrapping_sub(0x3f35_04f3) as i32) >> 23;
    let mantissa = f32::from_bits(bits.wrapping_sub((exponent << 23) as u32));
    let n = exponent as f32 - if tiny { 23.0 } else { 0.0 };
    let f = mantissa - 1.0;
    let tail = polynomial(
        f,
        [
            0.33333313,
            -0.2500001,
            0.20002072,
            -0.1666799,
            0.14220363,
            -0.124062076,
            0.118834704,
            -0.11670192,
            0.06749556,
        ],
    );
    let tail = (f * f).mul_add(f.mul_add(tail, -0.5), n * LN2_LO);
    let value = n.mul_add(LN2_HI, f + tail);
    let value = if x == 0.0 { f32::NEG_INFINITY } else { value };
    let value = if x < 0.0 { f32::NAN } else { value };
    if x < f32::INFINITY { value } else { x + x }
}

/// ln(1 + e) for e in 0..=1.
#[inline(always)]
fn log_one_plus(e: f32) -> f32 {
    e * polynomial(
        e,
        [
            1.0,
            -0.49999988,
            0.33332717,
            -0.2498891,
            0.19899853,
            -0.16135484,
            0.12478607,
            -0.08319939,
            0.042056564,
            -0.013652019,
            0.0020740794,
        ],
    )
}

/// The hyperbolic tangent, at most 4 ulp off.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let s = x * x;
    let near = (x * s).mul_add(polynomial(s, [-0.33333313, 0.13332434, -0.053835195, 0.02099723, -0.006164225]), x);
    let bounded = if a > 10.0 { 10.0 } else { a };
    let far = 1.0 - 2.0 / (exp_within(bounded + bounded) + 1.0);
    (if a < 0.5625 { near } else { far }).copysign(x)
}

/// The error function, at most 4 ulp off.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let a = x.abs();
    let near = x.mul_add(
        polynomial(
            x * x,
            [0.12837917, -0.37612632, 0.11283687, -0.026859373, 0.005201525, -0.0008151611, 8.415404e-05],
        ),
        x,
    );
    // Beyond 4 the complement is less than half a unit in the last place of 1.
    let t = if a > 4.0 { 4.0 } else { a };
    let log_complement = polynomial(
        t,
        [0.00017587456, -1.1295208, -0.6333349, -0.10829354, 0.02512824, -0.004174444, 0.00043516562, -2.1156147e-05],
    );
    let far = (1.0 - exp_within(log_complement)).copysign(x);
    if a < 0.92 { near } else { far }
}

/// `1 / (1 + e^-x)`, at most 4 ulp off; both tails keep their relative accuracy.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

/// `clamp(alpha * x + beta, 0, 1)` with one rounding before the clamp.
#[inline(always)]
pub fn hard_sigmoid(x: f32, alpha: f32, beta: f32) -> f32 {
    clamp(x.mul_add(alpha, beta), 0.0, 1.0)
}

/// `x * hard_sigmoid(x, 1/6, 1/2)`; 0 at negative infinity.
#[inline(always)]
pub fn hard_swish(x: f32) -> f32 {
    vanishing(x, x * hard_sigmoid(x, 1.0 / 6.0, 0.5))
}

/// `x * sigmoid(x)`; 0 at negative infinity.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    vanishing(x, x * sigmoid(x))
}

/// `x / 2 * (1 + erf(x / sqrt(2)))`; 0 at negative infinity.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    vanishing(x, 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)))
}

/// `x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`; 0 at negative infinity.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    let inner = 0.797_884_56 * (x * x * x).mul_add(0.044715, x);
    vanishing(x, 0.5 * x * (1.0 + tanh(inner)))
}

/// The limit 0 at negative infinity of a product whose other factor goes to 0.
#[inline(always)]
fn vanishing(x: f32, value: f32) -> f32 {
    if x == f32::NEG_INFINITY { 0.0 } else { value }
}

/// `if x > 0 { x } else { alpha (e^x - 1) }`: near zero the error is relative to 1, not to the result.
#[inline(always)]
pub fn elu(x: f32, alpha: f32) -> f32 {
    if x > 0.0 { x + 0.0 } else { alpha * (exp(x) - 1.0) }
}

/// `gamma * elu(x, alpha)`.
#[inline(always)]
pub fn selu(x: f32, alpha: f32, gamma: f32) -> f32 {
    gamma * elu(x, alpha)
}

/// `max(0, x) + min(0, alpha (e^(x / alpha) - 1))`.
#[inline(always)]
pub fn celu(x: f32, alpha: f32) -> f32 {
    let below = alpha * (exp(x / alpha) - 1.0);
    (if x > 0.0 { x } else { 0.0 }) + if below < 0.0 { below } else { 0.0 }
}

/// `if x > alpha { x } else { 0 }`.
#[inline(always)]
pub fn thresholded_relu(x: f32, alpha: f32) -> f32 {
    if x > alpha { x + 0.0 } else { 0.0 }
}

/// `x / (1 + |x|)`.
#[inline(always)]
pub fn softsign(x: f32) -> f32 {
    x / (1.0 + x.abs())
}

/// `x * tanh(ln(1 + e^x))`.
#[inline(always)]
pub fn mish(x: f32) -> f32 {
    vanishing(x, x * tanh(softplus(x)))
}

/// Sine and cosine, each within 1 ulp up to |x| = 2^28; beyond it the reduced angle loses accuracy, not determinism.
#[inline(always)]
fn sin_cos(x: f32) -> (f32, f32) {
    // Multiples of pi/2 in two parts, the first short enough that its product with a 20-bit integer is exact.
    const HALF_PI_HI: f64 = 1.570_796_326_734_125_6;
    const HALF_PI_LO: f64 = 6.077_100_506_506_192e-11;
    const ROUND_WIDE: f64 = 6_755_399_441_055_744.0;
    let wide = f64::from(x);
    let shifted = wide.mul_add(std::f64::consts::FRAC_2_PI, ROUND_WIDE);
    let n = shifted - ROUND_WIDE;
    let r = n.mul_add(-HALF_PI_LO, n.mul_add(-HALF_PI_HI, wide));
    let z = r * r;
    // The series of both; |r| <= pi/4, so the first terms left out are below 2^-36 of the result.
    let mut sine = 1.0 / 362_880.0;
    sine = z.mul_add(sine, -1.0 / 5_040.0);
    sine = z.mul_add(sine, 1.0 / 120.0);
    sine = z.mul_add(sine, -1.0 / 6.0);
    let sine = (r * z).mul_add(sine, r) as f32;
    let mut cosine = -1.0 / 3_628_800.0;
    cosine = z.mul_add(cosine, 1.0 / 40_320.0);
    cosine = z.mul_add(cosine, -1.0 / 720.0);
    cosine = z.mul_add(cosine, 1.0 / 24.0);
    cosine = z.mul_add(cosine, -0.5);
    let cosine = z.mul_add(cosine, 1.0) as f32;
    let quadrant = shifted.to_bits();
    let (sine, cosine) = if quadrant & 1 == 0 { (sine, cosine) } else { (cosine, -sine) };
    let sign = if quadrant & 2 == 0 { 1.0 } else { -1.0 };
    (sine * sign, cosine * sign)
}

/// The sine; NaN of infinities.
#[inline(always)]
pub fn sin(x: f32) -> f32 {
    if x.abs() < f32::INFINITY { sin_cos(x).0 } else { f32::NAN }
}

/// The cosine; NaN of infinities.
#[inline(always)]
pub fn cos(x: f32) -> f32 {
    if x.abs() < f32::INFINITY { sin_cos(x).1 } else { f32::NAN }
}

/// The remainder of a division with the sign of the divisor.
#[inline(always)]
pub fn modulo(a: f32, b: f32) -> f32 {
    let rest = a % b;
    if rest != 0.0 && ((rest < 0.0) != (b < 0.0)) { rest + b } else { rest }
}

/// `ln(1 + e^x)`.
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let positive = if x > 0.0 { x } else { 0.0 };
    positive + log_one_plus(exp(-x.abs()))
}

/// `x * (if x < 0 { alpha } else { 1 })`.
#[inline(always)]
pub fn leaky_relu(x: f32, alpha: f32) -> f32 {
    x * if x < 0.0 { alpha } else { 1.0 }
}

/// `y = if x > lo { x } else { lo }; if y < hi { y } else { hi }`: NaN becomes `lo`.
#[inline(always)]
pub fn clamp(x: f32, lo: f32, hi: f32) -> f32 {
    let x = if x > lo { x } else { lo };
    if x < hi { x } else { hi }
}

/// -1, 0 or 1; NaN stays NaN.
#[inline(always)]
pub fn sign(x: f32) -> f32 {
    let below = if x < 0.0 { -1.0 } else { x * 0.0 };
    let value = if x > 0.0 { 1.0 } else { below };
    if x == 0.0 { 0.0 } else { value }
}

/// The greater operand (the second when equal); NaN when either is.
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    let value = if a > b { a } else { b };
    if a.is_nan() { a + b } else { value }
}

/// The lesser operand (the second when equal); NaN when either is.
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    let value = if a < b { a } else { b };
    if a.is_nan() { a + b } else { value }
}

/// The natural logarithm of a positive, finite f64 that was an f32; about 44 bits.
#[inline(always)]
fn log_wide(x: f64) -> f64 {
    let bits = x.to_bits();
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    // Unsigned on purpose: 64-bit signed shifts and conversions have no AVX2 instruction.
    let biased = bits.wrapping_sub(SQRT_HALF).wrapping_add(1023 << 52) >> 52;
    let n = f64::from_bits(0x4330_0000_0000_0000 | biased) - 4_503_599_627_371_519.0;
    let mantissa = f64::from_bits(bits.wrapping_sub(biased.wrapping_sub(1023) << 52));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    // The series of 2 artanh(s); |s| < 0.172, so the first term left out is below 2^-50.
    let mut series = 1.0 / 17.0;
    series = z.mul_add(series, 1.0 / 15.0);
    series = z.mul_add(series, 1.0 / 13.0);
    series = z.mul_add(series, 1.0 / 11.0);
    series = z.mul_add(series, 1.0 / 9.0);
    series = z.mul_add(series, 1.0 / 7.0);
    series = z.mul_add(series, 1.0 / 5.0);
    series = z.mul_add(series, 1.0 / 3.0);
    series = z.mul_add(series, 1.0);
    n.mul_add(std::f64::consts::LN_2, 2.0 * s * series)
}

/// e^x in f64 for |x| at most 300; about 40 bits.
#[inline(always)]
fn exp_wide(x: f64) -> f64 {
    const ROUND_WIDE: f64 = 6_755_399_441_055_744.0;
    let shifted = x.mul_add(std::f64::consts::LOG2_E, ROUND_WIDE);
    let r = (shifted - ROUND_WIDE).mul_add(-std::f64::consts::LN_2, x);
    // The exponential series; |r| < 0.347, so the first term left out is below 2^-42.
    let mut series = 1.0 / 39_916_800.0;
    series = r.mul_add(series, 1.0 / 3_628_800.0);
    series = r.mul_add(series, 1.0 / 362_880.0);
    series = r.mul_add(series, 1.0 / 40_320.0);
    series = r.mul_add(series, 1.0 / 5_040.0);
    series = r.mul_add(series, 1.0 / 720.0);
    series = r.mul_add(series, 1.0 / 120.0);
    series = r.mul_add(series, 1.0 / 24.0);
    series = r.mul_add(series, 1.0 / 6.0);
    series = r.mul_add(series, 0.5);
    series = r.mul_add(series, 1.0);
    series = r.mul_add(series, 1.0);
    series * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}

/// `x` to the power `y` with the special values of IEEE 754 `pow`; at most 1 ulp off.
///
/// `y` = 2 is `x * x` and `y` = 0.5 is the square root, both exact; everything else goes through f64.
#[inline(always)]
pub fn pow(x: f32, y: f32) -> f32 {
    let a = x.abs();
    let log = log_wide(f64::from(a));
    let product = f64::from(y) * log;
    let product = if product > 300.0 { 300.0 } else { product };
    let product = if product < -300.0 { -300.0 } else { product };
    let value = exp_wide(product) as f32;
    let value = if a == 0.0 { if y < 0.0 { f32::INFINITY } else { 0.0 } } else { value };
    let value = if a == f32::INFINITY { if y < 0.0 { 0.0 } else { f32::INFINITY } } else { value };
    let value = if a == 1.0 { 1.0 } else { value };
    let half = y * 0.5;
    let whole = y.floor() == y;
    let odd = whole & (half.floor() != half);
    let negative = x.is_sign_negative();
    let value = if negative & odd { -value } else { value };
    let value = if (x < 0.0) & !whole & (a < f32::INFINITY) { f32::NAN } else { value };
    let value = if y == 0.5 { if a == x { a.sqrt() } else { value } } else { value };
    let value = if y == 2.0 { x * x } else { value };
    let value = if x.is_nan() | y.is_nan() { f32::NAN } else { value };
    if (y == 0.0) | (x == 1.0) { 1.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounded_exponential_has_the_bits_of_the_general_one() {
        for step in -800_000..=800_000 {
            let x = step as f32 * 1e-4;
            assert_eq!(exp_within(x).to_bits(), exp(x).to_bits(), "{x}");
        }
        assert!(exp_within(f32::NAN).is_nan());
    }
}
