//! Prints the rate of the int8 kernels on the layers of known networks, beside the rate of the bare instruction.
//!
//! `cargo run --release -p holdfast-kernels --example gmacs [ISA] [word in the layer's name]`

#[path = "../tests/support/peak.rs"]
mod peak;

use holdfast_kernels::int8::{
    AddU8, ConvGeometry, ConvU8S8, DepthwiseU8S8, Epilogue, PackedDepthwise, PackedWeights, QuantizedOperand, Requant,
    WeightShape,
};
use holdfast_kernels::{Image, Isa};
use std::time::Instant;

/// Blocks of runs a layer is timed for; the best one counts.
const BLOCKS: usize = 25;
/// Roughly how long a block takes.
const BLOCK_NANOSECONDS: u128 = 4_000_000;

#[derive(Clone, Copy)]
struct Layer {
    network: &'static str,
    size: usize,
    kernel: usize,
    stride: usize,
    channels: usize,
    filters: usize,
    depthwise: bool,
    residual: bool,
}

/// A dense layer: output size, kernel, channels in and out.
const fn dense(network: &'static str, size: usize, kernel: usize, channels: usize, filters: usize) -> Layer {
    Layer { network, size, kernel, stride: 1, channels, filters, depthwise: false, residual: false }
}

/// A depthwise layer: output size, kernel, stride, channels.
const fn depthwise(network: &'static str, size: usize, kernel: usize, stride: usize, channels: usize) -> Layer {
    Layer { network, size, kernel, stride, channels, filters: channels, depthwise: true, residual: false }
}

const LAYERS: &[Layer] = &[
    Layer { stride: 2, ..dense("ResNet stem", 112, 7, 3, 64) },
    Layer { stride: 2, ..dense("MobileNet stem", 112, 3, 3, 32) },
    dense("3x3", 28, 3, 128, 128),
    dense("3x3", 14, 3, 256, 256),
    dense("3x3", 56, 3, 64, 64),
    dense("3x3", 7, 3, 512, 512),
    dense("1x1", 56, 1, 256, 64),
    dense("1x1", 56, 1, 64, 256),
    Layer { residual: true, ..dense("1x1 with Add", 56, 1, 64, 256) },
    dense("1x1", 28, 1, 512, 128),
    dense("1x1", 28, 1, 128, 512),
    dense("1x1", 14, 1, 1024, 256),
    dense("1x1", 14, 1, 256, 1024),
    dense("1x1", 7, 1, 2048, 512),
    dense("1x1", 7, 1, 512, 2048),
    dense("MobileNet 1x1", 112, 1, 16, 96),
    dense("MobileNet 1x1", 112, 1, 32, 16),
    dense("MobileNet 1x1", 56, 1, 96, 24),
    dense("MobileNet 1x1", 56, 1, 144, 24),
    Layer { residual: true, ..dense("MobileNet 1x1 with Add", 56, 1, 144, 24) },
    dense("MobileNet 1x1", 56, 1, 24, 144),
    dense("MobileNet 1x1", 28, 1, 144, 32),
    dense("MobileNet 1x1", 28, 1, 192, 32),
    dense("MobileNet 1x1", 28, 1, 32, 192),
    dense("MobileNet 1x1", 14, 1, 192, 64),
    dense("MobileNet 1x1", 14, 1, 64, 384),
    dense("MobileNet 1x1", 14, 1, 384, 64),
    dense("MobileNet 1x1", 14, 1, 384, 96),
    dense("MobileNet 1x1", 14, 1, 96, 576),
    dense("MobileNet 1x1", 14, 1, 576, 96),
    dense("MobileNet 1x1", 7, 1, 576, 160),
    dense("MobileNet 1x1", 7, 1, 160, 960),
    dense("MobileNet 1x1", 7, 1, 960, 320),
    dense("MobileNet 1x1", 7, 1, 320, 1280),
    dense("fully connected", 1, 1, 2048, 1000),
    dense("CIFAR 3x3", 32, 3, 16, 16),
    dense("CIFAR 3x3", 16, 3, 32, 32),
    dense("CIFAR 3x3", 8, 3, 64, 64),
    depthwise("depthwise", 112, 3, 1, 32),
    depthwise("depthwise", 56, 3, 2, 96),
    depthwise("depthwise", 56, 3, 1, 144),
    depthwise("depthwise", 28, 3, 2, 144),
    depthwise("depthwise", 28, 3, 1, 192),
    depthwise("depthwise", 14, 3, 2, 192),
    depthwise("depthwise", 14, 3, 1, 384),
    depthwise("depthwise", 14, 3, 1, 576),
    depthwise("depthwise", 7, 3, 2, 576),
    depthwise("depthwise", 7, 3, 1, 960),
    depthwise("depthwise", 28, 5, 1, 240),
    depthwise("depthwise", 14, 5, 1, 480),
    depthwise("depthwise", 7, 5, 2, 672),
];

impl Layer {
    fn name(&self) -> String {
        let Layer { network, size, kernel, stride, channels, filters, .. } = self;
        format!("{network} {size}x{size} k{kernel} s{stride} {channels}->{filters}")
    }

    fn geometry(&self) -> ConvGeometry {
        let pad = self.kernel / 2;
        let extent = self.size * self.stride;
        let (input, _) = Image::bordered(extent, extent, self.channels, [pad; 4]);
        ConvGeometry {
            kernel_h: self.kernel,
            kernel_w: self.kernel,
            stride_h: self.stride,
            stride_w: self.stride,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: pad,
            pad_left: pad,
            input,
            output: Image::dense(self.size, self.size, self.filters),
        }
    }

    fn macs(&self) -> usize {
        let depth = self.kernel * self.kernel * if self.depthwise { 1 } else { self.channels };
        self.size * self.size * self.filters * depth
    }
}

/// Bytes that look random enough to the branch-free kernels.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect()
}

/// A buffer's elements from its first cache line on, as engines allocate activations.
fn lines(buffer: &mut [u8]) -> &mut [u8] {
    let start = buffer.as_ptr().align_offset(64);
    &mut buffer[start..]
}

/// Best rate of a layer in GMAC/s, and the best of the bare loop measured in between.
fn measure(isa: Isa, layer: &Layer) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let geometry = layer.geometry();
    let depth = layer.macs() / (layer.size * layer.size * layer.filters);
    let weights: Vec<i8> = bytes(layer.filters * depth).into_iter().map(|byte| byte as i8).collect();
    let bias = vec![100; layer.filters];
    let requant = Requant::new(vec![1e-3 / (depth as f32).sqrt(); layer.filters], 120, 0, 255)?;
    let operand = QuantizedOperand { scale: 0.1, zero_point: 120 };
    let add = AddU8::new(operand, operand, operand, (0, 255), true)?;
    let mut residual = bytes(geometry.output.end() + 64);
    let residual = lines(&mut residual);
    let mut output = vec![0; geometry.output.end() + 64];
    let output = lines(&mut output);
    let mut finish = |compute: &dyn Fn(Epilogue<'_>)| {
        if layer.residual {
            compute(Epilogue::U8Add {
                requant: &requant,
                add: &add,
                residual,
                residual_image: geometry.output,
                output,
            });
        } else {
            compute(Epilogue::U8 { requant: &requant, output });
        }
    };
    let mut run: Box<dyn FnMut()> = if layer.depthwise {
        let weights = PackedDepthwise::pack(isa, &geometry, &weights)?;
        let conv = DepthwiseU8S8::new(isa, &geometry)?;
        let input = bytes(conv.input_elements() + 64);
        let start = input.as_ptr().align_offset(64);
        Box::new(move || finish(&|epilogue| conv.run(&weights, &input[start..], &bias, epilogue)))
    } else {
        let shape = WeightShape {
            out_channels: layer.filters,
            kernel_h: layer.kernel,
            kernel_w: layer.kernel,
            channels: layer.channels,
        };
        let weights = PackedWeights::pack(isa, shape, geometry.depth_runs(), &weights)?;
        let conv = ConvU8S8::new(isa, &geometry)?;
        let input = bytes(conv.input_elements() + 64);
        let start = input.as_ptr().align_offset(64);
        Box::new(move || finish(&|epilogue| conv.run(&weights, &input[start..], &bias, epilogue)))
    };
    run();
    let start = Instant::now();
    run();
    let once = start.elapsed().as_nanos().max(1);
    let runs = (BLOCK_NANOSECONDS / once).clamp(1, 10_000) as usize;
    let (mut best, mut limit) = (0.0f64, 0.0f64);
    for _ in 0..BLOCKS {
        let start = Instant::now();
        for _ in 0..runs {
            run();
        }
        best = best.max((layer.macs() * runs) as f64 / start.elapsed().as_nanos() as f64);
        limit = limit.max(peak::gmacs(isa).unwrap_or(f64::NAN));
    }
    Ok((best, limit))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next().and_then(|name| Isa::from_name(&name));
    let word = arguments.next().unwrap_or_default();
    for isa in [Isa::Avx512Vnni, Isa::Avx2].into_iter().filter(|isa| wanted.is_none_or(|wanted| wanted == *isa)) {
        if !isa.is_available() {
            println!("{isa}: not on this machine");
            continue;
        }
        println!("{:46} {:>8} {:>8} {:>9}", format!("{isa}"), "GMAC/s", "of peak", "us");
        for layer in LAYERS.iter().filter(|layer| layer.name().contains(&word)) {
            let (rate, limit) = measure(isa, layer)?;
            let microseconds = layer.macs() as f64 / rate / 1e3;
            println!("{:46} {rate:8.1} {:7.1}% {microseconds:9.1}", layer.name(), 100.0 * rate / limit);
        }
    }
    Ok(())
}
