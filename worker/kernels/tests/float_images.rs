//! Pooling, resizing, layouts and channel statistics equal their definitions on every instruction set.

mod common;

use common::{Random, assert_same_bits, isas};
use holdfast_kernels::float::{self, Axis, Coordinates, Divisor, Nearest, reference};
use holdfast_kernels::{ConvGeometry, Image};

const UNTOUCHED: f32 = -12345.0;
const CHANNELS: [usize; 14] = [0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 70];

/// A channel slice of a bordered image and its buffer length.
fn sliced(random: &mut Random, height: usize, width: usize, channels: usize) -> (Image, usize) {
    let (before, after) = (random.within(0, 3), random.within(0, 3));
    let border = [random.within(0, 1), random.within(0, 1), random.within(0, 1), random.within(0, 1)];
    let (wide, len) = Image::bordered(height, width, before + channels + after, border);
    (Image { channels, offset: wide.offset + before, ..wide }, len)
}

#[test]
fn pools_equal_the_reference_over_random_geometries() {
    let mut random = Random::seeded(20);
    for _ in 0..300 {
        let channels = CHANNELS[random.within(0, CHANNELS.len() - 1)];
        let (height, width) = (random.within(0, 8), random.within(1, 8));
        let (input, input_len) = sliced(&mut random, height, width, channels);
        let (out_height, out_width) = (random.within(0, 5), random.within(1, 5));
        let (output, output_len) = sliced(&mut random, out_height, out_width, channels);
        let geometry = ConvGeometry {
            kernel_h: random.within(1, 4),
            kernel_w: random.within(1, 4),
            stride_h: random.within(1, 3),
            stride_w: random.within(1, 3),
            dilation_h: random.within(1, 2),
            dilation_w: random.within(1, 2),
            pad_top: random.within(0, 3),
            pad_left: random.within(0, 3),
            input,
            output,
        };
        let values = random.values(input_len);
        let padded = Divisor::PaddedTaps { pad_bottom: random.within(0, 2), pad_right: random.within(0, 2) };
        let mut expected = vec![UNTOUCHED; output_len];
        reference::max_pool(&geometry, &values, &mut expected);
        for isa in isas() {
            let mut found = vec![UNTOUCHED; output_len];
            float::max_pool(isa, &geometry, &values, &mut found);
            assert_same_bits(&found, &expected, &(isa, "max", geometry));
        }
        for divisor in [Divisor::InsideTaps, padded] {
            let mut expected = vec![UNTOUCHED; output_len];
            reference::average_pool(&geometry, divisor, &values, &mut expected);
            for isa in isas() {
                let mut found = vec![UNTOUCHED; output_len];
                float::average_pool(isa, &geometry, divisor, &values, &mut found);
                assert_same_bits(&found, &expected, &(isa, divisor, geometry));
            }
        }
    }
}

#[test]
fn channel_functions_equal_plain_loops() {
    let mut random = Random::seeded(21);
    for channels in CHANNELS {
        for (height, width) in [(0, 2), (1, 1), (3, 5)] {
            let (image, len) = sliced(&mut random, height, width, channels);
            let mut values = random.values(len);
            if let Some(value) = values.get_mut(len / 2) {
                *value = f32::NAN;
            }
            let pixels: Vec<usize> =
                (0..height).flat_map(|y| (0..width).map(move |x| (y, x))).map(|(y, x)| image.at(y, x)).collect();
            let column = |c: usize| pixels.iter().map(|at| values[at + c]).collect::<Vec<f32>>();
            for isa in isas() {
                let mut average = vec![UNTOUCHED; channels];
                float::global_average_pool(isa, &image, &values, &mut average);
                let (mut lows, mut highs) = (vec![0.0; channels], vec![0.0; channels]);
                float::channel_min_max(isa, &image, &values, &mut lows, &mut highs);
                let mut abs_max = vec![0.0; channels];
                float::channel_abs_max(isa, &image, &values, &mut abs_max);
                let mut means = vec![0.0f64; channels];
                float::channel_mean(isa, &image, &values, &mut means);
                for c in 0..channels {
                    let column = column(c);
                    let numbers = || column.iter().copied().filter(|x| !x.is_nan());
                    let low = numbers().fold(f32::INFINITY, |low, x| if x < low { x } else { low });
                    let high = numbers().fold(f32::NEG_INFINITY, |high, x| if x > high { x } else { high });
                    let most = numbers().fold(0.0f32, |most, x| if x.abs() > most { x.abs() } else { most });
                    let average_expected =
                        if pixels.is_empty() { UNTOUCHED } else { reference::global_average(&image, c, &values) };
                    assert_same_bits(
                        &[lows[c], highs[c], abs_max[c], average[c]],
                        &[low, high, most, average_expected],
                        &(isa, channels, height, width, c),
                    );
                    let mean = column.iter().fold(0.0f64, |sum, &x| sum + f64::from(x)) / column.len() as f64;
                    assert!(means[c].to_bits() == mean.to_bits() || (means[c].is_nan() && mean.is_nan()));
                }
            }
        }
    }
}

#[test]
fn a_channels_first_slice_survives_the_way_through_an_image() {
    let mut random = Random::seeded(22);
    for channels in CHANNELS {
        for (height, width) in [(0, 3), (1, 1), (2, 15), (3, 16), (3, 17), (5, 33)] {
            let (image, len) = sliced(&mut random, height, width, channels);
            let plain = random.values(channels * height * width);
            let mut nhwc = vec![UNTOUCHED; len];
            float::nchw_to_image(&plain, &image, &mut nhwc);
            for (i, &value) in plain.iter().enumerate() {
                let (c, y, x) = (i / (height * width), i / width % height, i % width);
                assert_eq!(nhwc[image.at(y, x) + c].to_bits(), value.to_bits());
            }
            assert_eq!(nhwc.iter().filter(|&&x| x == UNTOUCHED).count(), len - plain.len(), "the border is kept");
            let (other, other_len) = sliced(&mut random, height, width, channels);
            let mut copied = vec![UNTOUCHED; other_len];
            float::copy_image(&image, &nhwc, &other, &mut copied);
            let mut back = vec![UNTOUCHED; plain.len()];
            float::image_to_nchw(&other, &copied, &mut back);
            assert_same_bits(&back, &plain, &(channels, height, width));

            let bytes: Vec<u8> = (0..plain.len()).map(|_| random.bits() as u8).collect();
            let mut nhwc = vec![0u8; len];
            float::nchw_to_image(&bytes, &image, &mut nhwc);
            let mut back = vec![0u8; bytes.len()];
            float::image_to_nchw(&image, &nhwc, &mut back);
            assert_eq!(back, bytes);
        }
    }
}

fn axis(input: usize, output: usize) -> Axis {
    Axis { input, output, scale: None }
}

#[test]
fn nearest_indices_follow_the_onnx_examples() {
    // The operator's own examples: 4 pixels from 2, and 2 from 4, in each mode.
    assert_eq!(axis(2, 4).nearest(Coordinates::HalfPixel, Nearest::RoundPreferFloor), [0, 0, 1, 1]);
    assert_eq!(axis(2, 4).nearest(Coordinates::Asymmetric, Nearest::Floor), [0, 0, 1, 1]);
    assert_eq!(axis(2, 4).nearest(Coordinates::Asymmetric, Nearest::Ceil), [0, 1, 1, 1]);
    assert_eq!(axis(4, 8).nearest(Coordinates::AlignCorners, Nearest::RoundPreferFloor), [0, 0, 1, 1, 2, 2, 3, 3]);
    assert_eq!(axis(4, 2).nearest(Coordinates::HalfPixel, Nearest::RoundPreferFloor), [0, 2]);
    assert_eq!(axis(4, 2).nearest(Coordinates::HalfPixel, Nearest::RoundPreferCeil), [1, 3]);
    assert_eq!(axis(5, 1).nearest(Coordinates::AlignCorners, Nearest::Floor), [0]);
    assert_eq!(axis(5, 1).nearest(Coordinates::PytorchHalfPixel, Nearest::Floor), [0]);
    assert_eq!(axis(0, 3).nearest(Coordinates::HalfPixel, Nearest::Floor), []);
    let stated = Axis { input: 4, output: 2, scale: Some(0.6) };
    assert_eq!(stated.nearest(Coordinates::Asymmetric, Nearest::Floor), [0, 1]);
}

#[test]
fn linear_blends_follow_the_onnx_examples() {
    let values = |axis: Axis, coordinates, input: &[f32]| -> Vec<f32> {
        axis.linear(coordinates)
            .iter()
            .map(|b| b.share.mul_add(input[b.second] - input[b.first], input[b.first]))
            .collect()
    };
    assert_eq!(values(axis(2, 4), Coordinates::HalfPixel, &[1.0, 2.0]), [1.0, 1.25, 1.75, 2.0]);
    assert_eq!(values(axis(2, 4), Coordinates::AlignCorners, &[0.0, 3.0]), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(values(axis(2, 4), Coordinates::Asymmetric, &[1.0, 2.0]), [1.0, 1.5, 2.0, 2.0]);
}

#[test]
fn resizes_equal_plain_loops_over_random_images() {
    let mut random = Random::seeded(23);
    let coordinates =
        [Coordinates::HalfPixel, Coordinates::PytorchHalfPixel, Coordinates::Asymmetric, Coordinates::AlignCorners];
    for _ in 0..60 {
        let channels = CHANNELS[random.within(0, CHANNELS.len() - 1)];
        let (height, width) = (random.within(1, 7), random.within(1, 7));
        let (out_height, out_width) = (random.within(0, 9), random.within(1, 9));
        let (from, from_len) = sliced(&mut random, height, width, channels);
        let (to, to_len) = sliced(&mut random, out_height, out_width, channels);
        let coordinates = coordinates[random.within(0, 3)];
        let values = random.values(from_len);

        let rows = axis(height, out_height).nearest(coordinates, Nearest::RoundPreferFloor);
        let columns = axis(width, out_width).nearest(coordinates, Nearest::Ceil);
        let mut found = vec![UNTOUCHED; to_len];
        float::resize_nearest(&rows, &columns, &from, &values, &to, &mut found);
        for y in 0..out_height {
            for x in 0..out_width {
                for c in 0..channels {
                    let source = values[from.at(rows[y], columns[x]) + c];
                    assert_eq!(found[to.at(y, x) + c].to_bits(), source.to_bits());
                }
            }
        }

        let (rows, columns) =
            (axis(height, out_height).linear(coordinates), axis(width, out_width).linear(coordinates));
        let mut expected = vec![UNTOUCHED; to_len];
        reference::resize_linear(&rows, &columns, &from, &values, &to, &mut expected);
        for isa in isas() {
            let mut found = vec![UNTOUCHED; to_len];
            float::resize_linear(isa, &rows, &columns, &from, &values, &to, &mut found);
            assert_same_bits(&found, &expected, &(isa, coordinates, from, to));
        }
    }
}
