//! `.npz` files: ZIP archives of `.npy` members, as numpy.savez and numpy.savez_compressed write them.
//!
//! Source: PKWARE's APPNOTE 6.3.10, the parts that numpy uses: stored and deflated members, 64-bit sizes.

use super::DatasetError;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Members an archive may have.
const MAX_MEMBERS: usize = 4096;
/// Bytes its directory may have.
const MAX_DIRECTORY_BYTES: u64 = 16 << 20;
/// Bytes a compressed member may have when it is unpacked, in memory.
const MAX_UNPACKED_BYTES: u64 = 4 << 30;

/// The file and the member that a path such as `data.npz:labels` names.
pub(super) fn split_member(path: &Path) -> (PathBuf, Option<String>) {
    match path.to_str().and_then(|text| text.rsplit_once(".npz:")) {
        Some((file, member)) if !member.contains('/') => (format!("{file}.npz").into(), Some(member.to_owned())),
        _ => (path.to_owned(), None),
    }
}

/// Which member of an archive is meant.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// The one of this name.
    Named(&'a str),
    /// The one of this name, or the only one.
    Preferred(&'a str),
}

/// Where a member's bytes are.
pub(super) enum Member {
    /// In the file as they are: first byte and length.
    Stored { start: u64, bytes: u64 },
    /// Unpacked.
    Unpacked(Vec<u8>),
}

struct Entry {
    name: String,
    method: u16,
    packed: u64,
    unpacked: u64,
    header: u64,
}

/// Finds a member of an archive.
pub(super) fn find_member(path: &Path, file: &mut File, wanted: Wanted<'_>) -> Result<Member, DatasetError> {
    let refuse = |problem: String| DatasetError::content(path, problem);
    let directory = read_directory(file).map_err(DatasetError::read(path))?;
    let entries = directory.as_deref().and_then(entries);
    let entries = entries.ok_or_else(|| refuse("it is no .npz archive, or cut off; save it again".to_owned()))?;
    let array_name = |entry: &Entry| entry.name.strip_suffix(".npy").unwrap_or(&entry.name).to_owned();
    let (Wanted::Named(name) | Wanted::Preferred(name)) = wanted;
    let named = entries.iter().find(|entry| array_name(entry) == name);
    let entry = match (named, wanted, entries.as_slice()) {
        (Some(entry), ..) | (None, Wanted::Preferred(_), [entry]) => entry,
        (None, ..) => {
            let names: Vec<String> = entries.iter().map(|entry| format!("`{}`", array_name(entry))).collect();
            let names = names.join(", ");
            return Err(refuse(format!("it has no array `{name}`; write `file.npz:name` with one of {names}")));
        }
    };
    let broken = || refuse(format!("its array `{}` is damaged; save it again", array_name(entry)));
    let mut header = [0; 30];
    file.read_exact_at(&mut header, entry.header).map_err(DatasetError::read(path))?;
    if header[..4] != *b"PK\x03\x04" {
        return Err(broken());
    }
    let lengths = u64::from(short(&header, 26)) + u64::from(short(&header, 28));
    let start = entry.header + 30 + lengths;
    match entry.method {
        0 if entry.packed == entry.unpacked => Ok(Member::Stored { start, bytes: entry.unpacked }),
        8 if entry.unpacked <= MAX_UNPACKED_BYTES => {
            file.seek(SeekFrom::Start(start)).map_err(DatasetError::read(path))?;
            let mut bytes = Vec::new();
            let mut unpacker = flate2::read::DeflateDecoder::new(file.take(entry.packed)).take(entry.unpacked + 1);
            match unpacker.read_to_end(&mut bytes) {
                Ok(_) if bytes.len() as u64 == entry.unpacked => Ok(Member::Unpacked(bytes)),
                _ => Err(broken()),
            }
        }
        8 => {
            let (bytes, advice) = (entry.unpacked, "save it with numpy.savez, which does not compress");
            Err(refuse(format!("an array unpacks to {bytes} bytes, {MAX_UNPACKED_BYTES} are possible; {advice}")))
        }
        _ => Err(refuse("it is packed by a method that is not read; save it with numpy.savez".to_owned())),
    }
}

/// The bytes of the central directory; `None` where its place cannot be found.
fn read_directory(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    const END_BYTES: u64 = 22;
    const COMMENT_BYTES: u64 = 1 << 16;
    let length = file.metadata()?.len();
    let tail_start = length.saturating_sub(END_BYTES + COMMENT_BYTES);
    let mut tail = vec![0; (length - tail_start) as usize];
    file.read_exact_at(&mut tail, tail_start)?;
    let Some(end) = tail.windows(4).rposition(|window| window == b"PK\x05\x06") else { return Ok(None) };
    let Some(record) = tail.get(end..end + END_BYTES as usize) else { return Ok(None) };
    let (mut bytes, mut start) = (u64::from(word(record, 12)), u64::from(word(record, 16)));
    if start == u64::from(u32::MAX) || bytes == u64::from(u32::MAX) {
        // The 64-bit record stands where its locator, just before the end record, says.
        let Some(locator) = end.checked_sub(20).and_then(|at| tail.get(at..at + 20)) else { return Ok(None) };
        let mut record = [0; 56];
        if locator[..4] != *b"PK\x06\x07" || file.read_exact_at(&mut record, long(locator, 8)).is_err() {
            return Ok(None);
        }
        (bytes, start) = (long(&record, 40), long(&record, 48));
    }
    if bytes > MAX_DIRECTORY_BYTES || start.checked_add(bytes).is_none_or(|end| end > length) {
        return Ok(None);
    }
    let mut directory = vec![0; bytes as usize];
    file.read_exact_at(&mut directory, start)?;
    Ok(Some(directory))
}

/// The members a directory lists; `None` where it is damaged.
fn entries(mut directory: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while !directory.is_empty() {
        let (fixed, rest) = directory.split_at_checked(46)?;
        let (name, rest) = rest.split_at_checked(short(fixed, 28).into())?;
        let (extra, rest) = rest.split_at_checked(short(fixed, 30).into())?;
        let (_, rest) = rest.split_at_checked(short(fixed, 32).into())?;
        if fixed[..4] != *b"PK\x01\x02" || entries.len() == MAX_MEMBERS {
            return None;
        }
        let [mut unpacked, mut packed, mut header] = [24, 20, 42].map(|at| u64::from(word(fixed, at)));
        let mut large = large_sizes(extra);
        // Numbers that do not fit stand in the extra field, in this order.
        for number in [&mut unpacked, &mut packed, &mut header] {
            if *number == u64::from(u32::MAX) {
                let (value, rest) = large.split_at_checked(8)?;
                (*number, large) = (long(value, 0), rest);
            }
        }
        let name = String::from_utf8(name.to_vec()).ok()?;
        entries.push(Entry { name, method: short(fixed, 10), packed, unpacked, header });
        directory = rest;
    }
    Some(entries)
}

/// The content of the extra field with 64-bit sizes.
fn large_sizes(mut extra: &[u8]) -> &[u8] {
    while let Some((head, rest)) = extra.split_at_checked(4) {
        let Some((content, rest)) = rest.split_at_checked(short(head, 2).into()) else { break };
        if short(head, 0) == 1 {
            return content;
        }
        extra = rest;
    }
    &[]
}

/// Little-endian numbers at a place that the caller has checked.
fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from(short(bytes, at)) | u32::from(short(bytes, at + 2)) << 16
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}
