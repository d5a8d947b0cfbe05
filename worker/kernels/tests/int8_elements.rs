//! Element operations, pooling and layout moves on codes against the reference, bit for bit.

mod support;

use holdfast_kernels::Image;
use holdfast_kernels::int8::{
    AddU8, AverageCount, AverageOutput, Border, CodeParams, ConvGeometry, QuantizedOperand, Quantizer, add_u8,
    average_pool_u8, copy_image, dequantize_u8_f32, fill_border, lookup_u8, max_pool_u8, quantize_f32_u8, reference,
};
use support::{Random, input_elements, isas, random_geometry, seed};

/// The same extents once dense and once with gaps between pixels and rows.
fn layouts(height: usize, width: usize, channels: usize) -> [Image; 3] {
    let dense = Image::dense(height, width, channels);
    let (bordered, _) = Image::bordered(height, width, channels, [1, 2, 1, 1]);
    let sliced = Image { pixel_stride: channels + 5, row_stride: (channels + 5) * width + 3, offset: 4, ..dense };
    [dense, bordered, sliced]
}

fn elements(image: &Image) -> impl Iterator<Item = usize> + '_ {
    (0..image.height)
        .flat_map(move |y| (0..image.width).flat_map(move |x| (0..image.channels).map(move |c| image.at(y, x) + c)))
}

#[test]
fn quantization_by_a_product_gives_the_codes_of_a_division() {
    let mut random = Random(seed(6));
    for round in 0..300 {
        let scale = match round % 4 {
            0 => 0.5f32.powi(random.range(0, 20) as i32),
            1 => 1e-12 * (1.0 + random.unit()),
            _ => 0.001 + random.unit(),
        };
        let (lo, hi) = if round % 3 == 0 { (5, 200) } else { (0, 255) };
        let params = CodeParams { scale, zero_point: (lo as usize + random.range(0, 190)) as u8, lo, hi };
        // Floats at and around every half step, and some that are none or far beyond.
        let mut input = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MAX, f32::MIN, 1e-45, -1e-39];
        for half in (-520..520).map(|step| step as f32 * 0.5 * scale) {
            let down = half.next_down();
            input.extend([down.next_down(), down, half, half.next_up(), half.next_up().next_up()]);
        }
        input.extend((0..500).map(|_| (random.unit() - 0.5) * 600.0 * scale));
        let image = Image::dense(1, 1, input.len());
        let right: Vec<u8> = input.iter().map(|x| reference::quantize(*x, &params)).collect();
        for isa in isas() {
            let mut found = vec![0; input.len()];
            Quantizer::new(params).run(isa, (&input, &image), (&mut found, &image));
            let wrong = found.iter().zip(&right).position(|(found, right)| found != right);
            assert_eq!(wrong.map(|at| (input[at], found[at], right[at])), None, "{isa} {params:?}");
        }
    }
}

#[test]
fn quantization_of_every_kind_of_float_matches_the_reference() {
    let mut random = Random(seed(21));
    let params = [
        CodeParams { scale: 0.1, zero_point: 128, lo: 0, hi: 255 },
        CodeParams { scale: 0.037, zero_point: 3, lo: 3, hi: 200 },
        CodeParams { scale: 1e-30, zero_point: 255, lo: 0, hi: 255 },
    ];
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, 1e38, -1e38, 1e-44, 0.05, 0.15, -0.05, 0.25];
    for isa in isas() {
        for params in &params {
            for source in layouts(3, 5, 23) {
                for target in layouts(3, 5, 23) {
                    let input: Vec<f32> = (0..source.end())
                        .map(|i| special.get(random.range(0, 40)).copied().unwrap_or((i as f32 - 150.0) * 0.1))
                        .collect();
                    let mut output = vec![0xA5; target.end() + 7];
                    let mut right = output.clone();
                    for (from, to) in elements(&source).zip(elements(&target)) {
                        right[to] = reference::quantize(input[from], params);
                    }
                    quantize_f32_u8(isa, params, (&input, &source), (&mut output, &target));
                    assert_eq!(output, right, "{isa} {params:?}");
                }
            }
        }
        let mut lowest = [9];
        let one = Image::dense(1, 1, 1);
        quantize_f32_u8(isa, &params[1], (&[f32::NAN], &one), (&mut lowest, &one));
        assert_eq!(lowest, [3]);
    }
}

#[test]
fn dequantization_of_every_code_matches_the_reference() {
    let codes: Vec<u8> = (0..=255).collect();
    let image = Image::dense(1, 16, 16);
    for isa in isas() {
        for zero_point in [0, 1, 128, 255] {
            let mut output = vec![0.0; 256];
            dequantize_u8_f32(isa, (0.0371, zero_point), (&codes, &image), (&mut output, &image));
            for (&code, &value) in codes.iter().zip(&output) {
                assert_eq!(value.to_bits(), reference::dequantize(code, 0.0371, zero_point).to_bits());
            }
        }
    }
}

#[test]
fn lookup_replaces_each_code_by_its_entry() {
    let mut random = Random(seed(22));
    let table: [u8; 256] = std::array::from_fn(|_| random.next() as u8);
    for isa in isas() {
        for image in layouts(2, 9, 31) {
            let input = random.bytes(image.end());
            let mut output = vec![0xA5; image.end()];
            let mut right = output.clone();
            elements(&image).for_each(|at| right[at] = table[usize::from(input[at])]);
            lookup_u8(isa, &table, (&input, &image), (&mut output, &image));
            assert_eq!(output, right);
        }
    }
}

#[test]
fn the_sum_of_every_pair_of_codes_is_the_same_on_every_instruction_set() {
    let mut random = Random(seed(23));
    let a: Vec<u8> = (0..65536).map(|i| (i / 256) as u8).collect();
    let b: Vec<u8> = (0..65536).map(|i| (i % 256) as u8).collect();
    let image = Image::dense(1, 256, 256);
    for _ in 0..20 {
        let mut operand = || QuantizedOperand { scale: 0.01 + random.unit(), zero_point: random.next() as u8 };
        let add = AddU8::new(operand(), operand(), operand(), (4, 253), true).unwrap();
        let right: Vec<u8> = a.iter().zip(&b).map(|(&a, &b)| add.apply(a, b)).collect();
        for isa in isas() {
            let mut output = vec![0; 65536];
            add_u8(isa, &add, (&a, &image), (&b, &image), (&mut output, &image));
            assert!(output == right, "{isa} {add:?}");
        }
    }
}

#[test]
fn sums_of_images_in_different_layouts_are_exact() {
    let mut random = Random(seed(24));
    let operand = |scale, zero_point| QuantizedOperand { scale, zero_point };
    let add = AddU8::new(operand(0.3, 120), operand(0.11, 4), operand(0.25, 99), (0, 255), false).unwrap();
    let [a_image, b_image, out_image] = layouts(3, 7, 19);
    let (a, b) = (random.bytes(a_image.end()), random.bytes(b_image.end()));
    for isa in isas() {
        let mut output = vec![0xA5; out_image.end()];
        let mut right = output.clone();
        for ((a_at, b_at), to) in elements(&a_image).zip(elements(&b_image)).zip(elements(&out_image)) {
            right[to] = add.apply(a[a_at], b[b_at]);
        }
        add_u8(isa, &add, (&a, &a_image), (&b, &b_image), (&mut output, &out_image));
        assert_eq!(output, right);
    }
}

#[test]
fn an_add_of_unusable_scales_is_refused() {
    let good = QuantizedOperand { scale: 1.0, zero_point: 0 };
    for scale in [0.0, f32::NAN, 1e-40] {
        assert!(AddU8::new(good, good, QuantizedOperand { scale, ..good }, (0, 255), true).is_err(), "{scale}");
    }
}

/// A random pooling geometry: its windows may lie partly or wholly in the padding.
fn random_pool(random: &mut Random) -> ConvGeometry {
    let channels = random.range(1, 150);
    let mut geometry = random_geometry(random, channels, channels);
    geometry.input.height = random.range(1, geometry.input.height);
    geometry.input.width = random.range(1, geometry.input.width);
    geometry
}

#[test]
fn max_pools_match_the_reference() {
    let mut random = Random(seed(25));
    for _ in 0..200 {
        let geometry = random_pool(&mut random);
        let input = random.bytes(input_elements(&geometry));
        let mut right = vec![0xA5; geometry.output.end() + 9];
        reference::max_pool(&geometry, &input, &mut right);
        for isa in isas() {
            let mut output = vec![0xA5; right.len()];
            max_pool_u8(isa, &geometry, &input, &mut output).unwrap();
            assert_eq!(output, right, "{isa} {geometry:?}");
        }
    }
}

#[test]
fn average_pools_match_the_reference() {
    let mut random = Random(seed(26));
    for _ in 0..200 {
        let geometry = random_pool(&mut random);
        let input = random.bytes(input_elements(&geometry));
        let source = (input.as_slice(), 0.02 + random.unit() * 0.1, random.next() as u8);
        let params = CodeParams { scale: 0.05, zero_point: random.next() as u8, lo: 2, hi: 251 };
        for count in [AverageCount::Valid, AverageCount::Window] {
            let mut right = vec![0xA5; geometry.output.end()];
            reference::average_pool(&geometry, count, source, AverageOutput::U8 { params, output: &mut right });
            let mut real = vec![9.5; geometry.output.end()];
            let target = AverageOutput::F32 { lo: -1.0, hi: f32::INFINITY, output: &mut real };
            reference::average_pool(&geometry, count, source, target);
            for isa in isas() {
                let mut output = vec![0xA5; right.len()];
                let target = AverageOutput::U8 { params, output: &mut output };
                average_pool_u8(isa, &geometry, count, source, target).unwrap();
                assert_eq!(output, right, "{isa} {geometry:?}");
                let mut output = vec![9.5; real.len()];
                let target = AverageOutput::F32 { lo: -1.0, hi: f32::INFINITY, output: &mut output };
                average_pool_u8(isa, &geometry, count, source, target).unwrap();
                assert!(output.iter().zip(&real).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa} {geometry:?}");
            }
        }
    }
}

#[test]
fn a_border_is_filled_and_the_interior_left_alone() {
    let border = Border { top: 1, left: 2, bottom: 3, right: 1 };
    let (image, count) = Image::bordered(2, 3, 2, [1, 2, 3, 1]);
    for codes in [vec![7u8], vec![7, 8]] {
        let mut buffer = vec![0u8; count];
        fill_border(&mut buffer, &image, &border, &codes);
        let interior: Vec<usize> = elements(&image).collect();
        for (at, &code) in buffer.iter().enumerate() {
            let expected = if interior.contains(&at) { 0 } else { codes[at % codes.len()] };
            assert_eq!(code, expected, "element {at}");
        }
    }
}

#[test]
fn a_copied_image_is_the_same_in_every_layout() {
    let mut random = Random(seed(27));
    for source in layouts(3, 4, 6) {
        for target in layouts(3, 4, 6) {
            let input = random.bytes(source.end());
            let mut output = vec![0xA5; target.end() + 3];
            let mut right = output.clone();
            elements(&source).zip(elements(&target)).for_each(|(from, to)| right[to] = input[from]);
            copy_image((&input, &source), (&mut output, &target));
            assert_eq!(output, right);
        }
    }
}
