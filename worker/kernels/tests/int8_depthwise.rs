//! Every depthwise int8 kernel against the reference, bit for bit.

mod support;

use holdfast_kernels::int8::{ConvGeometry, DepthwiseU8S8, Int8Error, PackedDepthwise, Requant, reference};
use holdfast_kernels::registry::{Family, kernels};
use holdfast_kernels::{Image, Isa};
use support::{Case, Output, Random, SINKS, Sink, isas, random_geometry, seed};

fn kernel_output(isa: Isa, case: &Case, sink: Sink) -> Output {
    let weights = PackedDepthwise::pack(isa, &case.geometry, &case.weights).unwrap();
    let conv = DepthwiseU8S8::new(isa, &case.geometry).unwrap();
    case.output(sink, |epilogue| conv.run(&weights, &case.input, &case.bias, epilogue))
}

fn check(isa: Isa, case: &Case) {
    for sink in SINKS {
        let right = case.output(sink, |epilogue| {
            reference::depthwise(&case.geometry, &case.weights, &case.input, &case.bias, epilogue)
        });
        assert!(kernel_output(isa, case, sink) == right, "{isa} differs with {sink:?} on {:?}", case.geometry);
    }
}

/// A square window over an image of the given size with a border that fits.
fn geometry(kernel: usize, stride: usize, (height, width, channels): (usize, usize, usize)) -> ConvGeometry {
    let pad = kernel / 2;
    let (input, _) =
        Image::bordered((height - 1) * stride + 1, (width - 1) * stride + 1, channels, [pad, pad, kernel, kernel]);
    ConvGeometry {
        kernel_h: kernel,
        kernel_w: kernel,
        stride_h: stride,
        stride_w: stride,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: pad,
        pad_left: pad,
        input,
        output: Image::dense(height, width, channels),
    }
}

#[test]
fn every_kernel_is_exact_around_its_tile() {
    let mut random = Random(seed(11));
    for entry in kernels().filter(|entry| entry.family == Family::DepthwiseU8S8 && entry.isa.is_available()) {
        let (pixels, width) = entry.tile();
        for channels in [1, width - 1, width, width + 1, 2 * width + 1] {
            for columns in [1, pixels - 1, pixels, pixels + 1, 2 * pixels + 1] {
                for (kernel, stride) in [(1, 1), (2, 1), (3, 1), (3, 2), (5, 1), (5, 2), (7, 1), (4, 1)] {
                    for rows in [1, 2, 3] {
                        let geometry = geometry(kernel, stride, (rows, columns, channels));
                        check(entry.isa, &Case::depthwise(&mut random, geometry));
                    }
                }
            }
        }
    }
}

#[test]
fn random_windows_are_exact() {
    let mut random = Random(seed(12));
    for _ in 0..400 {
        let channels = random.range(1, 140);
        let geometry = random_geometry(&mut random, channels, channels);
        let case = Case::depthwise(&mut random, geometry);
        for isa in isas() {
            check(isa, &case);
        }
    }
}

#[test]
fn images_of_several_row_blocks_are_exact() {
    let mut random = Random(seed(13));
    let case = Case::depthwise(&mut random, geometry(3, 1, (40, 130, 100)));
    for isa in isas() {
        check(isa, &case);
    }
}

#[test]
fn extreme_codes_and_weights_do_not_saturate() {
    let mut random = Random(seed(14));
    for isa in isas() {
        for (code, weight) in [(255u8, -128i8), (255, 127), (0, -128)] {
            let mut case = Case::depthwise(&mut random, geometry(3, 1, (3, 5, 70)));
            case.input.fill(code);
            case.weights.fill(weight);
            check(isa, &case);
            case.requant = Requant::new(vec![2e38; 70], 100, 1, 251).unwrap();
            check(isa, &case);
        }
    }
}

#[test]
fn zero_sizes_touch_nothing() {
    let mut random = Random(seed(15));
    for isa in isas() {
        for (height, width, channels) in [(0, 4, 4), (4, 0, 4), (4, 4, 0)] {
            let image = Image::dense(height, width, channels);
            let geometry = ConvGeometry { input: image, output: image, ..ConvGeometry::matmul(1, 1, 1) };
            let case = Case::depthwise(&mut random, geometry);
            for sink in SINKS {
                assert_eq!(kernel_output(isa, &case, sink), case.output(sink, |_| ()));
            }
        }
    }
}

#[test]
fn channels_must_agree() {
    let geometry = ConvGeometry::matmul(4, 3, 5);
    let error = DepthwiseU8S8::new(Isa::Scalar, &geometry).unwrap_err();
    assert_eq!(error, Int8Error::ChannelMismatch { input: 3, output: 5 });
}
