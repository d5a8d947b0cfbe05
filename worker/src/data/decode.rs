//! Which decoder an image file goes to, and what of a sample's bytes is which field.

use super::{DataError, Pixels, jpeg, raster};
use holdfast_common::dataset::{ElementType, FieldEncoding, Manifest};
use holdfast_common::evaluation::SampleIndex;

/// Pixels an image may have: where Pillow stops taking a file for an image and takes it for a decompression bomb.
pub const MAX_PIXELS: u64 = 178_956_970;

/// An image file cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The first bytes are those of no known format.
    #[error("the file is no JPEG, PNG or BMP image; convert it to PNG")]
    Format,
    /// The header announces too many pixels.
    #[error("the image is {width}×{height}, more than {MAX_PIXELS} pixels; scale it down")]
    TooLarge {
        /// Pixels a row.
        width: u64,
        /// Rows.
        height: u64,
    },
    /// The file ends before the image does.
    #[error("the {format} file ends before its image does; it was not copied completely")]
    Truncated {
        /// The file format.
        format: &'static str,
    },
    /// The decoder gave up.
    #[error("the {format} file is corrupt: {reason}")]
    Corrupt {
        /// The file format.
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// A valid file of a kind that is not read, because its pixels would not be the reference library's.
    #[error("the {format} file holds {found}, which is not supported; convert it to 8-bit RGB")]
    Unsupported {
        /// The file format.
        format: &'static str,
        /// What it holds.
        found: String,
    },
}

/// Decodes a JPEG, PNG or BMP file to 8-bit RGB, with the pixels of Pillow's `Image.open(file).convert("RGB")`.
///
/// Orientation tags, gamma and colour profiles are ignored, as there.
///
/// # Errors
///
/// [`ImageError`] for anything that is not a complete image of reasonable size in one of these formats.
pub fn decode_image(bytes: &[u8]) -> Result<Pixels, ImageError> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => jpeg::decode(bytes),
        [0x89, b'P', b'N', b'G', ..] => raster::decode_png(bytes),
        [b'B', b'M', ..] => raster::decode_bmp(bytes),
        _ => Err(ImageError::Format),
    }
}

/// Refuses announced sizes before anything is allocated for them.
pub(super) fn check_size(width: u64, height: u64, format: &'static str) -> Result<(), ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::Corrupt { format, reason: format!("it announces {width}×{height} pixels") });
    }
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(ImageError::TooLarge { width, height });
    }
    Ok(())
}

/// One field of a sample, decoded as far as the manifest says how.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue<'a> {
    /// An image: 8-bit RGB.
    Image(Pixels),
    /// A stored array.
    Array {
        /// Element type.
        element: ElementType,
        /// Shape of the sample.
        shape: &'a [usize],
        /// Little-endian row-major elements.
        bytes: &'a [u8],
    },
}

/// Cuts a sample's fields out of its pack and decodes the images among them. The manifest must be valid.
///
/// # Errors
///
/// [`DataError`] for a sample the data set does not have, a pack of wrong length, and an image that cannot be decoded.
pub fn decode_sample<'a>(
    manifest: &'a Manifest,
    sample: SampleIndex,
    pack: &'a [u8],
) -> Result<Vec<FieldValue<'a>>, DataError> {
    (0..manifest.fields.len()).map(|field| decode_field(manifest, sample, field, pack)).collect()
}

/// One field of [`decode_sample`].
pub(super) fn decode_field<'a>(
    manifest: &'a Manifest,
    sample: SampleIndex,
    field: usize,
    pack: &'a [u8],
) -> Result<FieldValue<'a>, DataError> {
    let (entry, index) = sample_entry(manifest, sample)?;
    let range = manifest.field_ranges(sample).and_then(|ranges| ranges.get(field).cloned());
    let bytes = range.and_then(|range| pack.get(range)).ok_or_else(|| DataError::PackLength {
        dataset: manifest.name.clone(),
        pack: index,
        expected: manifest.packs.get(index).map_or(0, |pack| pack.bytes),
        found: pack.len() as u64,
    })?;
    Ok(match &manifest.fields[field].encoding {
        FieldEncoding::Image => {
            let decoded = decode_image(bytes);
            FieldValue::Image(decoded.map_err(|source| DataError::Image { sample: entry.name.clone(), source })?)
        }
        FieldEncoding::Array { element, shape } => FieldValue::Array { element: *element, shape, bytes },
    })
}

/// A sample's entry and the position of its pack.
pub(super) fn sample_entry(
    manifest: &Manifest,
    sample: SampleIndex,
) -> Result<(&holdfast_common::dataset::SampleEntry, usize), DataError> {
    let found = manifest.samples.get(sample.0 as usize).zip(manifest.pack_of(sample));
    found.ok_or_else(|| DataError::NoSample {
        dataset: manifest.name.clone(),
        index: sample.0,
        count: manifest.samples.len(),
    })
}
