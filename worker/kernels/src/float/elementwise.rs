//! One value in, one value out: activations, arithmetic with equal, scalar and per-channel operands.

use crate::Isa;
use crate::float::dispatch::per_isa;
use crate::float::math;

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// |x|.
    Abs,
    /// -x.
    Neg,
    /// The greatest integer not above x.
    Floor,
    /// The least integer not below x.
    Ceil,
    /// The nearest integer, ties to even.
    RoundHalfEven,
    /// -1, 0 or 1; NaN stays NaN.
    Sign,
    /// The square root, correctly rounded.
    Sqrt,
    /// 1 / x, correctly rounded.
    Reciprocal,
    /// e^x.
    Exp,
    /// The natural logarithm.
    Log,
    /// The hyperbolic tangent.
    Tanh,
    /// The error function.
    Erf,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// `clamp(fma(x, alpha, beta), 0, 1)`; NaN becomes 0.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at 0.
        beta: f32,
    },
    /// `x * clamp(fma(x, 1/6, 1/2), 0, 1)`.
    HardSwish,
    /// `x * sigmoid(x)`, also called swish.
    Silu,
    /// `x / 2 * (1 + erf(x / sqrt 2))`.
    Gelu,
    /// The approximation of [`Unary::Gelu`] by the hyperbolic tangent.
    GeluTanh,
    /// `ln(1 + e^x)`.
    Softplus,
    /// The sine.
    Sin,
    /// The cosine.
    Cos,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `x * tanh(ln(1 + e^x))`.
    Mish,
    /// `if x > 0 { x } else { alpha (e^x - 1) }`.
    Elu {
        /// Factor below 0.
        alpha: f32,
    },
    /// `gamma * elu(x, alpha)`.
    Selu {
        /// Factor below 0.
        alpha: f32,
        /// Factor of everything.
        gamma: f32,
    },
    /// `max(0, x) + min(0, alpha (e^(x / alpha) - 1))`.
    Celu {
        /// Factor below 0.
        alpha: f32,
    },
    /// `if x > alpha { x } else { 0 }`.
    ThresholdedRelu {
        /// Threshold.
        alpha: f32,
    },
    /// `x * (if x < 0 { alpha } else { 1 })`.
    LeakyRelu {
        /// Slope below 0.
        alpha: f32,
    },
    /// `y = if x > lo { x } else { lo }; if y < hi { y } else { hi }`; NaN becomes `lo`, as in a convolution's epilogue.
    Clamp {
        /// Lower bound; 0 makes it `Relu`.
        lo: f32,
        /// Upper bound; infinity leaves the upper side open.
        hi: f32,
    },
}

/// A function of two values, the left one `a` and the right one `b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// a + b.
    Add,
    /// a - b.
    Sub,
    /// b - a, for a left operand that is broadcast.
    SubReversed,
    /// a * b.
    Mul,
    /// a / b.
    Div,
    /// b / a, for a left operand that is broadcast.
    DivReversed,
    /// The lesser; NaN when either is.
    Min,
    /// The greater; NaN when either is.
    Max,
    /// a to the power b.
    Pow,
    /// b to the power a, for a left operand that is broadcast.
    PowReversed,
    /// `a * (if a < 0 { b } else { 1 })`: `b` is the slope.
    Prelu,
    /// The remainder of a / b with the sign of b.
    Mod,
    /// The remainder of a / b with the sign of a.
    Remainder,
}

/// The right operand of a [`Binary`].
#[derive(Clone, Copy, Debug)]
pub enum Right<'a> {
    /// As many values as the left operand.
    Same(&'a [f32]),
    /// One value for all.
    Scalar(f32),
    /// One value a channel, where channels are the last axis: the left operand is whole pixels of that many values.
    Channels(&'a [f32]),
}

/// A function that loops are compiled for.
trait UnaryFunction: Copy {
    fn of(self, x: f32) -> f32;
}

/// A function of two values that loops are compiled for.
trait BinaryFunction: Copy {
    fn of(self, a: f32, b: f32) -> f32;
}

/// Declares one type a function, so that each gets its own vectorised loop.
macro_rules! functions {
    ($trait:ident $values:tt: $($name:ident $({$($field:ident),+})? = $result:expr;)+) => {
        $(functions!(@ $trait $values $name [$($($field),+)?] $result);)+
    };
    (@ $trait:ident ($($value:ident),+) $name:ident [$($field:ident),*] $result:expr) => {
        #[derive(Clone, Copy)]
        struct $name {
            $($field: f32),*
        }
        impl $trait for $name {
            #[inline(always)]
            fn of(self, $($value: f32),+) -> f32 {
                let $name { $($field),* } = self;
                $result
            }
        }
    };
}

functions! { UnaryFunction(x):
    Abs = x.abs();
    Neg = -x;
    Floor = x.floor();
    Ceil = x.ceil();
    RoundHalfEven = x.round_ties_even();
    Sign = math::sign(x);
    Sqrt = x.sqrt();
    Reciprocal = 1.0 / x;
    Exp = math::exp(x);
    Log = math::log(x);
    Tanh = math::tanh(x);
    Erf = math::erf(x);
    Sigmoid = math::sigmoid(x);
    HardSigmoid { alpha, beta } = math::hard_sigmoid(x, alpha, beta);
    HardSwish = math::hard_swish(x);
    Silu = math::silu(x);
    Gelu = math::gelu(x);
    GeluTanh = math::gelu_tanh(x);
    Softplus = math::softplus(x);
    Sin = math::sin(x);
    Cos = math::cos(x);
    Softsign = math::softsign(x);
    Mish = math::mish(x);
    Elu { alpha } = math::elu(x, alpha);
    Selu { alpha, gamma } = math::selu(x, alpha, gamma);
    Celu { alpha } = math::celu(x, alpha);
    ThresholdedRelu { alpha } = math::thresholded_relu(x, alpha);
    LeakyRelu { alpha } = math::leaky_relu(x, alpha);
    Clamp { lo, hi } = math::clamp(x, lo, hi);
}

functions! { BinaryFunction(a, b):
    Add = a + b;
    Sub = a - b;
    SubReversed = b - a;
    Mul = a * b;
    Div = a / b;
    DivReversed = b / a;
    Min = math::min(a, b);
    Max = math::max(a, b);
    Pow = math::pow(a, b);
    PowReversed = math::pow(b, a);
    Prelu = math::leaky_relu(a, b);
    Mod = math::modulo(a, b);
    Remainder = a % b;
}

/// Evaluates an expression with the function type that a [`Unary`] names.
macro_rules! with_unary {
    ($op:expr, $function:ident => $call:expr) => {
        with_unary!(@ $op, $function, $call,
            [Abs Neg Floor Ceil RoundHalfEven Sign Sqrt Reciprocal Exp Log Tanh Erf Sigmoid HardSwish Silu Gelu GeluTanh
             Softplus Sin Cos Softsign Mish])
    };
    (@ $op:expr, $function:ident, $call:expr, [$($plain:ident)+]) => {
        match $op {
            $(Unary::$plain => { let $function = $plain {}; $call })+
            Unary::HardSigmoid { alpha, beta } => { let $function = HardSigmoid { alpha, beta }; $call }
            Unary::LeakyRelu { alpha } => { let $function = LeakyRelu { alpha }; $call }
            Unary::Elu { alpha } => { let $function = Elu { alpha }; $call }
            Unary::Selu { alpha, gamma } => { let $function = Selu { alpha, gamma }; $call }
            Unary::Celu { alpha } => { let $function = Celu { alpha }; $call }
            Unary::ThresholdedRelu { alpha } => { let $function = ThresholdedRelu { alpha }; $call }
            Unary::Clamp { lo, hi } => { let $function = Clamp { lo, hi }; $call }
        }
    };
}

/// Evaluates an expression with the function type that a [`Binary`] names.
macro_rules! with_binary {
    ($op:expr, $function:ident => $call:expr) => {
        with_binary!(@ $op, $function, $call,
            [Add Sub SubReversed Mul Div DivReversed Min Max Pow PowReversed Prelu Mod Remainder])
    };
    (@ $op:expr, $function:ident, $call:expr, [$($plain:ident)+]) => {
        match $op {
            $(Binary::$plain => { let $function = $plain {}; $call })+
        }
    };
}

impl Unary {
    /// The function of one value: what every instruction set computes for each element.
    pub fn evaluate(self, x: f32) -> f32 {
        with_unary!(self, function => function.of(x))
    }
}

impl Binary {
    /// The function of two values: what every instruction set computes for each pair of elements.
    pub fn evaluate(self, a: f32, b: f32) -> f32 {
        with_binary!(self, function => function.of(a, b))
    }
}

/// `output[i] = op(input[i])`.
///
/// # Panics
///
/// If the lengths differ.
pub fn unary(isa: Isa, op: Unary, input: &[f32], output: &mut [f32]) {
    assert_eq!(input.len(), output.len(), "an elementwise output has as many elements as its input");
    with_unary!(op, function => map(isa, function, input, output));
}

/// `data[i] = op(data[i])`.
pub fn unary_in_place(isa: Isa, op: Unary, data: &mut [f32]) {
    with_unary!(op, function => map_in_place(isa, function, data));
}

/// `output[i] = op(left[i], right)`, see [`Right`].
///
/// # Panics
///
/// If the lengths do not fit.
pub fn binary(isa: Isa, op: Binary, left: &[f32], right: Right<'_>, output: &mut [f32]) {
    assert_eq!(left.len(), output.len(), "an elementwise output has as many elements as its left operand");
    check_right(left.len(), &right);
    match right {
        // What the power of 2 is defined as, without the logarithms of the others.
        Right::Scalar(2.0) if op == Binary::Pow => zip(isa, Mul {}, left, left, output),
        Right::Same(values) => with_binary!(op, function => zip(isa, function, left, values, output)),
        Right::Scalar(value) => with_binary!(op, function => zip_scalar(isa, function, left, value, output)),
        Right::Channels(values) => with_binary!(op, function => zip_channels(isa, function, left, values, output)),
    }
}

/// `left[i] = op(left[i], right)`, see [`Right`].
///
/// # Panics
///
/// If the lengths do not fit.
pub fn binary_in_place(isa: Isa, op: Binary, left: &mut [f32], right: Right<'_>) {
    check_right(left.len(), &right);
    match right {
        Right::Same(values) => with_binary!(op, function => zip_in_place(isa, function, left, values)),
        Right::Scalar(value) => with_binary!(op, function => zip_scalar_in_place(isa, function, left, value)),
        Right::Channels(values) => with_binary!(op, function => zip_channels_in_place(isa, function, left, values)),
    }
}

fn check_right(len: usize, right: &Right<'_>) {
    match right {
        Right::Same(values) => assert_eq!(values.len(), len, "operands of unequal length"),
        Right::Scalar(_) => {}
        Right::Channels(values) => {
            assert!(
                len == 0 || (!values.is_empty() && len.is_multiple_of(values.len())),
                "{len} elements are not whole pixels of {} channels",
                values.len()
            );
        }
    }
}

per_isa! {
    fn map<F: UnaryFunction>(function: F, input: &[f32], output: &mut [f32]) {
        for (to, &x) in output.iter_mut().zip(input) {
            *to = function.of(x);
        }
    }

    fn map_in_place<F: UnaryFunction>(function: F, data: &mut [f32]) {
        for x in data {
            *x = function.of(*x);
        }
    }

    fn zip<F: BinaryFunction>(function: F, left: &[f32], right: &[f32], output: &mut [f32]) {
        for ((to, &a), &b) in output.iter_mut().zip(left).zip(right) {
            *to = function.of(a, b);
        }
    }

    fn zip_in_place<F: BinaryFunction>(function: F, left: &mut [f32], right: &[f32]) {
        for (a, &b) in left.iter_mut().zip(right) {
            *a = function.of(*a, b);
        }
    }

    fn zip_scalar<F: BinaryFunction>(function: F, left: &[f32], right: f32, output: &mut [f32]) {
        for (to, &a) in output.iter_mut().zip(left) {
            *to = function.of(a, right);
        }
    }

    fn zip_scalar_in_place<F: BinaryFunction>(function: F, left: &mut [f32], right: f32) {
        for a in left {
            *a = function.of(*a, right);
        }
    }

    fn zip_channels<F: BinaryFunction>(function: F, left: &[f32], right: &[f32], output: &mut [f32]) {
        if right.is_empty() {
            return;
        }
        for (to, from) in output.chunks_exact_mut(right.len()).zip(left.chunks_exact(right.len())) {
            for ((to, &a), &b) in to.iter_mut().zip(from).zip(right) {
                *to = function.of(a, b);
            }
        }
    }

    fn zip_channels_in_place<F: BinaryFunction>(function: F, left: &mut [f32], right: &[f32]) {
        if right.is_empty() {
            return;
        }
        for pixel in left.chunks_exact_mut(right.len()) {
            for (a, &b) in pixel.iter_mut().zip(right) {
                *a = function.of(*a, b);
            }
        }
    }
}
