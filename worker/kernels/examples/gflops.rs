//! Prints the throughput of the float kernels and their share of the multiply-add peak measured beside them.
//!
//! An argument keeps only the dense layers whose name contains it, and skips the rest.

use std::hint::black_box;
use std::time::Instant;

use holdfast_kernels::float::{
    self, Binary, ConvF32, DepthwiseF32, Divisor, Epilogue, PackedF32, Right, Unary, WeightLayout,
};
use holdfast_kernels::{ConvGeometry, Image, Isa};

/// Seconds of one call: the best of several short runs, so that a busy machine does not count.
fn best(mut call: impl FnMut()) -> f64 {
    call();
    let start = Instant::now();
    call();
    let once = start.elapsed().as_secs_f64().max(1e-7);
    let calls = ((0.001 / once) as usize).clamp(1, 100_000);
    let mut best = f64::INFINITY;
    for _ in 0..50 {
        let start = Instant::now();
        for _ in 0..calls {
            call();
        }
        best = best.min(start.elapsed().as_secs_f64() / calls as f64);
    }
    best
}

/// Multiply-accumulates a second of a loop that does nothing else.
fn peak() -> f64 {
    let loops = 100_000;
    let seconds = best(|| {
        black_box(holdfast_kernels::float::multiply_add_loop(Isa::best(), black_box(loops)));
    });
    holdfast_kernels::float::multiply_add_loop_macs(Isa::best(), loops) as f64 / seconds
}

struct Layer {
    name: &'static str,
    extent: usize,
    kernel: usize,
    stride: usize,
    inputs: usize,
    outputs: usize,
}

/// A buffer that starts on a cache line, as a planner's arena does.
struct Buffer {
    values: Vec<f32>,
    start: usize,
}

impl Buffer {
    fn new(count: usize) -> Buffer {
        let values = values(count + 16);
        let start = values.as_ptr().align_offset(64);
        Buffer { values, start }
    }

    fn get(&self) -> &[f32] {
        &self.values[self.start..]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..]
    }
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}

fn conv(isa: Isa, layer: &Layer) -> f64 {
    let pad = layer.kernel / 2;
    let (input, input_len) = Image::bordered(layer.extent, layer.extent, layer.inputs, [pad, pad, pad, pad]);
    let extent = ConvGeometry::output_extent(layer.extent, layer.kernel, layer.stride, 1, 2 * pad);
    let output = Image::dense(extent, extent, layer.outputs);
    let geometry = ConvGeometry {
        kernel_h: layer.kernel,
        kernel_w: layer.kernel,
        stride_h: layer.stride,
        stride_w: layer.stride,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: pad,
        pad_left: pad,
        input,
        output,
    };
    let taps = layer.kernel * layer.kernel;
    let weights = PackedF32::pack(isa, layer.outputs, taps, layer.inputs, &values(layer.outputs * taps * layer.inputs));
    let conv = ConvF32::new(isa, &geometry).expect("a sound geometry");
    let (source, bias) = (Buffer::new(input_len), values(layer.outputs));
    let mut result = Buffer::new(output.end());
    let epilogue = Epilogue { lo: 0.0, ..Epilogue::bias(&bias) };
    geometry.macs() as f64 / best(|| conv.run(&weights, source.get(), &epilogue, result.get_mut()))
}

fn depthwise(isa: Isa, extent: usize, kernel: usize, stride: usize, channels: usize) -> f64 {
    let pad = kernel / 2;
    let (input, input_len) = Image::bordered(extent, extent, channels, [pad, pad, pad, pad]);
    let extent = ConvGeometry::output_extent(extent, kernel, stride, 1, 2 * pad);
    let output = Image::dense(extent, extent, channels);
    let geometry = ConvGeometry {
        kernel_h: kernel,
        kernel_w: kernel,
        stride_h: stride,
        stride_w: stride,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: pad,
        pad_left: pad,
        input,
        output,
    };
    let conv = DepthwiseF32::new(isa, &geometry, &values(channels * kernel * kernel)).expect("a sound geometry");
    let (source, bias) = (Buffer::new(input_len), values(channels));
    let mut result = Buffer::new(output.end());
    let epilogue = Epilogue { lo: 0.0, hi: 6.0, ..Epilogue::bias(&bias) };
    let macs = (geometry.macs() / channels as u64) as f64;
    macs / best(|| conv.run(source.get(), &epilogue, result.get_mut()))
}

/// A product with a right operand that is packed on the way, as attention needs twice a head.
fn attention(isa: Isa, rows: usize, depth: usize, columns: usize, layout: WeightLayout) -> f64 {
    let geometry = ConvGeometry::matrix(rows, depth, columns, depth, columns);
    let (a, b, mut result) = (Buffer::new(rows * depth), values(depth * columns), Buffer::new(rows * columns));
    let (bias, mut scratch) = (vec![0.0; columns], PackedF32::empty(isa));
    let stride = if layout == WeightLayout::OutputMajor { depth } else { columns };
    let seconds = best(|| {
        let epilogue = Epilogue::bias(&bias);
        float::gemm_f32(isa, &geometry, a.get(), &b, layout, stride, &mut scratch, &epilogue, result.get_mut());
    });
    geometry.macs() as f64 / seconds
}

/// Elements a second of each row and elementwise function, over a run that stays in the first-level cache.
fn rows(isa: Isa) -> Vec<(&'static str, f64)> {
    let (input, mut output) = (Buffer::new(4096), Buffer::new(4096));
    let (input, output) = (&input.get()[..4096], &mut output.get_mut()[..4096]);
    let (gamma, beta) = (values(512), values(512));
    let mut rates = Vec::new();
    let mut time = |name, call: &mut dyn FnMut(&mut [f32])| {
        rates.push((name, 4096.0 / best(|| call(black_box(&mut *output)))));
    };
    for (name, op) in [
        ("exp", Unary::Exp),
        ("log", Unary::Log),
        ("tanh", Unary::Tanh),
        ("erf", Unary::Erf),
        ("sigmoid", Unary::Sigmoid),
        ("gelu", Unary::Gelu),
        ("gelu tanh", Unary::GeluTanh),
        ("silu", Unary::Silu),
        ("hard swish", Unary::HardSwish),
        ("softplus", Unary::Softplus),
    ] {
        time(name, &mut |output| float::unary(isa, op, input, output));
    }
    time("add", &mut |output| float::binary(isa, Binary::Add, input, Right::Same(input), output));
    for (name, op) in [
        ("relu in place", Unary::Clamp { lo: 0.0, hi: f32::INFINITY }),
        ("leaky relu in place", Unary::LeakyRelu { alpha: 0.1 }),
        ("hard swish in place", Unary::HardSwish),
    ] {
        time(name, &mut |output| float::unary_in_place(isa, op, output));
    }
    time("max in place", &mut |output| float::binary_in_place(isa, Binary::Max, output, Right::Same(input)));
    time("prelu in place", &mut |output| float::binary_in_place(isa, Binary::Prelu, output, Right::Channels(&gamma)));
    time("pow 1.7", &mut |output| float::binary(isa, Binary::Pow, input, Right::Scalar(1.7), output));
    time("softmax 128", &mut |output| float::softmax_rows(isa, 128, input, output));
    time("layer norm 512", &mut |output| float::layer_norm_rows(isa, &gamma, &beta, 1e-5, input, output));
    time("sum", &mut |output| output[0] = float::sum(isa, input));
    time("min max", &mut |output| output[0] = float::min_max(isa, input).0);
    rates
}

/// Elements a second (read by pools and statistics, moved by layouts) of the functions over whole images.
fn images(isa: Isa) -> Vec<(&'static str, f64)> {
    let mut rates = Vec::new();
    let (image, len) = Image::bordered(112, 112, 64, [0; 4]);
    let input = Buffer::new(len);
    let mut output = Buffer::new(len);
    let (input, output) = (&input.get()[..len], &mut output.get_mut()[..len]);
    let geometry = ConvGeometry {
        kernel_h: 3,
        kernel_w: 3,
        stride_h: 2,
        stride_w: 2,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 1,
        pad_left: 1,
        input: image,
        output: Image::dense(56, 56, 64),
    };
    let elements = len as f64;
    rates.push(("max pool 3x3/2 112 64", elements / best(|| float::max_pool(isa, &geometry, input, output))));
    let average = Divisor::InsideTaps;
    rates.push((
        "avg pool 3x3/2 112 64",
        elements / best(|| float::average_pool(isa, &geometry, average, input, output)),
    ));
    let channels = &mut output[..64];
    rates.push(("global average 112 64", elements / best(|| float::global_average_pool(isa, &image, input, channels))));
    rates.push(("channel abs max 112 64", elements / best(|| float::channel_abs_max(isa, &image, input, channels))));
    rates.push(("NCHW to image 112 64", elements / best(|| float::nchw_to_image(input, &image, output))));
    rates.push(("image to NCHW 112 64", elements / best(|| float::image_to_nchw(&image, input, output))));
    let (picture, picture_len) = Image::bordered(224, 224, 3, [3; 4]);
    let plain = &input[..3 * 224 * 224];
    let rate = 3.0 * 224.0 * 224.0 / best(|| float::nchw_to_image(plain, &picture, &mut output[..picture_len]));
    rates.push(("NCHW to image 224 3", rate));
    rates
}

fn main() {
    let peak = peak();
    println!("peak {:.1} GMAC/s", peak / 1e9);
    let layer = |name, extent, kernel, stride, inputs, outputs| Layer { name, extent, kernel, stride, inputs, outputs };
    let layers = [
        layer("stem 7x7/2 224 3->64", 224, 7, 2, 3, 64),
        layer("3x3 56 64->64", 56, 3, 1, 64, 64),
        layer("3x3 28 128->128", 28, 3, 1, 128, 128),
        layer("3x3/2 56 128->128", 56, 3, 2, 128, 128),
        layer("3x3 14 256->256", 14, 3, 1, 256, 256),
        layer("3x3 7 512->512", 7, 3, 1, 512, 512),
        layer("1x1 56 64->64", 56, 1, 1, 64, 64),
        layer("1x1 56 64->256", 56, 1, 1, 64, 256),
        layer("1x1 56 256->64", 56, 1, 1, 256, 64),
        layer("1x1 28 512->128", 28, 1, 1, 512, 128),
        layer("1x1 28 128->512", 28, 1, 1, 128, 512),
        layer("1x1 14 1024->256", 14, 1, 1, 1024, 256),
        layer("1x1 14 256->1024", 14, 1, 1, 256, 1024),
        layer("1x1 7 2048->512", 7, 1, 1, 2048, 512),
        layer("1x1 7 512->2048", 7, 1, 1, 512, 2048),
        layer("1x1 112 16->96", 112, 1, 1, 16, 96),
        layer("1x1 56 144->24", 56, 1, 1, 144, 24),
        layer("1x1 1 2048->1000", 1, 1, 1, 2048, 1000),
    ];
    let isas: Vec<Isa> = Isa::available().into_iter().filter(|&isa| isa != Isa::Scalar).collect();
    let only = std::env::args().nth(1).unwrap_or_default();
    for layer in layers.iter().filter(|layer| layer.name.contains(&only)) {
        print!("{:22}", layer.name);
        for &isa in &isas {
            let rate = conv(isa, layer);
            print!("  {isa} {:5.1} GMAC/s {:3.0} %", rate / 1e9, 100.0 * rate / peak);
        }
        println!();
    }
    if !only.is_empty() {
        return;
    }
    for (extent, kernel, stride, channels) in
        [(112, 3, 1, 32), (56, 3, 1, 144), (56, 3, 2, 144), (28, 3, 1, 192), (14, 3, 1, 576), (7, 5, 1, 960)]
    {
        print!("{:22}", format!("dw {kernel}x{kernel}/{stride} {extent} {channels}"));
        for &isa in &isas {
            let rate = depthwise(isa, extent, kernel, stride, channels);
            print!("  {isa} {:5.1} GMAC/s {:3.0} %", rate / 1e9, 100.0 * rate / peak);
        }
        println!();
    }
    for (rows, depth, columns, layout) in
        [(128, 64, 128, WeightLayout::OutputMajor), (128, 128, 64, WeightLayout::DepthMajor)]
    {
        print!("{:22}", format!("gemm {rows} {depth} {columns} packing"));
        for &isa in &isas {
            let rate = attention(isa, rows, depth, columns, layout);
            print!("  {isa} {:5.1} GMAC/s {:3.0} %", rate / 1e9, 100.0 * rate / peak);
        }
        println!();
    }
    let columns: Vec<Vec<_>> = isas.iter().map(|&isa| [rows(isa), images(isa)].concat()).collect();
    for i in 0..columns.first().map_or(0, Vec::len) {
        print!("{:22}", columns[0][i].0);
        for (isa, column) in isas.iter().zip(&columns) {
            print!("  {isa} {:5.2} Gelem/s     ", column[i].1 / 1e9);
        }
        println!();
    }
}
