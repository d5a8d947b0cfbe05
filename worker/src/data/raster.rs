//! PNG and BMP files, every pixel form brought to 8-bit RGB as Pillow's `convert("RGB")` does.

use super::Pixels;
use super::decode::{ImageError, MAX_PIXELS, check_size};
use image::codecs::bmp::BmpDecoder;
use image::codecs::png::PngDecoder;
use image::{ColorType, ImageDecoder, ImageError as CrateError, Limits};
use std::io::{Cursor, ErrorKind};

pub(super) fn decode_png(bytes: &[u8]) -> Result<Pixels, ImageError> {
    const FORMAT: &str = "PNG";
    // The header chunk is always first: signature 8, length 4, "IHDR" 4, width 4, height 4, depth 1, colour type 1.
    let (Some(size), Some(&[depth, color])) = (bytes.get(16..24), bytes.get(24..26)) else {
        return Err(ImageError::Truncated { format: FORMAT });
    };
    let number = |at: usize| u64::from(u32::from_be_bytes([size[at], size[at + 1], size[at + 2], size[at + 3]]));
    check_size(number(0), number(4), FORMAT)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_PIXELS * 8);
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(|error| refuse(FORMAT, error))?;
    // Plain 16-bit grey is clipped to 8 bits, not scaled; every other 16-bit form keeps its high byte.
    let is_wide_gray = (depth, color) == (16, 0);
    read(FORMAT, decoder, if is_wide_gray { clip } else { high_byte })
}

pub(super) fn decode_bmp(bytes: &[u8]) -> Result<Pixels, ImageError> {
    const FORMAT: &str = "BMP";
    // The bit depth stands behind the size, which takes 2 × 2 bytes in the oldest header and 2 × 4 since.
    let depth_at = if bytes.get(14) == Some(&12) { 24 } else { 28 };
    if bytes.get(depth_at) == Some(&16) {
        return Err(ImageError::Unsupported { format: FORMAT, found: "16-bit pixels".to_owned() });
    }
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(|error| refuse(FORMAT, error))?;
    read(FORMAT, decoder, high_byte)
}

fn high_byte(sample: u16) -> u8 {
    (sample >> 8) as u8
}

fn clip(sample: u16) -> u8 {
    sample.min(255) as u8
}

fn read(format: &'static str, decoder: impl ImageDecoder, narrow: impl Fn(u16) -> u8) -> Result<Pixels, ImageError> {
    let (width, height) = decoder.dimensions();
    check_size(u64::from(width), u64::from(height), format)?;
    let (width, height) = (width as usize, height as usize);
    let color = decoder.color_type();
    let mut stored = vec![0; width * height * usize::from(color.bytes_per_pixel())];
    decoder.read_image(&mut stored).map_err(|error| refuse(format, error))?;
    let values = match color {
        ColorType::Rgb8 => stored,
        ColorType::L8 => stored.iter().flat_map(|&gray| [gray; 3]).collect(),
        ColorType::La8 => stored.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
        ColorType::Rgba8 => stored.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        ColorType::L16 => wide(&stored, 1).flat_map(|pixel| [narrow(sample(pixel, 0)); 3]).collect(),
        ColorType::La16 => wide(&stored, 2).flat_map(|pixel| [narrow(sample(pixel, 0)); 3]).collect(),
        ColorType::Rgb16 => wide(&stored, 3).flat_map(|pixel| [0, 1, 2].map(|c| narrow(sample(pixel, c)))).collect(),
        ColorType::Rgba16 => wide(&stored, 4).flat_map(|pixel| [0, 1, 2].map(|c| narrow(sample(pixel, c)))).collect(),
        other => return Err(ImageError::Unsupported { format, found: format!("{other:?} pixels") }),
    };
    Ok(Pixels { height, width, channels: 3, values })
}

fn wide(stored: &[u8], channels: usize) -> impl Iterator<Item = &[u8]> {
    stored.chunks_exact(2 * channels)
}

/// The decoder hands 16-bit samples over in the machine's byte order.
fn sample(pixel: &[u8], channel: usize) -> u16 {
    u16::from_ne_bytes([pixel[2 * channel], pixel[2 * channel + 1]])
}

fn refuse(format: &'static str, error: CrateError) -> ImageError {
    match error {
        CrateError::IoError(source) if source.kind() == ErrorKind::UnexpectedEof => ImageError::Truncated { format },
        other => ImageError::Corrupt { format, reason: other.to_string() },
    }
}
