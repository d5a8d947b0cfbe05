//! The size of an image, from its header: what coordinates relative to the image need.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

/// JPEG segments looked at before the one that holds the size.
const MAX_SEGMENTS: usize = 1 << 12;

/// Width and height in pixels, as stored; orientation tags are ignored, as they are when pixels are decoded.
///
/// The inner error says what is wrong with the file.
pub(super) fn read_dimensions(path: &Path) -> io::Result<Result<(u32, u32), String>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut start = Vec::new();
    file.by_ref().take(26).read_to_end(&mut start)?;
    let big = |at: usize| start.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let little = |at: usize| start.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let found = match start.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => big(16).zip(big(20)),
        // A negative height stands for rows from top to bottom.
        [b'B', b'M', ..] => little(18).zip(little(22).map(|height| (height as i32).unsigned_abs())),
        [0xff, 0xd8, 0xff, ..] => {
            file.seek(io::SeekFrom::Start(2))?;
            jpeg_dimensions(&mut file)?
        }
        _ => return Ok(Err("the file is no JPEG, PNG or BMP image, whatever its name says; convert it".to_owned())),
    };
    Ok(match found {
        Some((width, height)) if width > 0 && height > 0 => Ok((width, height)),
        _ => Err("its header does not say how large the image is; the file may be cut off".to_owned()),
    })
}

/// Walks from segment to segment up to the frame header (SOF). `None` where there is none.
fn jpeg_dimensions(file: &mut BufReader<File>) -> io::Result<Option<(u32, u32)>> {
    for _ in 0..MAX_SEGMENTS {
        let mut marker = [0; 2];
        if let Err(error) = file.read_exact(&mut marker) {
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
        }
        match marker {
            // Fill bytes may stand before a marker.
            [0xff, 0xff] => {
                file.seek_relative(-1)?;
                continue;
            }
            // These stand alone.
            [0xff, 0x01 | 0xd0..=0xd8] => continue,
            [0xff, 0xd9 | 0xda] => return Ok(None),
            [0xff, _] => {}
            _ => return Ok(None),
        }
        let mut segment = Vec::new();
        file.by_ref().take(7).read_to_end(&mut segment)?;
        let [high, low, rest @ ..] = segment.as_slice() else { return Ok(None) };
        let length = i64::from(u16::from_be_bytes([*high, *low]));
        if matches!(marker[1], 0xc0..=0xcf) && !matches!(marker[1], 0xc4 | 0xc8 | 0xcc) {
            return Ok(match *rest {
                [_, h, h2, w, w2] => Some((u16::from_be_bytes([w, w2]).into(), u16::from_be_bytes([h, h2]).into())),
                _ => None,
            });
        }
        file.seek_relative(length - segment.len() as i64)?;
    }
    Ok(None)
}
