//! Pixels compared with the reference libraries', from the fixtures of `tests/data/make_fixtures.py` and real files.

use super::*;
use holdfast_common::dataset::ResizeFilter;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder)
}

fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let has = |path: &PathBuf| path.extension().is_some_and(|found| extensions.iter().any(|e| found == *e));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).filter(has).collect();
    files.sort();
    files
}

fn expected(path: &Path) -> Pixels {
    let bytes = fs::read(path).expect("the expected pixels are there");
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    Pixels { width: number(0), height: number(4), channels: 3, values: bytes[8..].to_vec() }
}

#[test]
fn every_kind_of_file_decodes_to_pillows_pixels() {
    let files = files(&fixtures("images"), &["jpg", "png", "bmp"]);
    assert!(files.len() >= 28, "{} fixtures", files.len());
    let mut differing = Vec::new();
    for file in &files {
        let decoded = decode_image(&fs::read(file).expect("readable"));
        if decoded != Ok(expected(Path::new(&format!("{}.rgb", file.display())))) {
            differing.push(file.file_name());
        }
    }
    assert!(differing.is_empty(), "{differing:?}");
}

fn count_differing(name: &str, filter: ResizeFilter) -> (usize, u8) {
    let noise = decode_image(&fs::read(fixtures("images/noise.png")).expect("readable")).expect("an image");
    let mut files = files(&fixtures("resized"), &["rgb"]);
    files.retain(|file| file.file_name().is_some_and(|found| found.to_string_lossy().starts_with(name)));
    assert_eq!(files.len(), 8);
    let (mut differing, mut largest) = (0, 0);
    for file in files {
        let expected = expected(&file);
        let resized = resize::resize(noise.clone(), expected.height, expected.width, filter);
        assert_eq!((resized.height, resized.width), (expected.height, expected.width));
        for (found, expected) in resized.values.iter().zip(&expected.values) {
            differing += usize::from(found != expected);
            largest = largest.max(found.abs_diff(*expected));
        }
    }
    (differing, largest)
}

#[test]
fn resizing_gives_pillows_bits() {
    for (name, filter) in
        [("pillow_bilinear", ResizeFilter::PillowBilinear), ("pillow_bicubic", ResizeFilter::PillowBicubic)]
    {
        assert_eq!(count_differing(name, filter), (0, 0), "{name}");
    }
}

#[test]
fn resizing_gives_opencvs_bits() {
    assert_eq!(count_differing("opencv_linear", ResizeFilter::OpencvLinear), (0, 0));
}

#[test]
fn one_channel_resizes_as_one_of_three() {
    let noise = decode_image(&fs::read(fixtures("images/noise.png")).expect("readable")).expect("an image");
    let gray = noise.clone().grayscale();
    let tripled = Pixels { values: gray.values.iter().flat_map(|&value| [value; 3]).collect(), ..noise };
    for filter in [ResizeFilter::PillowBilinear, ResizeFilter::PillowBicubic, ResizeFilter::OpencvLinear] {
        let one = resize::resize(gray.clone(), 9, 21, filter);
        let three = resize::resize(tripled.clone(), 9, 21, filter);
        assert_eq!(one.values, three.values.iter().step_by(3).copied().collect::<Vec<_>>(), "{filter:?}");
    }
}

#[test]
fn the_shorter_side_rules_and_the_longer_is_cut() {
    assert_eq!(resize::shortest_side(375, 500, 256), (256, 341));
    assert_eq!(resize::shortest_side(500, 375, 256), (341, 256));
    assert_eq!(resize::shortest_side(256, 256, 224), (224, 224));
}

#[test]
fn every_shortened_file_is_an_error_and_never_a_panic() {
    for file in files(&fixtures("images"), &["jpg", "png", "bmp"]) {
        let bytes = fs::read(&file).expect("readable");
        let is_png = file.extension().is_some_and(|extension| extension == "png");
        for length in 0..bytes.len() {
            let outcome = decode_image(&bytes[..length]);
            // What a PNG file lacks at its very end (checksum, end mark, an empty rest of its stream) holds no pixels.
            if !is_png || length + 40 < bytes.len() {
                assert!(outcome.is_err(), "{} cut to {length} of {}", file.display(), bytes.len());
            }
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    println!("seed {state:#x}");
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut refused = 0;
    for file in files(&fixtures("images"), &["jpg", "png", "bmp"]) {
        let sound = fs::read(&file).expect("readable");
        for _ in 0..200 {
            let mut bytes = sound.clone();
            for _ in 0..1 + next() % 4 {
                let at = next() as usize % bytes.len();
                bytes[at] = next() as u8;
            }
            match decode_image(&bytes) {
                Ok(pixels) => assert_eq!(pixels.values.len(), pixels.width * pixels.height * pixels.channels),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 1000, "only {refused} of the damaged files were noticed");
}

#[test]
fn an_announced_giant_is_refused_before_memory_is_taken() {
    let mut png = fs::read(fixtures("images/noise.png")).expect("readable");
    png[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    assert_eq!(decode_image(&png), Err(ImageError::TooLarge { width: 65536, height: 65536 }));
    let mut jpeg = fs::read(fixtures("images/444.jpg")).expect("readable");
    let frame = jpeg.windows(2).position(|mark| mark == [0xff, 0xc0]).expect("a frame header");
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    assert!(matches!(decode_image(&jpeg), Err(ImageError::TooLarge { .. }) | Err(ImageError::Corrupt { .. })));
    assert_eq!(decode_image(b"GIF89a"), Err(ImageError::Format));
    assert_eq!(decode_image(b""), Err(ImageError::Format));
}

/// Compares with pixels that a reference run wrote down, where the benchmark pack is at hand.
#[test]
fn real_photographs_decode_to_pillows_pixels() {
    let Some(pack) = std::env::var_os("HOLDFAST_BENCH").map(PathBuf::from) else {
        println!("skipped: HOLDFAST_BENCH does not name a benchmark pack");
        return;
    };
    let digests = fs::read_to_string(fixtures("imagenet_pixels.txt")).expect("readable");
    let mut compared = 0;
    let mut nanoseconds = 0;
    for line in digests.lines().filter(|line| !line.starts_with('#')) {
        let (name, expected) = line.split_once(' ').expect("name and digest");
        let bytes = fs::read(pack.join("data/imagenet1k/images").join(name)).expect("readable");
        let started = Instant::now();
        let pixels = decode_image(&bytes).expect("a photograph");
        nanoseconds += started.elapsed().as_nanos();
        assert_eq!(blake3::hash(&pixels.values).to_hex().as_str(), expected, "{name}");
        compared += 1;
    }
    assert!(compared >= 50);
    println!("{compared} photographs, {} µs each", nanoseconds / 1000 / compared);
}
