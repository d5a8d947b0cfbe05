//! Random convolutions and their answers by the reference, shared by the tests of the int8 kernels.
#![allow(dead_code, reason = "every test binary uses its own part")]

use holdfast_kernels::int8::{AddU8, ConvGeometry, Epilogue, INPUT_SLACK, QuantizedOperand, Requant};
use holdfast_kernels::{Image, Isa};

/// SplitMix64, so that a seed means the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `low..=high`.
    pub fn range(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    /// A number in `0..1`.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    pub fn weights(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| self.next() as i8).collect()
    }
}

/// Everything a convolution is run with.
#[derive(Clone, Debug)]
pub struct Case {
    pub geometry: ConvGeometry,
    pub weights: Vec<i8>,
    pub input: Vec<u8>,
    pub bias: Vec<i32>,
    pub requant: Requant,
    pub add: AddU8,
    pub residual: Vec<u8>,
    pub residual_image: Image,
    pub scale: Vec<f32>,
    pub bounds: (f32, f32),
}

/// The output of one epilogue, bytes outside the interior included.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Codes(Vec<u8>),
    /// Bits, so that NaN and signed zero count.
    Floats(Vec<u32>),
}

#[derive(Clone, Copy, Debug)]
pub enum Sink {
    U8,
    Add,
    F32,
    Shifted,
    Accumulate,
}

pub const SINKS: [Sink; 5] = [Sink::U8, Sink::Add, Sink::F32, Sink::Shifted, Sink::Accumulate];

/// The number of elements the input must hold for a geometry, slack included.
pub fn input_elements(geometry: &ConvGeometry) -> usize {
    if geometry.output.pixels() * geometry.output.channels == 0 {
        return INPUT_SLACK;
    }
    let first = geometry.input.offset
        - geometry.pad_top * geometry.input.row_stride
        - geometry.pad_left * geometry.input.pixel_stride;
    let row = (geometry.output.height - 1) * geometry.stride_h + (geometry.kernel_h - 1) * geometry.dilation_h;
    let column = (geometry.output.width - 1) * geometry.stride_w + (geometry.kernel_w - 1) * geometry.dilation_w;
    first
        + row * geometry.input.row_stride
        + column * geometry.input.pixel_stride
        + geometry.input.channels
        + INPUT_SLACK
}

impl Case {
    /// Random data for a dense geometry.
    pub fn dense(random: &mut Random, geometry: ConvGeometry) -> Case {
        let depth = geometry.kernel_h * geometry.kernel_w * geometry.input.channels;
        Case::with_depth(random, geometry, depth)
    }

    /// Random data for a depthwise geometry.
    pub fn depthwise(random: &mut Random, geometry: ConvGeometry) -> Case {
        Case::with_depth(random, geometry, geometry.kernel_h * geometry.kernel_w)
    }

    fn with_depth(random: &mut Random, geometry: ConvGeometry, depth: usize) -> Case {
        let out = geometry.output;
        let channels = out.channels;
        // Sums of random codes are of this size, so codes land inside, at and outside the range.
        let spread = 127.0 * 70.0 * (depth.max(1) as f32).sqrt();
        let factor = 100.0 / spread;
        let multiplier: Vec<f32> = (0..channels).map(|_| factor * (0.25 + 2.0 * random.unit())).collect();
        let (zero_point, lo, hi) = match random.range(0, 3) {
            0 => (0, 0, 255),
            1 => (128, 0, 255),
            2 => (255, 3, 200),
            _ => (7, 7, 140),
        };
        let operand =
            |random: &mut Random| QuantizedOperand { scale: 0.01 + random.unit(), zero_point: random.next() as u8 };
        let add = AddU8::new(
            operand(random),
            operand(random),
            operand(random),
            if random.range(0, 1) == 0 { (0, 255) } else { (20, 250) },
            random.range(0, 1) == 0,
        )
        .unwrap();
        let residual_image =
            Image { pixel_stride: channels + 3, row_stride: (channels + 3) * out.width + 5, offset: 2, ..out };
        let residual_elements = residual_image.end();
        Case {
            geometry,
            weights: random.weights(channels * depth),
            input: random.bytes(input_elements(&geometry)),
            bias: (0..channels).map(|_| (random.unit() * spread) as i32 - (spread / 2.0) as i32).collect(),
            requant: Requant::new(multiplier.clone(), zero_point, lo, hi).unwrap(),
            add,
            residual: random.bytes(residual_elements),
            residual_image,
            scale: multiplier,
            bounds: if random.range(0, 1) == 0 { (f32::NEG_INFINITY, f32::INFINITY) } else { (0.0, 6.0) },
        }
    }

    /// Runs `compute` with one epilogue into a fresh buffer whose untouched elements stay recognisable.
    pub fn output(&self, sink: Sink, compute: impl FnOnce(Epilogue<'_>)) -> Output {
        let elements = self.geometry.output.end() + 9;
        match sink {
            Sink::U8 => {
                let mut output = vec![0xA5; elements];
                compute(Epilogue::U8 { requant: &self.requant, output: &mut output });
                Output::Codes(output)
            }
            Sink::Add => {
                let mut output = vec![0xA5; elements];
                compute(Epilogue::U8Add {
                    requant: &self.requant,
                    add: &self.add,
                    residual: &self.residual,
                    residual_image: self.residual_image,
                    output: &mut output,
                });
                Output::Codes(output)
            }
            Sink::Accumulate => {
                let mut output: Vec<u8> = (0..elements).map(|element| (element * 37) as u8).collect();
                compute(Epilogue::U8Accumulate { requant: &self.requant, add: &self.add, output: &mut output });
                Output::Codes(output)
            }
            Sink::F32 | Sink::Shifted => {
                let mut output = vec![-123.25f32; elements];
                let (lo, hi) = self.bounds;
                let shift: Vec<f32> = self.bias.iter().map(|bias| *bias as f32 * 1e-3).collect();
                let shift = matches!(sink, Sink::Shifted).then_some(shift.as_slice());
                compute(Epilogue::F32 { scale: &self.scale, shift, lo, hi, output: &mut output });
                Output::Floats(output.into_iter().map(f32::to_bits).collect())
            }
        }
    }
}

/// A random small window on a random small image: strides, dilations, uneven padding, channel slices.
pub fn random_geometry(random: &mut Random, channels: usize, out_channels: usize) -> ConvGeometry {
    let (kernel_h, kernel_w) = (random.range(1, 5), random.range(1, 7));
    let (stride_h, stride_w) = (random.range(1, 3), random.range(1, 3));
    let (dilation_h, dilation_w) =
        if random.range(0, 3) == 0 { (random.range(1, 3), random.range(1, 3)) } else { (1, 1) };
    let (height, width) = (random.range(1, 5), random.range(1, 14));
    let (pad_top, pad_left) = (random.range(0, 2), random.range(0, 3));
    let rows = (height - 1) * stride_h + (kernel_h - 1) * dilation_h + 1;
    let columns = (width - 1) * stride_w + (kernel_w - 1) * dilation_w + 1;
    let pixel_stride = if random.range(0, 2) == 0 { channels + random.range(1, 9) } else { channels };
    let row_stride = columns * pixel_stride + if random.range(0, 3) == 0 { 6 } else { 0 };
    let out_stride = if random.range(0, 2) == 0 { out_channels + random.range(1, 9) } else { out_channels };
    ConvGeometry {
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        dilation_h,
        dilation_w,
        pad_top,
        pad_left,
        input: Image {
            height: rows.saturating_sub(pad_top).max(1),
            width: columns.saturating_sub(pad_left).max(1),
            channels,
            pixel_stride,
            row_stride,
            offset: pad_top * row_stride + pad_left * pixel_stride + random.range(0, 3),
        },
        output: Image {
            height,
            width,
            channels: out_channels,
            pixel_stride: out_stride,
            row_stride: out_stride * width + random.range(0, 4),
            offset: random.range(0, 5),
        },
    }
}

/// Says which instruction sets a test could not run here.
pub fn isas() -> Vec<Isa> {
    for isa in Isa::ALL {
        if !isa.is_available() {
            println!("skipped on this machine: {isa}");
        }
    }
    Isa::available()
}

/// The seed of a randomised test: the default, or what `HOLDFAST_SEED` says.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("HOLDFAST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(default);
    println!("seed {seed}; set HOLDFAST_SEED to repeat");
    seed
}
