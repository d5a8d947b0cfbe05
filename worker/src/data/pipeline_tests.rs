//! Whole samples from pack to input: the same bits on every path, and a message for every misfit.

use super::*;
use bytes::Bytes;
use holdfast_common::Digest;
use holdfast_common::dataset::{
    Annotation, ElementType, Field, FieldEncoding, Manifest, Pack, Preprocessing, PreprocessingStep, ResizeFilter,
    SampleEntry,
};
use holdfast_common::evaluation::SampleIndex;
use holdfast_common::graph::{DataType, TensorData};
use holdfast_kernels::Image;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// One pack in memory that counts how often it is asked for.
struct OnePack {
    bytes: Bytes,
    reads: AtomicUsize,
}

impl PackSource for OnePack {
    fn read(&self, _pack: &Pack) -> io::Result<Bytes> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.bytes.clone())
    }
}

fn data_set(encodings: &[(&str, FieldEncoding)], samples: &[Vec<Vec<u8>>]) -> (Arc<Manifest>, Arc<OnePack>) {
    let bytes = Bytes::from(samples.concat().concat());
    let entry = |(index, fields): (usize, &Vec<Vec<u8>>)| SampleEntry {
        name: format!("sample {index}"),
        field_bytes: fields.iter().map(|field| field.len() as u64).collect(),
        annotation: Annotation::None,
    };
    let field =
        |(name, encoding): &(&str, FieldEncoding)| Field { name: (*name).to_owned(), encoding: encoding.clone() };
    let manifest = Manifest {
        name: "data".to_owned(),
        fields: encodings.iter().map(field).collect(),
        classes: Vec::new(),
        samples: samples.iter().enumerate().map(entry).collect(),
        packs: vec![Pack { digest: Digest::of(&bytes), bytes: bytes.len() as u64 }],
    };
    manifest.validate().expect("a sound manifest");
    (Arc::new(manifest), Arc::new(OnePack { bytes, reads: AtomicUsize::new(0) }))
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images").join(name)).expect("readable")
}

fn photographs() -> (Arc<Manifest>, Arc<OnePack>) {
    let files = ["420.jpg", "noise.png", "gray.jpg", "rgb.bmp"];
    data_set(&[("image", FieldEncoding::Image)], &files.map(|file| vec![fixture(file)]))
}

fn input(name: &str, data_type: DataType, shape: &[usize]) -> InputSpec {
    let shape = std::iter::once(None).chain(shape.iter().map(|&length| Some(length))).collect();
    InputSpec { name: name.to_owned(), data_type, shape }
}

fn steps(input: &str, steps: &[PreprocessingStep]) -> BTreeMap<String, Preprocessing> {
    BTreeMap::from([(input.to_owned(), Preprocessing { steps: steps.to_vec() })])
}

fn imagenet() -> PreprocessingStep {
    let (mean, std) = (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]);
    PreprocessingStep::Normalization { scale: 255.0, mean, std }
}

fn floats(tensors: Vec<TensorData>) -> (Vec<usize>, Vec<f32>) {
    match tensors.into_iter().next() {
        Some(TensorData::F32(array)) => (array.shape().to_vec(), array.iter().copied().collect()),
        other => panic!("floats expected, found {other:?}"),
    }
}

const SMALL: PreprocessingStep =
    PreprocessingStep::Resize { height: 12, width: 10, filter: ResizeFilter::PillowBilinear };

#[test]
fn every_path_gives_the_bits_of_the_formula() {
    let (manifest, source) = photographs();
    let declared = steps("image", &[SMALL, PreprocessingStep::ReverseChannels, imagenet()]);
    let model = [input("image", DataType::F32, &[3, 12, 10])];
    let cache = Arc::new(PixelCache::new(1 << 20));
    let cold = SamplePipeline::new(manifest.clone(), &declared, &model, source.clone(), None).expect("fits");
    let warm = SamplePipeline::new(manifest.clone(), &declared, &model, source.clone(), Some(cache)).expect("fits");
    let (layout, elements) = Image::bordered(12, 10, 3, [1, 2, 0, 1]);
    for sample in (0..4).map(SampleIndex) {
        let Ok(Some(FieldValue::Image(pixels))) =
            decode_sample(&manifest, sample, &source.bytes).map(|mut fields| fields.pop())
        else {
            panic!("an image is expected");
        };
        let small = resize::resize(pixels, 12, 10, ResizeFilter::PillowBilinear);
        let (mean, std) = ([0.485f32, 0.456, 0.406], [0.229f32, 0.224, 0.225]);
        let value = |y: usize, x: usize, c: usize| {
            ((f32::from(small.values[(y * 10 + x) * 3 + 2 - c]) / 255.0) - mean[c]) / std[c]
        };
        let (shape, planar) = floats(cold.prepare(sample).expect("prepared"));
        assert_eq!(shape, [1, 3, 12, 10]);
        let mut rows = vec![f32::MAX; elements];
        for _ in 0..2 {
            rows.fill(f32::MAX);
            warm.prepare_nhwc_f32(sample, 0, &mut rows, &layout).expect("prepared");
        }
        let mut expected = vec![f32::MAX; elements];
        for (y, x, c) in (0..12).flat_map(|y| (0..10).flat_map(move |x| (0..3).map(move |c| (y, x, c)))) {
            assert_eq!(planar[(c * 12 + y) * 10 + x].to_bits(), value(y, x, c).to_bits());
            expected[layout.at(y, x) + c] = value(y, x, c);
        }
        assert_eq!(rows, expected);
        let sliced = Image { pixel_stride: 5, row_stride: 50, offset: 1, ..Image::dense(12, 10, 3) };
        let mut wide = vec![f32::MAX; 600];
        cold.prepare_nhwc_f32(sample, 0, &mut wide, &sliced).expect("prepared");
        for (index, pixel) in wide.chunks_exact(5).enumerate() {
            let (y, x) = (index / 10, index % 10);
            assert_eq!(pixel, [f32::MAX, value(y, x, 0), value(y, x, 1), value(y, x, 2), f32::MAX]);
        }
        assert_eq!(floats(warm.prepare(sample).expect("prepared")).1, planar);
    }
    assert_eq!(source.reads.load(Ordering::Relaxed), 2 * 4 + 4, "the cache spares every second reading");
}

#[test]
fn a_model_with_channels_last_gets_channels_last() {
    let (manifest, source) = photographs();
    let model = [input("image", DataType::U8, &[12, 10, 3])];
    let pipeline = SamplePipeline::new(manifest, &steps("image", &[SMALL]), &model, source, None).expect("fits");
    let Ok(Some(TensorData::U8(array))) = pipeline.prepare(SampleIndex(1)).map(|mut all| all.pop()) else {
        panic!("bytes are expected");
    };
    let noise = decode_image(&fixture("noise.png")).expect("an image");
    let small = resize::resize(noise, 12, 10, ResizeFilter::PillowBilinear);
    assert_eq!(array.shape(), [1, 12, 10, 3]);
    assert_eq!(array.as_slice(), Some(&small.values[..]));
}

#[test]
fn stored_digits_become_normalised_planes() {
    let bytes: Vec<u8> = (0..=255).chain(0..=255).chain(0..=255).take(28 * 28).collect();
    let bytes = [bytes, vec![9; 16]].concat();
    let encoding = FieldEncoding::Array { element: ElementType::U8, shape: vec![28, 28] };
    let (manifest, source) = data_set(&[("data", encoding)], &[vec![bytes.clone()]]);
    let digits = PreprocessingStep::Normalization { scale: 255.0, mean: vec![0.1307], std: vec![0.3081] };
    let model = [input("image", DataType::F32, &[1, 28, 28])];
    let pipeline = SamplePipeline::new(manifest, &steps("image", &[digits]), &model, source, None).expect("fits");
    let (shape, values) = floats(pipeline.prepare(SampleIndex(0)).expect("prepared"));
    assert_eq!(shape, [1, 1, 28, 28]);
    let expected: Vec<f32> = bytes.iter().map(|&byte| (f32::from(byte) / 255.0 - 0.1307) / 0.3081).collect();
    assert_eq!(values, expected);
    let mut rows = vec![0.0; 28 * 28];
    pipeline.prepare_nhwc_f32(SampleIndex(0), 0, &mut rows, &Image::dense(28, 28, 1)).expect("prepared");
    assert_eq!(rows, expected);
}

#[test]
fn what_cannot_fit_is_refused_before_any_sample_is_read() {
    let refusal = |declared: &[PreprocessingStep], spec: InputSpec| {
        let (manifest, source) = photographs();
        let outcome = SamplePipeline::new(manifest, &steps("image", declared), &[spec], source.clone(), None);
        assert_eq!(source.reads.load(Ordering::Relaxed), 0);
        outcome.err().expect("refused").to_string()
    };
    let f32_input = |shape: &[usize]| input("image", DataType::F32, shape);
    let size = refusal(&[SMALL], f32_input(&[3, 224, 224]));
    assert!(size.contains("gives 3 channels of 12×10") && size.contains("wants [?, 3, 224, 224]"), "{size}");
    assert!(size.contains("to height 224, width 224"), "{size}");
    assert!(refusal(&[], f32_input(&[1, 28, 28])).contains("add a `grayscale` step"));
    assert!(refusal(&[], input("image", DataType::I64, &[3, 4, 4])).contains("wants int64"));
    assert!(refusal(&[imagenet()], input("image", DataType::U8, &[3, 4, 4])).contains("remove the normalization"));
    assert!(refusal(&[], input("other", DataType::F32, &[3, 4, 4])).contains("declared for `image`"));
    let fixed = InputSpec { shape: vec![Some(8), Some(3), Some(4), Some(4)], ..f32_input(&[]) };
    assert!(refusal(&[], fixed).contains("batch is fixed to 8"));
}

#[test]
fn samples_that_do_not_fit_are_named() {
    let (manifest, source) = photographs();
    let model = [input("image", DataType::F32, &[3, 33, 45])];
    let pipeline = SamplePipeline::new(manifest.clone(), &BTreeMap::new(), &model, source, None).expect("may fit");
    assert!(pipeline.prepare(SampleIndex(0)).is_ok());
    let found = pipeline.prepare(SampleIndex(1)).expect_err("another size").to_string();
    assert!(found.starts_with("sample `sample 1`") && found.contains("13×17"), "{found}");
    let found = pipeline.prepare(SampleIndex(4)).expect_err("no such sample").to_string();
    assert!(found.contains("sample 4 does not exist"), "{found}");
    let mut buffer = vec![0.0; 10];
    let layout = Image::dense(33, 45, 3);
    assert!(matches!(
        pipeline.prepare_nhwc_f32(SampleIndex(0), 0, &mut buffer, &layout),
        Err(DataError::Buffer { .. })
    ));
    assert!(matches!(pipeline.prepare_input(SampleIndex(0), 1), Err(DataError::Buffer { .. })));
    let short = Arc::new(OnePack { bytes: Bytes::from_static(b"short"), reads: AtomicUsize::new(0) });
    let pipeline = SamplePipeline::new(manifest, &BTreeMap::new(), &model, short, None).expect("may fit");
    assert!(matches!(pipeline.prepare(SampleIndex(0)), Err(DataError::PackLength { found: 5, .. })));
}

#[test]
fn a_damaged_file_is_named_with_what_to_do() {
    let (manifest, source) = data_set(&[("image", FieldEncoding::Image)], &[vec![fixture("420.jpg")[..400].to_vec()]]);
    let model = [input("image", DataType::F32, &[3, 33, 45])];
    let pipeline = SamplePipeline::new(manifest, &BTreeMap::new(), &model, source, None).expect("may fit");
    let error = pipeline.prepare(SampleIndex(0)).expect_err("cut off");
    assert!(error.to_string().contains("`sample 0`") && error.to_string().contains("replace the file"), "{error}");
    assert!(matches!(error, DataError::Image { source: ImageError::Truncated { .. }, .. }));
}

#[test]
fn fields_feed_inputs_of_their_name_whatever_their_order() {
    let row = |element| FieldEncoding::Array { element, shape: vec![2] };
    let sample = vec![vec![1, 0], 5i64.to_le_bytes().repeat(2)];
    let (manifest, source) = data_set(&[("mask", row(ElementType::U8)), ("ids", row(ElementType::I64))], &[sample]);
    let model = [input("ids", DataType::I64, &[2]), input("mask", DataType::I64, &[2])];
    let pipeline = SamplePipeline::new(manifest.clone(), &BTreeMap::new(), &model, source.clone(), None).expect("fits");
    let prepared = pipeline.prepare(SampleIndex(0)).expect("prepared");
    let expected = [[5i64, 5], [1, 0]].map(|row| TensorData::I64(ndarray::arr2(&[row]).into_dyn()));
    assert_eq!(prepared, expected);
    let stranger = [input("tokens", DataType::I64, &[2])];
    let found = SamplePipeline::new(manifest, &BTreeMap::new(), &stranger, source, None).err().expect("refused");
    assert!(found.to_string().contains("no field feeds the model input `tokens`; fields are `mask`, `ids`"), "{found}");
}

/// Prints what a sample costs, where the benchmark pack is at hand.
#[test]
fn small_images_are_prepared_from_cache_as_from_their_files() {
    let Some(pack) = std::env::var_os("HOLDFAST_BENCH").map(PathBuf::from) else {
        println!("skipped: HOLDFAST_BENCH does not name a benchmark pack");
        return;
    };
    let folder = fs::read_dir(pack.join("data/cifar10/test/bird")).expect("readable");
    let files = folder.take(64).map(|entry| vec![fs::read(entry.expect("readable").path()).expect("readable")]);
    let (manifest, source) = data_set(&[("image", FieldEncoding::Image)], &files.collect::<Vec<_>>());
    let model = [input("image", DataType::F32, &[3, 32, 32])];
    let cache = Some(Arc::new(PixelCache::new(1 << 24)));
    let pipeline = SamplePipeline::new(manifest, &steps("image", &[imagenet()]), &model, source, cache).expect("fits");
    let layout = Image::dense(32, 32, 3);
    let mut passes = Vec::new();
    for pass in ["from files", "from cache"] {
        let mut all = vec![f32::MAX; 64 * 3072];
        let started = Instant::now();
        for (sample, out) in all.chunks_exact_mut(3072).enumerate() {
            pipeline.prepare_nhwc_f32(SampleIndex(sample as u32), 0, out, &layout).expect("prepared");
        }
        println!("{pass}: {:.1} µs a sample", started.elapsed().as_secs_f64() * 1e6 / 64.0);
        passes.push(all);
    }
    assert_eq!(passes[0], passes[1]);
}
