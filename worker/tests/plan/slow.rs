//! What quantized operations mean, one element at a time on tensors in ONNX's own order.

use holdfast_common::graph::ConvAttributes;

/// An activation tensor of codes.
#[derive(Clone, Debug)]
pub struct Codes {
    pub shape: Vec<usize>,
    pub codes: Vec<u8>,
    pub scale: f32,
    pub zero_point: u8,
}

impl Codes {
    /// The codes of real numbers: divide, round half to even, add the zero point, clamp.
    pub fn of(values: &[f32], shape: &[usize], (scale, zero_point): (f32, u8)) -> Codes {
        let code = |value: &f32| {
            let code = (value / scale).round_ties_even() + f32::from(zero_point);
            code.clamp(0.0, 255.0) as u8
        };
        Codes { shape: shape.to_vec(), codes: values.iter().map(code).collect(), scale, zero_point }
    }

    /// The real numbers the codes stand for.
    pub fn reals(&self) -> Vec<f32> {
        self.codes.iter().map(|code| (i32::from(*code) - i32::from(self.zero_point)) as f32 * self.scale).collect()
    }

    /// The code at a position of a [1, C, H, W] tensor; beyond its edges real zero.
    pub fn at(&self, channel: usize, y: isize, x: isize) -> u8 {
        let (height, width) = (self.shape[2] as isize, self.shape[3] as isize);
        if !(0..height).contains(&y) || !(0..width).contains(&x) {
            return self.zero_point;
        }
        self.codes[(channel * self.shape[2] + y as usize) * self.shape[3] + x as usize]
    }
}

/// Symmetric weight codes with one scale a row; `rows` is the leading extent.
pub fn weight_codes(weights: &[f32], scales: &[f32]) -> Vec<i32> {
    let row = weights.len() / scales.len();
    let code =
        |(index, weight): (usize, &f32)| (weight / scales[index / row]).round_ties_even().clamp(-127.0, 127.0) as i32;
    weights.iter().enumerate().map(code).collect()
}

/// Bias codes at input scale times weight scale.
pub fn bias_codes(bias: &[f32], x_scale: f32, scales: &[f32]) -> Vec<i32> {
    let code = |(bias, scale): (&f32, &f32)| {
        let scale = x_scale * scale;
        (f64::from(*bias) / f64::from(scale)).round_ties_even() as i32
    };
    bias.iter().zip(scales).map(code).collect()
}

/// A quantized convolution's constants.
pub struct Product<'a> {
    pub weights: &'a [f32],
    pub scales: &'a [f32],
    pub bias: &'a [f32],
}

/// A tensor of exact sums, with the channel's real step for each.
pub struct Sums {
    pub shape: Vec<usize>,
    pub sums: Vec<i32>,
    /// Input scale times weight scale, one per output channel.
    pub steps: Vec<f32>,
}

impl Product<'_> {
    /// The integer sums of a convolution; taps beyond the edges see real zero.
    pub fn convolve(&self, x: &Codes, attributes: &ConvAttributes) -> Sums {
        let codes = weight_codes(self.weights, self.scales);
        let bias = bias_codes(self.bias, x.scale, self.scales);
        let (outputs, [kh, kw]) = (self.scales.len(), [attributes.kernel[0], attributes.kernel[1]]);
        let (channels, group_outputs) = (x.shape[1] / attributes.group, outputs / attributes.group);
        let extent = |axis: usize| {
            let padded = x.shape[axis + 2] + attributes.pads_begin[axis] + attributes.pads_end[axis];
            (padded - attributes.dilations[axis] * (attributes.kernel[axis] - 1) - 1) / attributes.strides[axis] + 1
        };
        let (height, width) = (extent(0), extent(1));
        let at = |axis: usize, out: usize, tap: usize| {
            (out * attributes.strides[axis] + tap * attributes.dilations[axis]) as isize
                - attributes.pads_begin[axis] as isize
        };
        let mut sums = Vec::new();
        for output in 0..outputs {
            let first = output / group_outputs * channels;
            for y in 0..height {
                for x_out in 0..width {
                    let mut sum = bias[output];
                    for channel in 0..channels {
                        for tap in 0..kh * kw {
                            let code = x.at(first + channel, at(0, y, tap / kw), at(1, x_out, tap % kw));
                            let weight = codes[(output * channels + channel) * kh * kw + tap];
                            sum += (i32::from(code) - i32::from(x.zero_point)) * weight;
                        }
                    }
                    sums.push(sum);
                }
            }
        }
        let steps = self.scales.iter().map(|scale| x.scale * scale).collect();
        Sums { shape: vec![1, outputs, height, width], sums, steps }
    }

    /// The integer sums of x·Wᵀ for a row of codes and weights `[outputs, inputs]`.
    pub fn multiply(&self, x: &Codes) -> Sums {
        let codes = weight_codes(self.weights, self.scales);
        let bias = bias_codes(self.bias, x.scale, self.scales);
        let sum = |output: usize| {
            let row = &codes[output * x.codes.len()..];
            let products =
                x.codes.iter().zip(row).map(|(code, weight)| (i32::from(*code) - i32::from(x.zero_point)) * weight);
            bias[output] + products.sum::<i32>()
        };
        let outputs = self.scales.len();
        let steps = self.scales.iter().map(|scale| x.scale * scale).collect();
        Sums { shape: vec![1, outputs], sums: (0..outputs).map(sum).collect(), steps }
    }
}

impl Sums {
    fn step(&self, index: usize) -> f32 {
        self.steps[index / (self.sums.len() / self.steps.len())]
    }

    /// Real numbers: one multiplication each.
    pub fn reals(&self) -> Vec<f32> {
        self.sums.iter().enumerate().map(|(index, sum)| *sum as f32 * self.step(index)).collect()
    }

    /// Codes within bounds: one multiplication, round half to even, zero point, clamp.
    pub fn codes(&self, (scale, zero_point): (f32, u8), (lo, hi): (u8, u8)) -> Codes {
        let code = |(index, sum): (usize, &i32)| {
            let steps = (*sum as f32 * (self.step(index) / scale)).round_ties_even();
            (steps + f32::from(zero_point)).clamp(f32::from(lo), f32::from(hi)) as u8
        };
        let codes = self.sums.iter().enumerate().map(code).collect();
        Codes { shape: self.shape.clone(), codes, scale, zero_point }
    }
}
