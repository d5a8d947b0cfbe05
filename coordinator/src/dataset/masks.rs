//! Class maps as PNG files: grey levels or palette indices are classes.

use super::{DatasetError, Listing, images};
use holdfast_common::dataset::{Annotation, ClassMap, MAX_MASK_PIXELS};
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Images directly in a folder, sorted by name, with the class map of the PNG file of the same stem in another folder.
pub(super) fn read(folder: &Path, masks: &Path) -> Result<Listing, DatasetError> {
    let mut listing = images::flat(folder)?;
    for (name, annotation) in listing.names.iter().zip(&mut listing.labels) {
        let path = masks.join(name).with_extension("png");
        let map = read_map(&path)?.map_err(|problem| DatasetError::content(&path, problem))?;
        *annotation = Annotation::Mask(map);
    }
    Ok(listing)
}

/// The inner error says what is wrong with the file.
fn read_map(path: &Path) -> Result<Result<ClassMap, String>, DatasetError> {
    let file = File::open(path).map_err(DatasetError::read(path))?;
    let limits = Limits { bytes: 4 * MAX_MASK_PIXELS as usize };
    let mut decoder = Decoder::new_with_limits(BufReader::new(file), limits);
    decoder.set_transformations(Transformations::IDENTITY);
    Ok(decode(decoder).map_err(|problem| format!("it is no class map: {problem}")))
}

fn decode(decoder: Decoder<BufReader<File>>) -> Result<ClassMap, String> {
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let (width, height) = reader.info().size();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_MASK_PIXELS {
        return Err(format!("it is {width}×{height}, more than {MAX_MASK_PIXELS} pixels"));
    }
    let (color, depth) = reader.output_color_type();
    if !matches!(color, ColorType::Grayscale | ColorType::Indexed) {
        return Err("its pixels are colours; store classes as grey levels or as palette indices".to_owned());
    }
    let mut bytes = vec![0; reader.output_buffer_size().ok_or("it is too large")?];
    let frame = reader.next_frame(&mut bytes).map_err(|error| error.to_string())?;
    let mut classes = Vec::with_capacity(pixels as usize);
    for row in bytes.chunks_exact(frame.line_size) {
        match depth {
            BitDepth::Sixteen => {
                classes.extend(row.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))));
            }
            BitDepth::One | BitDepth::Two | BitDepth::Four | BitDepth::Eight => {
                let bits = depth as usize;
                let of = |pixel: usize| {
                    let shift = 8 - bits - pixel * bits % 8;
                    u32::from(row[pixel * bits / 8] >> shift) & ((1 << bits) - 1)
                };
                classes.extend((0..width as usize).map(of));
            }
        }
    }
    ClassMap::pack(height, width, classes.into_iter()).ok_or_else(|| "it ends early".to_owned())
}
