//! A float convolution keeps its accumulators in registers: it reaches most of the multiply-add peak measured beside it.

use std::hint::black_box;
use std::time::Instant;

use holdfast_kernels::float::{ConvF32, Epilogue, PackedF32, multiply_add_loop, multiply_add_loop_macs};
use holdfast_kernels::{ConvGeometry, Image, Isa};

fn seconds(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    call();
    start.elapsed().as_secs_f64()
}

#[test]
#[cfg_attr(debug_assertions, ignore = "speed means nothing without optimisation")]
fn a_convolution_reaches_most_of_the_multiply_add_peak() {
    for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Scalar) {
        let (input, input_len) = Image::bordered(14, 14, 256, [1; 4]);
        let output = Image::dense(14, 14, 256);
        let geometry = ConvGeometry {
            kernel_h: 3,
            kernel_w: 3,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 1,
            pad_left: 1,
            input,
            output,
        };
        let weights = PackedF32::pack(isa, 256, 9, 256, &vec![0.01; 256 * 9 * 256]);
        let conv = ConvF32::new(isa, &geometry).expect("a sound geometry");
        let (source, bias) = (vec![0.5; input_len], vec![0.0; 256]);
        let mut result = vec![0.0; output.end()];
        let loops = 100_000;
        let (mut conv_best, mut loop_best) = (f64::INFINITY, f64::INFINITY);
        // The best of several short runs in turn: a busy machine slows both, a spill in the depth loop only one. A run
        // ends as soon as the claim has been seen to hold.
        let mut share = 0.0;
        for _ in 0..60 {
            loop_best = loop_best.min(seconds(|| {
                black_box(multiply_add_loop(isa, black_box(loops)));
            }));
            conv_best = conv_best.min(seconds(|| conv.run(&weights, &source, &Epilogue::bias(&bias), &mut result)));
            let conv_rate = geometry.macs() as f64 / conv_best;
            share = conv_rate * loop_best / multiply_add_loop_macs(isa, loops) as f64;
            if share >= 0.6 {
                break;
            }
        }
        println!("{isa}: {:.0} % of the multiply-add peak", 100.0 * share);
        assert!(share >= 0.6, "{isa} reaches only {:.0} % of the multiply-add peak", 100.0 * share);
    }
}
