//! Float convolutions and matrix products equal the reference bit for bit on every instruction set.

mod common;

use common::{Random, assert_same_bits, isas};
use holdfast_kernels::float::{ConvF32, DepthwiseF32, Epilogue, PackedF32, WeightLayout, gemm_f32, reference};
use holdfast_kernels::{ConvGeometry, Image};

/// A marker that no kernel computes here: what it still holds was not written.
const UNTOUCHED: f32 = -12345.0;

/// One random window over bordered, sliced images, and the lengths of its buffers.
fn random_geometry(random: &mut Random, depthwise: bool) -> (ConvGeometry, usize, usize) {
    let (kernel_h, kernel_w) = (random.within(1, 4), random.within(1, 4));
    let (stride_h, stride_w) = (random.within(1, 3), random.within(1, 3));
    let (dilation_h, dilation_w) = (random.within(1, 2), random.within(1, 2));
    let (pad_top, pad_left) = (random.within(0, 2), random.within(0, 2));
    let (height, width) = (random.within(1, 9), random.within(1, 9));
    let out_channels = if random.chance(2) { random.within(1, 70) } else { random.within(1, 18) };
    let in_channels = if depthwise { out_channels } else { random.within(1, 20) };
    let extent =
        |input, kernel, stride, dilation, pad| ConvGeometry::output_extent(input, kernel, stride, dilation, 2 * pad);
    let (out_height, out_width) = (
        extent(height, kernel_h, stride_h, dilation_h, pad_top),
        extent(width, kernel_w, stride_w, dilation_w, pad_left),
    );
    let (input, input_len) = sliced(random, height, width, in_channels, [pad_top, pad_left]);
    let (output, output_len) = sliced(random, out_height, out_width, out_channels, [1, 2]);
    let geometry = ConvGeometry {
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        dilation_h,
        dilation_w,
        pad_top,
        pad_left,
        input,
        output,
    };
    (geometry, input_len, output_len)
}

/// An image with a border that is, half of the time, a channel slice of a wider one.
fn sliced(random: &mut Random, height: usize, width: usize, channels: usize, [v, h]: [usize; 2]) -> (Image, usize) {
    let (before, after) = if random.chance(2) { (0, 0) } else { (random.within(0, 5), random.within(0, 5)) };
    let (wide, len) = Image::bordered(height, width, before + channels + after, [v, h, v, h]);
    (Image { channels, offset: wide.offset + before, ..wide }, len)
}

#[test]
fn dense_convolutions_equal_the_reference_over_random_geometries() {
    let mut random = Random::seeded(1);
    for _ in 0..250 {
        let (geometry, input_len, output_len) = random_geometry(&mut random, false);
        let g = &geometry;
        let input = random.values(input_len);
        let taps = g.kernel_h * g.kernel_w;
        let weights = random.values(g.output.channels * taps * g.input.channels);
        let bias = random.values(g.output.channels);
        let (residual, residual_len) = sliced(&mut random, g.output.height, g.output.width, g.output.channels, [0, 1]);
        let residual_values = random.values(residual_len);
        let mut epilogue = Epilogue::bias(&bias);
        if random.chance(2) {
            epilogue.residual = Some((&residual_values, residual));
        } else {
            epilogue.accumulate = random.chance(2);
        }
        if random.chance(2) {
            (epilogue.lo, epilogue.hi) = (0.0, 0.75);
        }
        let mut expected = vec![UNTOUCHED; output_len];
        reference::conv(g, &weights, &input, &epilogue, &mut expected);
        for isa in isas() {
            let packed = PackedF32::pack(isa, g.output.channels, taps, g.input.channels, &weights);
            let conv = ConvF32::new(isa, g).expect("a sound geometry");
            let mut found = vec![UNTOUCHED; output_len];
            conv.run(&packed, &input, &epilogue, &mut found);
            assert_same_bits(&found, &expected, &(isa, g));
        }
    }
}

#[test]
fn matrix_products_equal_the_reference_at_every_tile_edge() {
    let mut random = Random::seeded(2);
    let columns = [1, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 47, 48, 49, 63, 64, 65, 80, 96, 97];
    for rows in [1, 2, 5, 6, 7, 12, 13, 14, 15, 27, 28, 29] {
        for columns in columns {
            let depth = random.within(0, 40);
            let geometry = ConvGeometry::matrix(rows, depth, columns, depth + random.within(0, 3), columns);
            let a = random.values(rows * geometry.input.pixel_stride);
            let b = random.values(depth * columns);
            let bias = random.values(columns);
            let epilogue = Epilogue::bias(&bias);
            let mut expected = vec![UNTOUCHED; rows * columns];
            reference::conv(&geometry, &b, &a, &epilogue, &mut expected);
            let transposed: Vec<f32> = (0..depth * columns).map(|i| b[(i % columns) * depth + i / columns]).collect();
            for isa in isas() {
                let mut scratch = PackedF32::empty(isa);
                for (layout, stride, b) in
                    [(WeightLayout::OutputMajor, depth, &b), (WeightLayout::DepthMajor, columns, &transposed)]
                {
                    let mut found = vec![UNTOUCHED; rows * columns];
                    gemm_f32(isa, &geometry, &a, b, layout, stride, &mut scratch, &epilogue, &mut found);
                    assert_same_bits(&found, &expected, &(isa, rows, depth, columns, layout));
                }
            }
        }
    }
}

#[test]
fn layers_with_more_weights_than_a_cache_holds_equal_the_reference() {
    let mut random = Random::seeded(3);
    for (extent, kernel, inputs, outputs) in [(5, 3, 150, 130), (4, 1, 2048, 64), (3, 1, 1024, 160)] {
        let pad = kernel / 2;
        let (input, input_len) = Image::bordered(extent, extent, inputs, [pad; 4]);
        let output = Image::dense(extent, extent, outputs);
        let geometry = ConvGeometry {
            kernel_h: kernel,
            kernel_w: kernel,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: pad,
            pad_left: pad,
            input,
            output,
        };
        let weights = random.values(outputs * kernel * kernel * inputs);
        let (source, bias) = (random.values(input_len), random.values(outputs));
        let epilogue = Epilogue { lo: 0.0, ..Epilogue::bias(&bias) };
        let mut expected = vec![UNTOUCHED; output.end()];
        reference::conv(&geometry, &weights, &source, &epilogue, &mut expected);
        for isa in isas() {
            let packed = PackedF32::pack(isa, outputs, kernel * kernel, inputs, &weights);
            let mut found = vec![UNTOUCHED; output.end()];
            ConvF32::new(isa, &geometry).expect("a sound geometry").run(&packed, &source, &epilogue, &mut found);
            assert_same_bits(&found, &expected, &(isa, extent, kernel, inputs, outputs));
        }
    }
}

#[test]
fn groups_computed_one_by_one_make_the_grouped_convolution() {
    let mut random = Random::seeded(4);
    let (groups, inputs, outputs) = (3, 5, 7);
    let (whole_input, input_len) = Image::bordered(6, 5, groups * inputs, [1; 4]);
    let whole_output = Image::dense(6, 5, groups * outputs);
    let weights = random.values(groups * outputs * 9 * inputs);
    let (source, bias) = (random.values(input_len), random.values(groups * outputs));
    for isa in isas() {
        let mut found = vec![UNTOUCHED; whole_output.end()];
        let mut expected = found.clone();
        for group in 0..groups {
            let geometry = ConvGeometry {
                kernel_h: 3,
                kernel_w: 3,
                stride_h: 1,
                stride_w: 1,
                dilation_h: 1,
                dilation_w: 1,
                pad_top: 1,
                pad_left: 1,
                input: Image { channels: inputs, offset: whole_input.offset + group * inputs, ..whole_input },
                output: Image { channels: outputs, offset: group * outputs, ..whole_output },
            };
            let weights = &weights[group * outputs * 9 * inputs..][..outputs * 9 * inputs];
            let epilogue = Epilogue::bias(&bias[group * outputs..][..outputs]);
            reference::conv(&geometry, weights, &source, &epilogue, &mut expected);
            let packed = PackedF32::pack(isa, outputs, 9, inputs, weights);
            ConvF32::new(isa, &geometry).expect("a sound geometry").run(&packed, &source, &epilogue, &mut found);
        }
        assert!(!found.contains(&UNTOUCHED));
        assert_same_bits(&found, &expected, &isa);
    }
}

#[test]
fn depthwise_convolutions_equal_the_reference_over_random_geometries() {
    let mut random = Random::seeded(5);
    for _ in 0..250 {
        let (geometry, input_len, output_len) = random_geometry(&mut random, true);
        let g = &geometry;
        let input = random.values(input_len);
        let weights = random.values(g.output.channels * g.kernel_h * g.kernel_w);
        let bias = random.values(g.output.channels);
        let (residual, residual_len) = sliced(&mut random, g.output.height, g.output.width, g.output.channels, [1, 0]);
        let residual_values = random.values(residual_len);
        let mut epilogue = Epilogue::bias(&bias);
        if random.chance(2) {
            epilogue.residual = Some((&residual_values, residual));
        }
        if random.chance(2) {
            (epilogue.lo, epilogue.hi) = (0.0, 0.75);
        }
        let mut expected = vec![UNTOUCHED; output_len];
        reference::depthwise(g, &weights, &input, &epilogue, &mut expected);
        for isa in isas() {
            let mut found = vec![UNTOUCHED; output_len];
            DepthwiseF32::new(isa, g, &weights).expect("a sound geometry").run(&input, &epilogue, &mut found);
            assert_same_bits(&found, &expected, &(isa, g));
        }
    }
}

#[test]
fn depthwise_equals_the_reference_at_every_channel_edge() {
    let mut random = Random::seeded(6);
    for kernel in [3, 5] {
        for channels in [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40, 48, 63, 64, 65, 96, 100] {
            for stride in [1, 2] {
                let pad = kernel / 2;
                let (input, input_len) = Image::bordered(7, 11, channels, [pad; 4]);
                let extent = |input| ConvGeometry::output_extent(input, kernel, stride, 1, 2 * pad);
                let output = Image::dense(extent(7), extent(11), channels);
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
                let weights = random.values(channels * kernel * kernel);
                let (source, bias) = (random.values(input_len), random.values(channels));
                let epilogue = Epilogue { hi: 0.5, ..Epilogue::bias(&bias) };
                let mut expected = vec![UNTOUCHED; output.end()];
                reference::depthwise(&geometry, &weights, &source, &epilogue, &mut expected);
                for isa in isas() {
                    let mut found = vec![UNTOUCHED; output.end()];
                    DepthwiseF32::new(isa, &geometry, &weights)
                        .expect("a sound geometry")
                        .run(&source, &epilogue, &mut found);
                    assert_same_bits(&found, &expected, &(isa, kernel, channels, stride));
                }
            }
        }
    }
}

#[test]
fn empty_windows_leave_the_output_untouched() {
    for isa in isas() {
        for (rows, columns) in [(0, 5), (5, 0), (0, 0)] {
            let geometry = ConvGeometry::matrix(rows, 3, columns, 3, columns);
            let packed = PackedF32::pack(isa, columns, 1, 3, &vec![1.0; columns * 3]);
            let bias = vec![0.0; columns];
            let mut output = vec![UNTOUCHED; 4];
            let conv = ConvF32::new(isa, &geometry).expect("a sound geometry");
            conv.run(&packed, &vec![1.0; rows * 3], &Epilogue::bias(&bias), &mut output);
            assert_eq!(output, vec![UNTOUCHED; 4]);
        }
    }
}

#[test]
fn a_nan_sum_becomes_the_lower_bound_everywhere() {
    let geometry = ConvGeometry::matrix(1, 1, 3, 1, 3);
    for isa in isas() {
        let packed = PackedF32::pack(isa, 3, 1, 1, &[1.0, 2.0, 3.0]);
        let bias = [0.0; 3];
        let mut output = [UNTOUCHED; 3];
        let epilogue = Epilogue { lo: -1.0, hi: 1.0, ..Epilogue::bias(&bias) };
        ConvF32::new(isa, &geometry).expect("a sound geometry").run(&packed, &[f32::NAN], &epilogue, &mut output);
        assert_eq!(output, [-1.0; 3], "{isa}");
    }
}

#[test]
#[should_panic(expected = "the output buffer has 2 elements")]
fn a_short_output_is_refused_before_anything_is_written() {
    let geometry = ConvGeometry::matrix(1, 1, 3, 1, 3);
    let isa = holdfast_kernels::Isa::best();
    let packed = PackedF32::pack(isa, 3, 1, 1, &[1.0, 2.0, 3.0]);
    let conv = ConvF32::new(isa, &geometry).expect("a sound geometry");
    conv.run(&packed, &[1.0], &Epilogue::bias(&[0.0; 3]), &mut [0.0; 2]);
}
