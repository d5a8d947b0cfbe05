//! Every dense int8 kernel against the reference, bit for bit.

mod support;

use holdfast_kernels::int8::{
    ConvGeometry, ConvU8S8, DepthRuns, Epilogue, Int8Error, PackedWeights, Requant, WeightShape, reference,
};
use holdfast_kernels::registry::{Family, kernels};
use holdfast_kernels::{Image, Isa};
use support::{Case, Output, Random, SINKS, Sink, isas, random_geometry, seed};

fn pack(isa: Isa, geometry: &ConvGeometry, weights: &[i8]) -> PackedWeights {
    let shape = WeightShape {
        out_channels: geometry.output.channels,
        kernel_h: geometry.kernel_h,
        kernel_w: geometry.kernel_w,
        channels: geometry.input.channels,
    };
    PackedWeights::pack(isa, shape, geometry.depth_runs(), weights).unwrap()
}

fn kernel_output(isa: Isa, case: &Case, sink: Sink) -> Output {
    let weights = pack(isa, &case.geometry, &case.weights);
    let conv = ConvU8S8::new(isa, &case.geometry).unwrap();
    case.output(sink, |epilogue| conv.run(&weights, &case.input, &case.bias, epilogue))
}

fn reference_output(case: &Case, sink: Sink) -> Output {
    case.output(sink, |epilogue| reference::conv(&case.geometry, &case.weights, &case.input, &case.bias, epilogue))
}

fn check(isa: Isa, case: &Case) {
    for sink in SINKS {
        let (found, right) = (kernel_output(isa, case, sink), reference_output(case, sink));
        assert!(found == right, "{isa} differs from the reference with {sink:?} on {:?}", case.geometry);
    }
}

#[test]
fn every_kernel_is_exact_around_its_tile() {
    let mut random = Random(seed(1));
    for entry in kernels().filter(|entry| entry.family == Family::GemmU8S8 && entry.isa.is_available()) {
        let (mr, nr) = entry.tile();
        for columns in [nr - 1, nr, nr + 1] {
            for rows in [1, 2, mr - 1, mr, mr + 1, 2 * mr - 1, 2 * mr, 2 * mr + 1] {
                for depth in [1, 3, 4, 5, 9] {
                    check(entry.isa, &Case::dense(&mut random, ConvGeometry::matmul(rows, depth, columns)));
                }
            }
        }
    }
}

#[test]
fn every_row_count_and_panel_width_is_exact() {
    let mut random = Random(seed(2));
    for isa in isas() {
        for rows in 1..=25 {
            for columns in (1..=70).step_by(3) {
                let depth = random.range(1, 20);
                check(isa, &Case::dense(&mut random, ConvGeometry::matmul(rows, depth, columns)));
            }
        }
    }
}

#[test]
fn random_windows_are_exact() {
    let mut random = Random(seed(3));
    for round in 0..300 {
        let channels = random.range(1, if round % 3 == 0 { 40 } else { 9 });
        let out_channels = random.range(1, 90);
        let geometry = random_geometry(&mut random, channels, out_channels);
        let case = Case::dense(&mut random, geometry);
        for isa in isas() {
            check(isa, &case);
        }
    }
}

#[test]
fn layers_of_many_blocks_and_of_streamed_weights_are_exact() {
    let mut random = Random(seed(4));
    // More pixels than two blocks, several panels; then more than 512 KB of weights.
    for geometry in [ConvGeometry::matmul(211, 12, 150), ConvGeometry::matmul(101, 2100, 300)] {
        let case = Case::dense(&mut random, geometry);
        for sink in SINKS {
            let right = reference_output(&case, sink);
            for isa in isas() {
                assert!(kernel_output(isa, &case, sink) == right, "{isa}, {sink:?}, {geometry:?}");
            }
        }
    }
}

#[test]
fn extreme_codes_and_weights_do_not_saturate() {
    let mut random = Random(seed(5));
    for isa in isas() {
        for (code, weight) in [(255u8, -128i8), (255, 127), (0, -128), (255, 0)] {
            let mut case = Case::dense(&mut random, ConvGeometry::matmul(7, 131, 67));
            case.input.fill(code);
            case.weights.fill(weight);
            check(isa, &case);
            // Alternating signs bring every pair sum to the far end of 16 bits.
            for (index, weight) in case.weights.iter_mut().enumerate() {
                *weight = if index % 2 == 0 { -128 } else { 127 };
            }
            check(isa, &case);
        }
    }
}

#[test]
fn sums_beyond_the_range_of_i32_conversion_are_clamped() {
    let mut random = Random(seed(6));
    for isa in isas() {
        for factor in [1e-30, 1.0, 1e9, 3e38, -3e38, -1.0] {
            let mut case = Case::dense(&mut random, ConvGeometry::matmul(9, 64, 70));
            case.requant = Requant::new(vec![factor; 70], 100, 2, 250).unwrap();
            case.scale = vec![factor; 70];
            case.bias = (0..70).map(|n| if n % 2 == 0 { i32::MAX - n } else { i32::MIN + n }).collect();
            check(isa, &case);
        }
    }
}

#[test]
fn not_a_number_becomes_the_lower_bound_on_every_instruction_set() {
    let mut random = Random(seed(7));
    for isa in isas() {
        let mut case = Case::dense(&mut random, ConvGeometry::matmul(5, 8, 40));
        case.scale.fill(f32::NAN);
        case.bounds = (-1.5, 2.5);
        check(isa, &case);
        let Output::Floats(bits) = kernel_output(isa, &case, Sink::F32) else { panic!("floats were asked for") };
        assert_eq!(f32::from_bits(bits[0]), -1.5);
    }
}

#[test]
fn ties_round_to_even() {
    for isa in isas() {
        let geometry = ConvGeometry::matmul(1, 1, 80);
        let bias: Vec<i32> = (0..80).map(|n| n - 40).collect();
        let requant = Requant::new(vec![0.5; 80], 128, 0, 255).unwrap();
        let mut output = vec![0; 80];
        let weights = pack(isa, &geometry, &[0; 80]);
        let conv = ConvU8S8::new(isa, &geometry).unwrap();
        let epilogue = Epilogue::U8 { requant: &requant, output: &mut output };
        conv.run(&weights, &vec![0; conv.input_elements()], &bias, epilogue);
        for (n, &code) in output.iter().enumerate() {
            let expected = ((n as f32 - 40.0) / 2.0).round_ties_even() + 128.0;
            assert_eq!(f32::from(code), expected, "{isa}, sum {}", n as i32 - 40);
        }
    }
}

#[test]
fn zero_sizes_touch_nothing() {
    let mut random = Random(seed(8));
    for isa in isas() {
        for (rows, depth, columns) in [(0, 5, 7), (5, 5, 0), (0, 0, 0)] {
            let case = Case::dense(&mut random, ConvGeometry::matmul(rows, depth, columns));
            for sink in SINKS {
                let untouched = case.output(sink, |_| ());
                assert_eq!(kernel_output(isa, &case, sink), untouched, "{isa} {rows} {depth} {columns}");
            }
        }
        // No depth at all leaves the bias alone.
        check(isa, &Case::dense(&mut random, ConvGeometry::matmul(13, 0, 33)));
    }
}

#[test]
fn column_sums_are_the_filters_sums() {
    let weights: Vec<i8> = vec![-128; 9].into_iter().chain(0..9).collect();
    let geometry = ConvGeometry { kernel_h: 3, kernel_w: 3, ..ConvGeometry::matmul(1, 1, 2) };
    for isa in isas() {
        assert_eq!(pack(isa, &geometry, &weights).column_sums(), [-1152, 36]);
    }
}

#[test]
fn unusable_geometries_are_refused_with_their_reason() {
    let good = ConvGeometry::matmul(4, 8, 8);
    let zero = ConvGeometry { stride_w: 0, ..good };
    assert_eq!(ConvU8S8::new(Isa::Scalar, &zero).unwrap_err(), Int8Error::ZeroExtent { what: "stride_w" });
    let bare = ConvGeometry { pad_left: 1, ..good };
    let error = ConvU8S8::new(Isa::Scalar, &bare).unwrap_err();
    assert_eq!(error, Int8Error::BorderTooSmall { needed: 8, present: 0 });
    let huge = ConvGeometry { stride_h: usize::MAX, output: Image::dense(3, 1, 8), ..good };
    assert_eq!(ConvU8S8::new(Isa::Scalar, &huge).unwrap_err(), Int8Error::TooLarge);
    let overlapping = ConvGeometry { input: Image { pixel_stride: 3, ..good.input }, ..good };
    assert_eq!(ConvU8S8::new(Isa::Scalar, &overlapping).unwrap_err(), Int8Error::OverlappingImage { which: "input" });
    let shape = WeightShape { out_channels: 2, kernel_h: 1, kernel_w: 1, channels: 3 };
    let error = PackedWeights::pack(Isa::Scalar, shape, DepthRuns::Taps, &[0; 5]).unwrap_err();
    assert_eq!(error, Int8Error::Length { what: "the weight tensor", expected: 6, actual: 5 });
    assert!(matches!(Requant::new(vec![f32::NAN], 0, 0, 255), Err(Int8Error::NotUsable { .. })));
    assert_eq!(Requant::new(vec![1.0], 0, 9, 8).unwrap_err(), Int8Error::EmptyRange { lo: 9, hi: 8 });
}

#[test]
#[should_panic(expected = "slack included")]
fn a_buffer_without_slack_is_a_programmers_error() {
    let geometry = ConvGeometry::matmul(4, 8, 8);
    let weights = pack(Isa::Scalar, &geometry, &[0; 64]);
    let requant = Requant::new(vec![1.0; 8], 0, 0, 255).unwrap();
    let mut output = vec![0; 32];
    let conv = ConvU8S8::new(Isa::Scalar, &geometry).unwrap();
    conv.run(&weights, &[0; 32], &[0; 8], Epilogue::U8 { requant: &requant, output: &mut output });
}

#[test]
fn packed_weights_and_geometries_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<PackedWeights>();
    shared::<ConvU8S8>();
    shared::<holdfast_kernels::int8::PackedDepthwise>();
    shared::<holdfast_kernels::int8::DepthwiseU8S8>();
}
