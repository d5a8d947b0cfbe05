//! `.npy` files and members of `.npz` archives: the header is checked against the file, rows are read where they lie.
//!
//! Source: NumPy's documentation of `numpy.lib.format`, versions 1.0 to 3.0.

use super::DatasetError;
use super::archive::{Member, Wanted, find_member, split_member};
use holdfast_common::dataset::{Annotation, ClassMap, ElementType, MAX_FIELD_BYTES, Truth};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes a header may take; NumPy itself reads 10,000.
const MAX_HEADER_BYTES: usize = 1 << 16;
const MAX_RANK: usize = 32;

/// An array whose first axis counts samples.
#[derive(Debug)]
pub(super) struct ArrayFile {
    path: PathBuf,
    bytes: Bytes,
    element: ElementType,
    shape: Vec<usize>,
    start: u64,
    row_bytes: usize,
}

/// Where the bytes of an array are.
#[derive(Debug)]
enum Bytes {
    File(File),
    Memory(Vec<u8>),
}

/// Whether a path is that of an array or of an archive of arrays: `.npy`, `.npz`, or `.npz:` and the array's name.
pub fn is_array_path(path: &Path) -> bool {
    let (path, _) = split_member(path);
    path.extension().is_some_and(|extension| extension == "npy" || extension == "npz")
}

impl ArrayFile {
    /// Opens a file and checks its header against its length; no element of an uncompressed file is read.
    ///
    /// Of an archive's arrays the one the path names is taken, the one called `field`, or the only one.
    pub(super) fn open(path: &Path, field: &str) -> Result<ArrayFile, DatasetError> {
        let (path, member) = split_member(path);
        let path = path.as_path();
        let refuse = |problem: String| DatasetError::content(path, problem);
        let mut file = File::open(path).map_err(DatasetError::read(path))?;
        let is_archive = path.extension().is_some_and(|extension| extension == "npz");
        let (bytes, first, found) = if is_archive {
            let wanted = member.as_deref().map_or(Wanted::Preferred(field), Wanted::Named);
            match find_member(path, &mut file, wanted)? {
                Member::Stored { start, bytes } => (Bytes::File(file), start, bytes),
                Member::Unpacked(bytes) => {
                    let length = bytes.len() as u64;
                    (Bytes::Memory(bytes), 0, length)
                }
            }
        } else {
            let found = file.metadata().map_err(DatasetError::read(path))?.len();
            (Bytes::File(file), 0, found)
        };
        let (text, header_bytes) = bytes.header(first).map_err(DatasetError::read(path))?.map_err(refuse)?;
        let header = Header::parse(&text).map_err(refuse)?;
        let [rows, row_shape @ ..] = header.shape.as_slice() else {
            return Err(refuse("it holds a single number; the first axis must count the samples".to_owned()));
        };
        let bytes_of = |shape: &[usize]| {
            let size = header.element.size() as u64;
            shape.iter().try_fold(size, |bytes, &length| bytes.checked_mul(length as u64))
        };
        let row_bytes = bytes_of(row_shape).filter(|&bytes| bytes > 0 && bytes <= MAX_FIELD_BYTES);
        let Some(row_bytes) = row_bytes else {
            let problem = format!("a sample of shape {row_shape:?} must take 1 to {MAX_FIELD_BYTES} bytes");
            return Err(refuse(problem));
        };
        let expected = row_bytes.checked_mul(*rows as u64).and_then(|bytes| bytes.checked_add(header_bytes));
        if expected != Some(found) {
            let shape = &header.shape;
            let problem =
                format!("its header announces shape {shape:?}, but the file has {found} bytes; save it again");
            return Err(refuse(problem));
        }
        let Header { element, shape } = header;
        let start = first + header_bytes;
        Ok(ArrayFile { path: path.to_owned(), bytes, element, shape, start, row_bytes: row_bytes as usize })
    }

    pub(super) fn element(&self) -> ElementType {
        self.element
    }

    /// Samples.
    pub(super) fn rows(&self) -> usize {
        self.shape[0]
    }

    /// The shape of one sample.
    pub(super) fn row_shape(&self) -> &[usize] {
        &self.shape[1..]
    }

    /// Appends the bytes of one row; any number of threads may read at the same time.
    pub(super) fn read_row(&self, row: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let begin = out.len();
        out.resize(begin + self.row_bytes, 0);
        self.bytes.read_exact_at(&mut out[begin..], self.start + row * self.row_bytes as u64)
    }

    /// The position of the first element of a row that is no finite number.
    pub(super) fn first_not_finite(&self, row: &[u8]) -> Option<usize> {
        match self.element {
            ElementType::F32 => row.as_chunks().0.iter().position(|bytes| !f32::from_le_bytes(*bytes).is_finite()),
            ElementType::F64 => row.as_chunks().0.iter().position(|bytes| !f64::from_le_bytes(*bytes).is_finite()),
            ElementType::U8 | ElementType::I8 | ElementType::I32 | ElementType::I64 => None,
        }
    }

    /// The rows as annotations of a kind.
    pub(super) fn annotations(&self, kind: RowKind) -> Result<Vec<Annotation>, DatasetError> {
        let mut row = Vec::with_capacity(self.row_bytes);
        let mut annotations = Vec::with_capacity(self.rows());
        for index in 0..self.rows() {
            row.clear();
            self.read_row(index as u64, &mut row).map_err(DatasetError::read(&self.path))?;
            let annotation = self.annotation(&row, kind);
            annotations.push(annotation.map_err(|problem| {
                DatasetError::content(&self.path, format!("the annotation of sample {index}: {problem}"))
            })?);
        }
        Ok(annotations)
    }

    fn annotation(&self, row: &[u8], kind: RowKind) -> Result<Annotation, String> {
        if kind == RowKind::Plain && matches!(self.element, ElementType::F32 | ElementType::F64) {
            return self.values(row).map(Annotation::Values);
        }
        let integers = self.integers(row)?;
        let class =
            |label: i64| u32::try_from(label).map_err(|_| format!("{label} is no class index; they count from 0"));
        let expected = |what: &str| format!("it has shape {:?}; {what}", self.row_shape());
        match kind {
            RowKind::Plain => match integers.as_slice() {
                [label] => class(*label).map(Annotation::Label),
                _ => Err(expected("a class label is one integer")),
            },
            RowKind::Flags => match integers.iter().position(|flag| !matches!(flag, 0 | 1)) {
                Some(at) => {
                    Err(format!("element {at} is {}; 1 stands for a class that applies, 0 for others", integers[at]))
                }
                None => Ok(Annotation::Labels(
                    (0..).zip(integers).filter(|(_, flag)| *flag == 1).map(|(label, _)| label).collect(),
                )),
            },
            RowKind::Tokens => Ok(Annotation::Tokens(integers)),
            RowKind::Map => {
                let &[height, width] = self.row_shape() else {
                    return Err(expected("a class map has height and width"));
                };
                let size = u32::try_from(height).ok().zip(u32::try_from(width).ok());
                let classes = integers.into_iter().map(class).collect::<Result<Vec<u32>, _>>()?;
                let map = size.and_then(|(height, width)| ClassMap::pack(height, width, classes.into_iter()));
                map.map(Annotation::Mask).ok_or_else(|| expected("a class map has height and width"))
            }
        }
    }

    fn values(&self, row: &[u8]) -> Result<Vec<f32>, String> {
        if let Some(at) = self.first_not_finite(row) {
            return Err(format!("element {at} is not a finite number"));
        }
        if self.element == ElementType::F32 {
            return Ok(row.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect());
        }
        let values: Vec<f32> = row.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect();
        let is_finite = values.iter().all(|value| value.is_finite());
        if is_finite { Ok(values) } else { Err("it exceeds 32-bit floats".to_owned()) }
    }

    fn integers(&self, row: &[u8]) -> Result<Vec<i64>, String> {
        Ok(match self.element {
            ElementType::U8 => row.iter().map(|&byte| byte.into()).collect(),
            ElementType::I8 => row.iter().map(|&byte| byte.cast_signed().into()).collect(),
            ElementType::I32 => row.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect(),
            ElementType::I64 => row.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
            ElementType::F32 | ElementType::F64 => {
                return Err("integers are needed, but the array holds floats".to_owned());
            }
        })
    }
}

/// What the rows of an array stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowKind {
    /// One integer: a class label. Floats: target values.
    Plain,
    /// 0 or 1 for every class.
    Flags,
    /// Token ids.
    Tokens,
    /// A class map.
    Map,
}

impl RowKind {
    /// What an annotation of a kind is stored as; `None` for kinds no array holds.
    pub(super) fn of(truth: Truth) -> Option<RowKind> {
        match truth {
            Truth::None | Truth::Label | Truth::Values => Some(RowKind::Plain),
            Truth::Labels => Some(RowKind::Flags),
            Truth::Tokens => Some(RowKind::Tokens),
            Truth::Mask => Some(RowKind::Map),
            Truth::Text | Truth::Boxes => None,
        }
    }
}

impl Bytes {
    fn read_exact_at(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            Bytes::File(file) => file.read_exact_at(out, at),
            Bytes::Memory(bytes) => {
                let start = usize::try_from(at).ok().filter(|start| *start <= bytes.len());
                start.map_or(&[][..], |start| &bytes[start..]).read_exact(out)
            }
        }
    }

    /// The header's text and its length in bytes, with what stands before it.
    fn header(&self, first: u64) -> io::Result<HeaderText> {
        match self {
            Bytes::File(file) => {
                let mut file = file;
                file.seek(SeekFrom::Start(first))?;
                read_header(&mut file)
            }
            Bytes::Memory(bytes) => read_header(&mut bytes.as_slice()),
        }
    }
}

type HeaderText = Result<(String, u64), String>;

/// The header's text and where the elements begin.
fn read_header(file: &mut impl Read) -> io::Result<HeaderText> {
    let mut start = Vec::new();
    file.by_ref().take(8).read_to_end(&mut start)?;
    let [0x93, b'N', b'U', b'M', b'P', b'Y', major, _] = start[..] else {
        return Ok(Err("it is no .npy file; write it with numpy.save".to_owned()));
    };
    let length_bytes = match major {
        1 => 2,
        2 | 3 => 4,
        _ => return Ok(Err(format!("format version {major} is unknown; versions 1 to 3 are read"))),
    };
    let mut length = Vec::new();
    file.by_ref().take(length_bytes).read_to_end(&mut length)?;
    let header_bytes = length.iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte));
    if length.len() as u64 != length_bytes || header_bytes > MAX_HEADER_BYTES {
        return Ok(Err(format!("its header announces {header_bytes} bytes; at most {MAX_HEADER_BYTES} are read")));
    }
    let mut text = Vec::new();
    file.by_ref().take(header_bytes as u64).read_to_end(&mut text)?;
    let start = 8 + length_bytes + header_bytes as u64;
    Ok(match String::from_utf8(text) {
        Ok(text) if text.len() == header_bytes => Ok((text, start)),
        _ => Err("its header is cut off or is no text; save it again".to_owned()),
    })
}

struct Header {
    element: ElementType,
    shape: Vec<usize>,
}

impl Header {
    /// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, keys in any order.
    fn parse(text: &str) -> Result<Header, String> {
        let refuse = || format!("its header `{}` is not understood; save it again with numpy.save", text.trim());
        let value = |key: &str| {
            let (_, rest) = text.split_once(&format!("'{key}'"))?;
            Some(rest.trim_start().strip_prefix(':')?.trim_start())
        };
        let descriptor = value("descr").ok_or_else(refuse)?;
        let Some((descriptor, _)) = descriptor.strip_prefix('\'').and_then(|rest| rest.split_once('\'')) else {
            return Err("it holds records of several fields; save each field as its own array".to_owned());
        };
        let element = match descriptor {
            "|u1" | "|b1" => ElementType::U8,
            "|i1" => ElementType::I8,
            "<i4" => ElementType::I32,
            "<i8" => ElementType::I64,
            "<f4" => ElementType::F32,
            "<f8" => ElementType::F64,
            other => {
                return Err(format!(
                    "elements of type `{other}` are not read; convert it with astype to uint8, int8, int32, int64, float32 \
                     or float64 (little-endian)"
                ));
            }
        };
        let order = value("fortran_order").ok_or_else(refuse)?;
        if order.starts_with("True") {
            return Err("it is stored in Fortran order; save numpy.ascontiguousarray(array)".to_owned());
        }
        if !order.starts_with("False") {
            return Err(refuse());
        }
        let shape = value("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).ok_or_else(refuse)?.0;
        let axes = shape.split(',').map(str::trim).filter(|axis| !axis.is_empty());
        let shape: Vec<usize> = axes.map(|axis| axis.parse().map_err(|_| refuse())).collect::<Result<_, _>>()?;
        if shape.len() > MAX_RANK {
            return Err(format!("it has {} axes; at most {MAX_RANK} are possible", shape.len()));
        }
        Ok(Header { element, shape })
    }
}
