//! Groups of convolutions: a prepared window, its bias, and what comes out of it.

use super::cache::Packed;
use holdfast_kernels::float::{self, ConvF32, DepthwiseF32};
use holdfast_kernels::int8::{AddU8, ConvU8S8, DepthwiseU8S8, Epilogue, Int8Error, Requant};
use holdfast_kernels::{ConvGeometry, GeometryError, Image, Isa};

/// What comes out of an int8 product.
#[derive(Clone, Debug, PartialEq)]
pub enum Int8Finish {
    /// Codes.
    Codes(Requant),
    /// Codes, added to residual codes (the second input buffer).
    Add {
        /// To the product's own codes.
        requant: Requant,
        /// To the sum's codes.
        add: AddU8,
        /// Where the residual lies.
        residual: Image,
        /// Whether it lies in the output, so that nothing else is read.
        in_place: bool,
    },
    /// Floats.
    Float {
        /// Input scale × weight scale, per output channel.
        scales: Vec<f32>,
        /// Added to the scaled sum, per output channel.
        shift: Option<Vec<f32>>,
        /// Lower bound.
        lo: f32,
        /// Upper bound.
        hi: f32,
    },
}

/// One group of an int8 convolution.
#[derive(Debug, PartialEq)]
pub struct Int8Part {
    window: Int8Window,
    bias: Vec<i32>,
    /// What comes out.
    pub finish: Int8Finish,
}

#[derive(Debug, PartialEq)]
enum Int8Window {
    Dense(ConvU8S8),
    Depthwise(DepthwiseU8S8),
}

impl Int8Part {
    /// Prepares one group.
    pub fn new(
        isa: Isa,
        geometry: &ConvGeometry,
        depthwise: bool,
        bias: Vec<i32>,
        finish: Int8Finish,
    ) -> Result<Int8Part, Int8Error> {
        let window = if depthwise {
            Int8Window::Depthwise(DepthwiseU8S8::new(isa, geometry)?)
        } else {
            Int8Window::Dense(ConvU8S8::new(isa, geometry)?)
        };
        Ok(Int8Part { window, bias, finish })
    }
}

/// One group of a float convolution.
#[derive(Debug, PartialEq)]
pub struct FloatPart {
    window: FloatWindow,
    bias: Vec<f32>,
    /// Where the residual (the second input buffer) lies.
    pub residual: Option<Image>,
    /// Whether it lies in the output, so that nothing else is read.
    pub in_place: bool,
    lo: f32,
    hi: f32,
}

#[derive(Debug, PartialEq)]
enum FloatWindow {
    Dense(ConvF32),
    Depthwise(DepthwiseF32),
}

impl FloatPart {
    /// Prepares one group; depthwise windows carry their weights, which are small.
    pub fn new(
        isa: Isa,
        geometry: &ConvGeometry,
        packed: &Packed,
        bias: Vec<f32>,
        residual: Option<Image>,
        (lo, hi): (f32, f32),
    ) -> Result<FloatPart, GeometryError> {
        let window = match packed {
            Packed::FloatDepthwise(weights) => FloatWindow::Depthwise(DepthwiseF32::new(isa, geometry, weights)?),
            _ => FloatWindow::Dense(ConvF32::new(isa, geometry)?),
        };
        Ok(FloatPart { window, bias, residual, in_place: false, lo, hi })
    }
}

impl FloatPart {
    /// Lets the residual lie in the output; false where no kernel reads it there.
    pub fn accumulate(&mut self) -> bool {
        self.in_place = self.residual.is_some() && matches!(self.window, FloatWindow::Dense(_));
        self.in_place
    }
}

impl Int8Part {
    /// Lets the residual lie in the output; false where there is none.
    pub fn accumulate(&mut self) -> bool {
        match &mut self.finish {
            Int8Finish::Add { in_place, .. } => {
                *in_place = true;
                true
            }
            Int8Finish::Codes(_) | Int8Finish::Float { .. } => false,
        }
    }

    /// Runs on the weights of the group `index`.
    pub fn run(&self, packed: &Packed, index: usize, input: &[u8], epilogue: Epilogue<'_>) {
        match (&self.window, packed) {
            (Int8Window::Dense(conv), Packed::Int8(weights)) => conv.run(&weights[index], input, &self.bias, epilogue),
            (Int8Window::Depthwise(conv), Packed::Int8Depthwise(weights)) => {
                conv.run(weights, input, &self.bias, epilogue);
            }
            _ => unreachable!("a window has weights of its own kind"),
        }
    }
}

impl FloatPart {
    /// Runs on the weights of the group `index`.
    pub fn run(
        &self,
        packed: &Packed,
        index: usize,
        input: &[f32],
        residual: Option<(&[f32], Image)>,
        output: &mut [f32],
    ) {
        let accumulate = self.in_place;
        let epilogue = float::Epilogue { bias: &self.bias, residual, accumulate, lo: self.lo, hi: self.hi };
        match (&self.window, packed) {
            (FloatWindow::Dense(conv), Packed::Float(weights)) => conv.run(&weights[index], input, &epilogue, output),
            (FloatWindow::Depthwise(conv), _) => conv.run(input, &epilogue, output),
            _ => unreachable!("dense windows have dense weights"),
        }
    }
}
