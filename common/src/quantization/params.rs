//! From observed ranges to quant params: levels, range repair, scale and zero point.
//!
//! Source: OpenVINO POT's min-max algorithm, restated; [`Rules::Fixed`] repairs its known flaws.

use crate::quantization::codes::quantize_code;
use crate::scheme::{CodeType, QuantParams};
use serde::{Deserialize, Serialize};

/// Floor of a symmetric range, and the share of the widest channel that every channel's range is raised to.
const SYMMETRIC_FLOOR: f64 = 8e-5;
const SYMMETRIC_SHARE: f64 = 0.01;

/// An asymmetric range that is not wider than this is widened by as much at both ends.
const ASYMMETRIC_FLOOR: f64 = 8e-4;

/// Whether POT's inexact zeros are reproduced or repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rules {
    /// POT's ranges. A zero point that comes out as no integer is rounded: our codes are integers, POT's float
    /// simulation was not bound to that.
    Compat,
    /// Zero is always a code.
    Fixed,
}

/// Zero point fixed, or free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Symmetry {
    /// The range is centred on zero (or starts there, for activations that are never negative).
    Symmetric,
    /// The range is any that holds zero.
    Asymmetric,
}

/// Which of the two kinds of tensors is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TensorClass {
    /// Constants, stored as i8.
    Weights,
    /// Data, stored as u8.
    Activations,
}

/// Width of the codes as the user states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Width {
    /// Bits, 2 to 8.
    pub bits: u32,
    /// Lowest level, where the user sets one; activations with a negative one are signed whatever is observed.
    pub level_low: Option<i32>,
    /// Highest level, where the user sets one.
    pub level_high: Option<i32>,
}

impl Default for Width {
    fn default() -> Width {
        Width { bits: 8, level_low: None, level_high: None }
    }
}

/// The user's width or an observed range cannot be turned into codes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParamsError {
    /// Bits outside 2 to 8.
    #[error("`bits` is {0}, but codes have 2 to 8 bits")]
    Bits(u32),
    /// The levels make fewer than 3 or more than 256 codes.
    #[error(
        "levels {low} to {high} make {count} codes, but 3 to 256 fit; set `level_low` and `level_high` accordingly"
    )]
    Levels {
        /// Lowest level.
        low: i32,
        /// Highest level.
        high: i32,
        /// Codes they would make.
        count: u64,
    },
    /// A statistic is NaN or infinite, or there is none.
    #[error(
        "the observed range is {low} to {high}, not finite numbers; look for overflow in the model or broken samples"
    )]
    Range {
        /// Observed low.
        low: f64,
        /// Observed high.
        high: f64,
    },
}

/// Real values that the lowest and the highest code stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// What the lowest code stands for.
    pub low: f64,
    /// What the highest code stands for.
    pub high: f64,
}

impl Range {
    /// The step between neighbouring codes.
    pub fn scale(self, levels: u32) -> f64 {
        (self.high - self.low) / f64::from(levels - 1)
    }

    /// The code of zero, counted from 0, before rounding.
    pub fn zero(self, levels: u32) -> f64 {
        -self.low / self.scale(levels)
    }

    /// The smallest range that holds both (POT unifies finished ranges like this).
    pub fn union(self, other: Range) -> Range {
        Range { low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

/// Number of codes: 255 for 8-bit symmetric weights, 256 for everything else of 8 bits.
pub fn levels(class: TensorClass, symmetry: Symmetry, width: Width) -> Result<u32, ParamsError> {
    if !(2..=8).contains(&width.bits) {
        return Err(ParamsError::Bits(width.bits));
    }
    let half = 1_i32 << (width.bits - 1);
    let narrow = class == TensorClass::Weights && symmetry == Symmetry::Symmetric;
    let low = width.level_low.unwrap_or(if narrow { 1 - half } else { -half });
    let high = width.level_high.unwrap_or(half - 1);
    let count = u64::from(low.unsigned_abs()) + u64::from(high.unsigned_abs()) + 1;
    match u32::try_from(count) {
        Ok(levels @ 3..=256) => Ok(levels),
        _ => Err(ParamsError::Levels { low, high, count }),
    }
}

/// Raises the absolute maxima of all slices of a tensor so that none is zero or a tiny part of the widest.
pub fn repair_magnitudes(magnitudes: &[f64]) -> Vec<f64> {
    let widest = magnitudes.iter().copied().fold(0.0, f64::max);
    let floor = SYMMETRIC_FLOOR.max(SYMMETRIC_SHARE * widest);
    magnitudes.iter().map(|&magnitude| magnitude.max(floor)).collect()
}

/// The symmetric range of weights with this absolute maximum.
///
/// An even number of levels (the user asked for −128) has no code for zero in POT's range; fixed rules keep the scale
/// of the narrow range and add the extra code below.
pub fn symmetric_weights(magnitude: f64, levels: u32, rules: Rules) -> Range {
    if levels % 2 == 1 || rules == Rules::Compat {
        return Range { low: -magnitude, high: magnitude };
    }
    signed_activations(magnitude, levels, rules)
}

/// The symmetric range of activations that can be negative: zero is the middle code.
fn signed_activations(magnitude: f64, levels: u32, rules: Rules) -> Range {
    if levels % 2 == 1 && rules == Rules::Fixed {
        return Range { low: -magnitude, high: magnitude };
    }
    Range { low: -magnitude * f64::from(levels) / f64::from(levels - 2), high: magnitude }
}

/// The symmetric range of activations: from zero where nothing negative was seen and the width does not force a sign.
pub fn symmetric_activations(low: f64, magnitude: f64, levels: u32, width: Width, rules: Rules) -> Range {
    let forced = width.level_low.is_some_and(|level| level < 0);
    if low >= 0.0 && !forced {
        Range { low: 0.0, high: magnitude }
    } else {
        signed_activations(magnitude, levels, rules)
    }
}

/// The asymmetric range for observed extremes: widened where degenerate, made to hold zero, and grown until zero is a
/// code.
///
/// POT leaves the range alone where one end is within half a step of zero, and zero is then no code (its flaw P19);
/// fixed rules move that end to zero.
pub fn asymmetric(low: f64, high: f64, levels: u32, width: Width, rules: Rules) -> Range {
    let degenerate = high - low <= ASYMMETRIC_FLOOR;
    let widening = if degenerate { ASYMMETRIC_FLOOR } else { 0.0 };
    let low = (low - widening).min(0.0);
    let high = (high + widening).max(0.0);
    let last = match rules {
        Rules::Compat => f64::from((1_u32 << width.bits) - 1),
        Rules::Fixed => f64::from(levels - 1),
    };
    let zero = (-low * last / (high - low)).round_ties_even();
    if rules == Rules::Fixed && zero == 0.0 {
        return Range { low: 0.0, high };
    }
    if rules == Rules::Fixed && zero == last {
        return Range { low, high: 0.0 };
    }
    let moved_low = if zero < last { zero / (zero - last) * high } else { low };
    let moved_high = if zero > 0.0 { (zero - last) / zero * low } else { high };
    if high - moved_low > moved_high - low { Range { low: moved_low, high } } else { Range { low, high: moved_high } }
}

/// Quant params for finished ranges, one per slice of `axis` (or one for the tensor).
pub fn from_ranges(
    class: TensorClass,
    ranges: &[Range],
    levels: u32,
    axis: Option<usize>,
) -> Result<QuantParams, ParamsError> {
    let (code_type, code_min) = match class {
        TensorClass::Weights => (CodeType::I8, -(levels as i32 / 2)),
        TensorClass::Activations => (CodeType::U8, 0),
    };
    let code_max = code_min + levels as i32 - 1;
    let mut scales = Vec::with_capacity(ranges.len());
    let mut zero_points = Vec::with_capacity(ranges.len());
    for range in ranges {
        let scale = range.scale(levels) as f32;
        if !(range.low.is_finite() && range.high.is_finite() && scale.is_normal() && scale > 0.0) {
            return Err(ParamsError::Range { low: range.low, high: range.high });
        }
        scales.push(scale);
        let zero = code_min + range.zero(levels).round_ties_even() as i32;
        zero_points.push(zero.clamp(code_min, code_max));
    }
    Ok(QuantParams { code_type, code_min, code_max, axis, scales, zero_points })
}

impl QuantParams {
    /// The code of a value in this slice: rounded to nearest, halves to even, clamped to the code range.
    pub fn code(&self, value: f32, slice: usize) -> i32 {
        quantize_code(value, self.scales[slice], self.zero_points[slice], self.code_min, self.code_max)
    }

    /// The real value a code of this slice stands for.
    pub fn real(&self, code: i32, slice: usize) -> f32 {
        self.scales[slice] * (code - self.zero_points[slice]) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Symmetry::{Asymmetric, Symmetric};
    use TensorClass::{Activations, Weights};

    const EIGHT: Width = Width { bits: 8, level_low: None, level_high: None };

    /// Values in the tables are printed with nine decimals.
    fn assert_near(found: f64, expected: f64) {
        let tolerance = (expected.abs() * 1e-6).max(1e-9);
        assert!((found - expected).abs() <= tolerance, "{found} is not {expected}");
    }

    fn symmetric_params(magnitudes: &[f64], rules: Rules) -> QuantParams {
        let ranges: Vec<Range> =
            repair_magnitudes(magnitudes).into_iter().map(|m| symmetric_weights(m, 255, rules)).collect();
        from_ranges(Weights, &ranges, 255, Some(0)).expect("finite ranges")
    }

    #[test]
    fn levels_count_the_codes_of_every_kind_of_tensor() {
        let four = Width { bits: 4, ..EIGHT };
        let full = Width { level_low: Some(-128), level_high: Some(127), ..EIGHT };
        assert_eq!(levels(Weights, Symmetric, EIGHT), Ok(255));
        assert_eq!(levels(Weights, Asymmetric, EIGHT), Ok(256));
        assert_eq!(levels(Activations, Symmetric, EIGHT), Ok(256));
        assert_eq!(levels(Activations, Asymmetric, EIGHT), Ok(256));
        assert_eq!(levels(Weights, Symmetric, four), Ok(15));
        assert_eq!(levels(Activations, Symmetric, four), Ok(16));
        assert_eq!(levels(Weights, Symmetric, full), Ok(256));
    }

    #[test]
    fn widths_that_do_not_fit_eight_bits_are_refused() {
        let wide = Width { level_low: Some(i32::MIN), level_high: Some(i32::MAX), ..EIGHT };
        assert!(matches!(levels(Weights, Symmetric, Width { bits: 9, ..EIGHT }), Err(ParamsError::Bits(9))));
        assert!(matches!(levels(Weights, Symmetric, Width { bits: 1, ..EIGHT }), Err(ParamsError::Bits(1))));
        assert!(matches!(levels(Weights, Symmetric, wide), Err(ParamsError::Levels { .. })));
        let none = Width { level_low: Some(0), level_high: Some(0), ..EIGHT };
        assert!(matches!(levels(Weights, Symmetric, none), Err(ParamsError::Levels { count: 1, .. })));
    }

    #[test]
    fn symmetric_weights_raise_dead_channels_to_a_hundredth_of_the_widest() {
        let observed = [1.27, 0.5, 0.0, 0.005];
        for (magnitude, expected) in repair_magnitudes(&observed).into_iter().zip([1.27, 0.5, 0.0127, 0.0127]) {
            assert_near(magnitude, expected);
        }
        for rules in [Rules::Compat, Rules::Fixed] {
            let params = symmetric_params(&observed, rules);
            for (scale, expected) in params.scales.iter().zip([0.01, 0.003937008, 0.0001, 0.0001]) {
                assert_near(f64::from(*scale), expected);
            }
            assert_eq!((params.code_min, params.code_max, params.code_type), (-127, 127, CodeType::I8));
            assert_eq!(params.zero_points, [0; 4]);
        }
        assert_eq!(repair_magnitudes(&[0.0, 0.0]), [8e-5, 8e-5]);
    }

    #[test]
    fn weight_codes_round_halves_to_even() {
        let params = symmetric_params(&[1.27, 0.5], Rules::Fixed);
        let rows = [[0.5_f32, -1.27, 0.003], [0.25, 0.5, -0.1]];
        let codes = |params: &QuantParams, rows: [[f32; 3]; 2]| {
            let row = |slice: usize| rows[slice].map(|value| params.code(value, slice));
            [row(0), row(1)]
        };
        assert_eq!(codes(&params, rows), [[50, -127, 0], [64, 127, -25]]);
        assert_eq!(codes(&params, rows.map(|row| row.map(|value| value / 2.0))), [[25, -64, 0], [32, 64, -13]]);
        let doubled = QuantParams { scales: params.scales.iter().map(|scale| scale * 2.0).collect(), ..params };
        assert_eq!(codes(&doubled, rows), [[25, -64, 0], [32, 64, -13]], "halved weights are doubled scales");
        assert_near(f64::from(doubled.scales[0]), 0.02);
        assert_near(f64::from(doubled.scales[1]), 1.0 / 127.0);
    }

    #[test]
    fn weights_with_minus_128_keep_zero_only_by_the_fixed_rules() {
        let compat = symmetric_weights(1.27, 256, Rules::Compat);
        assert_near(compat.zero(256), 127.5);
        let fixed = symmetric_weights(1.27, 256, Rules::Fixed);
        assert_near(fixed.zero(256), 128.0);
        let params = from_ranges(Weights, &[fixed], 256, None).expect("finite range");
        assert_eq!((params.code_min, params.code_max, params.zero_points[0]), (-128, 127, 0));
        assert_near(f64::from(params.scales[0]), 0.01);
    }

    #[test]
    fn activations_that_are_never_negative_use_all_codes_above_zero() {
        for (low, magnitude, expected_low, expected_scale, zero) in [
            (-4.0, 5.08, -5.12, 0.04, 128),
            (-1e-9, 1.27, -1.28, 0.01, 128),
            (0.0, 5.1, 0.0, 0.02, 0),
            (0.2, 5.1, 0.0, 0.02, 0),
            (0.0, 0.0, 0.0, 3.137255e-7, 0),
        ] {
            for rules in [Rules::Compat, Rules::Fixed] {
                let magnitude = repair_magnitudes(&[magnitude])[0];
                let range = symmetric_activations(low, magnitude, 256, EIGHT, rules);
                assert_near(range.low, expected_low);
                assert_near(range.high, magnitude);
                let params = from_ranges(Activations, &[range], 256, None).expect("finite range");
                let found = f64::from(params.scales[0]);
                assert!((found / expected_scale - 1.0).abs() < 1e-6, "{found} is not {expected_scale}");
                assert_eq!(params.zero_points, [zero]);
                assert_eq!((params.code_type, params.code_min, params.code_max), (CodeType::U8, 0, 255));
            }
        }
    }

    #[test]
    fn a_negative_lowest_level_forces_signed_activations() {
        let width = Width { level_low: Some(-127), level_high: Some(127), ..EIGHT };
        let levels = levels(Activations, Symmetric, width).expect("255 levels");
        let fixed = symmetric_activations(0.0, 1.27, levels, width, Rules::Fixed);
        assert_near(fixed.zero(levels), 127.0);
        let compat = symmetric_activations(0.0, 1.27, levels, width, Rules::Compat);
        assert_near(compat.zero(levels), 127.5);
    }

    #[test]
    fn asymmetric_ranges_grow_until_zero_is_a_code() {
        for (low, high, expected_low, expected_high, scale, zero) in [
            (-1.0, 3.0, -1.005235602, 3.0, 0.015706806, 64),
            (-2.5, 1.0, -2.5, 1.002747253, 0.013736264, 182),
            (-1.0, 1.0, -1.007874016, 1.0, 0.007874016, 128),
            (-0.1, 10.0, -0.119047619, 10.0, 0.039682540, 3),
            (-0.02, 5.08, -0.02, 5.08, 0.02, 1),
            (0.5, 2.0, 0.0, 2.0, 0.007843137, 0),
            (-3.0, -1.0, -3.0, 0.0, 0.011764706, 255),
            (-0.0003, 0.0002, -0.001107438, 0.001, 8.264463e-6, 134),
            (0.0, 0.0, -0.000806299, 0.0008, 6.299213e-6, 128),
        ] {
            for rules in [Rules::Compat, Rules::Fixed] {
                let range = asymmetric(low, high, 256, EIGHT, rules);
                assert_near(range.low, expected_low);
                assert_near(range.high, expected_high);
                assert_near(range.scale(256), scale);
                assert_near(range.zero(256), f64::from(zero));
                let params = from_ranges(Activations, &[range], 256, None).expect("finite range");
                assert_eq!(params.zero_points, [zero]);
            }
        }
        for rules in [Rules::Compat, Rules::Fixed] {
            let four = asymmetric(-1.0, 3.0, 16, Width { bits: 4, ..EIGHT }, rules);
            assert_near(four.low, -1.090909091);
            assert_near(four.high, 3.0);
        }
    }

    #[test]
    fn zero_within_half_a_step_of_an_end_is_a_code_only_by_the_fixed_rules() {
        let compat = asymmetric(-0.001, 5.1, 256, EIGHT, Rules::Compat);
        assert_eq!(compat, Range { low: -0.001, high: 5.1 });
        assert_near(compat.scale(256), 0.020003922);
        assert!((compat.zero(256) - 0.049990).abs() < 1e-6);
        let fixed = asymmetric(-0.001, 5.1, 256, EIGHT, Rules::Fixed);
        assert_eq!(fixed, Range { low: 0.0, high: 5.1 });
        assert_near(fixed.scale(256), 0.02);
        assert_near(fixed.zero(256), 0.0);
        let mirrored = asymmetric(-5.1, 0.001, 256, EIGHT, Rules::Fixed);
        assert_eq!(mirrored, Range { low: -5.1, high: 0.0 });
    }

    #[test]
    fn asymmetric_weights_have_a_zero_point_between_the_ends() {
        for rules in [Rules::Compat, Rules::Fixed] {
            let range = asymmetric(-0.5, 1.0, 256, EIGHT, rules);
            assert_near(range.low, -0.5);
            assert_near(range.high, 1.0);
            assert_near(range.scale(256), 1.5 / 255.0);
            let params = from_ranges(Weights, &[range], 256, None).expect("finite range");
            assert_eq!((params.zero_points[0], params.code_min, params.code_max), (-43, -128, 127));
            let ends = [-0.5, 0.0, 1.0].map(|value| params.code(value, 0));
            assert_eq!(ends, [-128, -43, 127]);
            // 42.5 steps above zero: ONNX rounds before it adds the zero point, so the even 42 is taken.
            assert_eq!(params.code(0.25, 0), 42 - 43);
        }
    }

    #[test]
    fn unified_statistics_keep_zero_where_unified_ranges_lose_it() {
        let unsigned = symmetric_activations(0.0, 2.0, 256, EIGHT, Rules::Compat);
        let signed = symmetric_activations(-1.0, 1.0, 256, EIGHT, Rules::Compat);
        let compat = unsigned.union(signed);
        assert_near(compat.low, -1.007874016);
        assert_near(compat.high, 2.0);
        assert_near(compat.scale(256), 0.011795584);
        assert!((compat.zero(256) - 85.445).abs() < 1e-3);
        let fixed = symmetric_activations(-1.0, 2.0, 256, EIGHT, Rules::Fixed);
        assert_near(fixed.low, -2.015748031);
        assert_near(fixed.scale(256), 0.015748031);
        assert_near(fixed.zero(256), 128.0);

        let first = asymmetric(-1.0, 3.0, 256, EIGHT, Rules::Compat);
        let second = asymmetric(-0.5, 4.0, 256, EIGHT, Rules::Compat);
        assert_near(second.high, 4.053571429);
        assert!((first.union(second).zero(256) - 50.671).abs() < 1e-3);
        assert_near(asymmetric(-1.0, 4.0, 256, EIGHT, Rules::Fixed).zero(256), 51.0);
    }

    #[test]
    fn quantizing_and_back_clamps_and_rounds() {
        let back = |params: &QuantParams, value: f32| f64::from(params.real(params.code(value, 0), 0));
        let signed = from_ranges(Activations, &[Range { low: -1.28, high: 1.27 }], 256, None).expect("finite");
        for (value, expected) in
            [(-2.0, -1.28), (-1.28, -1.28), (-1.27, -1.27), (0.0, 0.0), (0.0051, 0.01), (1.27, 1.27), (3.0, 1.27)]
        {
            assert_near(back(&signed, value), expected);
        }
        let unsigned = from_ranges(Activations, &[Range { low: 0.0, high: 5.1 }], 256, None).expect("finite");
        for (value, expected) in [(-1.0, 0.0), (0.0, 0.0), (0.012, 0.02), (0.028, 0.02), (5.1, 5.1), (9.0, 5.1)] {
            assert_near(back(&unsigned, value), expected);
        }
        assert_eq!(unsigned.code(f32::INFINITY, 0), 255);
    }

    #[test]
    fn ranges_that_are_not_finite_are_refused() {
        let range = Range { low: f64::NAN, high: 1.0 };
        assert!(matches!(from_ranges(Activations, &[range], 256, None), Err(ParamsError::Range { .. })));
        let range = Range { low: 0.0, high: f64::INFINITY };
        assert!(matches!(from_ranges(Activations, &[range], 256, None), Err(ParamsError::Range { .. })));
    }
}
