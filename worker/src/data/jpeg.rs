//! JPEG files: libjpeg's slow integer transform and smooth upsampling, as Pillow and OpenCV use them.

use super::Pixels;
use super::decode::{ImageError, check_size};
use mozjpeg::{ColorSpace, Decompress};
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

const FORMAT: &str = "JPEG";

/// The library reports fatal errors by unwinding; here they become values again.
pub(super) fn decode(bytes: &[u8]) -> Result<Pixels, ImageError> {
    let starved = Cell::new(false);
    let source = Watched { rest: bytes, starved: &starved };
    let outcome = catch_unwind(AssertUnwindSafe(|| read(source)));
    // At the end of its input libjpeg invents an end marker and fills up with grey: that is an error here.
    if starved.get() {
        return Err(ImageError::Truncated { format: FORMAT });
    }
    outcome.unwrap_or_else(|payload| {
        let reason = payload.downcast_ref::<String>().map_or("decoder failed", String::as_str);
        let reason = reason.trim_start_matches("libjpeg fatal error: ").to_owned();
        Err(ImageError::Corrupt { format: FORMAT, reason })
    })
}

fn read(source: Watched<'_>) -> Result<Pixels, ImageError> {
    let corrupt = |error: io::Error| ImageError::Corrupt { format: FORMAT, reason: error.to_string() };
    let header = Decompress::builder().from_reader(source).map_err(corrupt)?;
    let (width, height) = header.size();
    check_size(width as u64, height as u64, FORMAT)?;
    match header.color_space() {
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => {
            let mut image = header.to_colorspace(ColorSpace::JCS_CMYK).map_err(corrupt)?;
            let ink = image.read_scanlines::<u8>().map_err(corrupt)?;
            image.finish().map_err(corrupt)?;
            let values = ink.chunks_exact(4).flat_map(rgb_of_inverted_cmyk).collect();
            Ok(Pixels { height, width, channels: 3, values })
        }
        _ => {
            let mut image = header.rgb().map_err(corrupt)?;
            let values = image.read_scanlines::<u8>().map_err(corrupt)?;
            image.finish().map_err(corrupt)?;
            Ok(Pixels { height, width, channels: 3, values })
        }
    }
}

/// CMYK files hold inverted values (Adobe's habit, which Pillow assumes of all): 255 is no ink.
fn rgb_of_inverted_cmyk(pixel: &[u8]) -> [u8; 3] {
    let light = i32::from(pixel[3]);
    [0, 1, 2].map(|channel| {
        let product = (255 - i32::from(pixel[channel])) * light + 128;
        (light - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    })
}

/// A byte slice that remembers having been asked for more than it had.
struct Watched<'a> {
    rest: &'a [u8],
    starved: &'a Cell<bool>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.starved.set(true);
        }
        Ok(self.rest)
    }

    fn consume(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }
}
